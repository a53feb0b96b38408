"""A YOLO data set whose labels are boxes, or boxes and polygons mixed: the same data
set with a polygon for every object.

python examples/yolo_masks.py dataset/data.yaml dataset/images/train completed [train]
"""

import sys
import tempfile
from pathlib import Path

import halfmask
from halfmask.cli.main import app


def convert(*arguments):
    """`halfmask convert`, in this process; it says itself what it could not read."""
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
