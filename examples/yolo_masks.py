"""Gives every object of a YOLO data set a polygon.

The labels may be boxes, or boxes and polygons mixed:

python examples/yolo_masks.py dataset/data.yaml dataset/images/train completed [train]
"""

import sys
import tempfile
from pathlib import Path

import halfmask
from halfmask.cli.main import app


def convert(*arguments):
    """Runs `halfmask convert` in this process. It reports what it could not read."""
    app(args=["convert", *map(str, arguments)], standalone_mode=False)


def main(source, photos, out, split=None):
    with tempfile.TemporaryDirectory() as folder:
        boxes, masks = Path(folder) / "boxes.json", Path(folder) / "masks.json"
        convert("yolo", source, boxes, *(["--split", split] if split else []))
        done = halfmask.complete("box-segmenter", boxes, images=photos, out=masks)
        print(f"{done.filled} masks drawn; mean score {done.mean_score}")
        convert("to-yolo", masks, out, "--images", photos)


if __name__ == "__main__":
    main(*sys.argv[1:])
