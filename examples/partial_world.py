"""Shows partial supervision without any data of your own.

It draws a world, removes the masks of half of the classes, trains, and measures on both
halves. The first command takes seconds and only shows that it runs. The second has the
size of docs/world.md: pictures, then the steps of both stages.

python examples/partial_world.py OUT
python examples/partial_world.py OUT 3000 1200 400
"""

import json
import sys
from pathlib import Path

from halfmask.cli.main import app


def halfmask(*arguments):
    """Runs a command in this process."""
    if app(args=[str(a) for a in arguments], standalone_mode=False):
        sys.exit(f"halfmask {arguments[0]} found problems")


def main(out, pictures=24, detector_steps=4, head_steps=4):
    out = Path(out)
    halfmask("synth", out / "train", "--image-count", pictures, "--seed", 0)
    halfmask(
        "synth", out / "test", "--image-count", max(8, int(pictures) // 15), "--seed", 1_000_000
    )
    data = [f"data.annotations={out}/train/instances.json", f"data.images={out}/train/images"]
    steps = [f"stages.0.steps={detector_steps}", f"stages.1.steps={head_steps}"]
    small = ["stages.0.batch_size=4", "stages.1.batch_size=8"] if int(pictures) < 100 else []

    # The recipe's `data.masked` names 16 of the 32 classes. The masks of the other
    # classes are removed before anything reads them.
    halfmask("train", "world_transfer", *data, *steps, *small, "--out", out / "run")
    measured = ["--images", out / "test/images", "--given-boxes", "--json", out / "result.json"]
    halfmask("evaluate", out / "run", out / "test/instances.json", *measured)

    result = json.loads((out / "result.json").read_text())
    for half, text in (("A", "classes with masks"), ("B", "classes with boxes only")):
        print(f"{text}: mask IoU on given boxes {result['given_boxes'][half]['miou']:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
