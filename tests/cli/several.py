"""One process among several that train together, for the tests: `python several.py
RECIPE=OUT[=resume] …`, started as torchrun would.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from halfmask import distributed
from halfmask.recipes.recipe import load_recipe
from halfmask.training.loop import callback as keeper
from halfmask.training.train import train


def main() -> None:
    keeper.LOG_EVERY = 1
    distributed.join(distributed.place_of(os.environ))
    for argument in sys.argv[1:]:
        recipe, out, *resume = argument.split("=")
        train(load_recipe(recipe), Path(out), resume=bool(resume), report=False)
    distributed.leave()


if __name__ == "__main__":
    main()
