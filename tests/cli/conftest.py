"""A small data set for the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three photographs, 1.jpg … 3.jpg, 64 × 48."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in (1, 2, 3):
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(folder / f"{i}.jpg")
    return folder


@pytest.fixture
def coco_file(photos: Path) -> Callable[..., Path]:
    """Writes a COCO file of these photographs: two masked cats, a dog and an owl
    without masks in each; `changes` replaces its keys.
    """

    def write(**changes: Any) -> Path:
        rows = []
        for image in (1, 2, 3):
            for k, category in enumerate([2, 2, 5, 9]):
                x, y = 5 + 8 * k, 4 + 2 * k
                row = {
                    "id": len(rows) + 1,
                    "image_id": image,
                    "category_id": category,
                    "bbox": [x, y, 24, 30],
                    "iscrowd": 0,
                }
                if category == 2:
                    row |= {"segmentation": [[x, y, x + 24, y + 8, x + 12, y + 30]], "area": 312}
                rows.append(row)
        document = {
            "images": [
                {"id": i, "file_name": f"{i}.jpg", "height": 48, "width": 64} for i in (1, 2, 3)
            ],
            "annotations": rows,
            "categories": [
                {"id": 2, "name": "cat"},
                {"id": 5, "name": "dog"},
                {"id": 9, "name": "owl"},
            ],
        }
        path = photos.parent / "data.json"
        path.write_text(json.dumps(document | changes))
        return path

    return write
