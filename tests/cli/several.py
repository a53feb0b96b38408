"""One process of several that train together, for the tests.

`python several.py RECIPE=OUT[=resume] …`, started as torchrun would.
"""

from __future__ import annotations

import os
import sys

from halfmask.recipes.recipe import load_recipe
from halfmask.training.loop import callback
from halfmask.training.several.processes import join, leave, place_of
from halfmask.training.train import train


def main() -> None:
    callback.LOG_EVERY = 1
    join(place_of(os.environ))
    for argument in sys.argv[1:]:
        recipe, out, *resume = argument.split("=")
        train(load_recipe(recipe), out=out, resume=bool(resume), report=False)
    leave()


if __name__ == "__main__":
    main()
