"""A COCO file with every kind of annotation, its photographs, and `convert`."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from halfmask.formats import convert as formats
from halfmask.formats.registry import READERS
from halfmask.formats.report import ConversionReport
from halfmask.masks.rle import rle_of

HEIGHT, WIDTH = 60, 80


@dataclass(frozen=True)
class Done:
    """A conversion: its report and, into COCO, the document."""

    report: ConversionReport
    document: dict[str, Any]
    summary: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        return list(self.document["annotations"])

    def count_of(self, words: str) -> int:
        """Returns the count of the sentences that begin with some words."""
        counts = {**self.report.faults, **self.report.notes}
        return sum(count for what, count in counts.items() if what.startswith(words))


Convert = Callable[..., Done]


@pytest.fixture
def convert(tmp_path: Path) -> Convert:
    """`convert(FORMAT, SRC, OUT, **options)`; OUT has a default."""

    def run(form: str, source: Path, out: Path | None = None, **options: Any) -> Done:
        out = out or tmp_path / f"{form}.json"
        done = formats.convert(form, source, out, **options)
        document = json.loads(out.read_text(encoding="utf-8")) if form in READERS else {}
        return Done(done.report, document, done.summary)

    return run


def ring(h: int, w: int) -> np.ndarray[Any, Any]:
    """A frame two pixels wide: a mask with a hole."""
    bitmap = np.ones((h, w), dtype=np.uint8)
    bitmap[2:-2, 2:-2] = 0
    return bitmap


def every_kind() -> dict[str, Any]:
    """Two images of 80 × 60 and three classes; the tests refer to annotations by id."""
    size = (HEIGHT, WIDTH)
    hole = rle_of(ring(20, 24), (50, 30), size)
    square = rle_of(np.ones((6, 8), dtype=np.uint8), (30, 40), size)
    note = {"model": "m 1", "score": 0.75, "state": "filled"}
    parts = [[40.0, 4.0, 50.0, 4.0, 50.0, 14.0], [60.5, 20.0, 70.0, 14.0, 70.0, 24.0]]
    rows = [
        _row(1, 1, 7, [4.25, 5.5, 20, 18], segmentation=[[4.25, 5.5, 24.25, 5.5, 14.0, 23.5]]),
        _row(2, 1, 3, [40, 4, 30, 20], segmentation=parts),
        _row(3, 1, 3, [50, 30, 24, 20], segmentation=hole),
        _row(4, 1, 7, [10.5, 30.25, 12, 9]),
        _row(5, 1, 7, [2, 45, 10, 10], segmentation=[[2, 45, 12, 45, 12, 55, 2, 55]]),
        _row(6, 2, 3, [30, 40, 8, 6], segmentation=square, halfmask=note),
        _row(
            7,
            2,
            3,
            [10, 10, 8, 6],
            segmentation=[[10, 10, 18, 10, 14, 16]],
            halfmask={**note, "state": "rejected"},
        ),
        _row(8, 2, 7, [0, 0, 10, 10], segmentation={"size": [60, 80], "counts": "broken"}),
        _row(9, 2, 7, [50, 5, 25, 30], segmentation=[[55, 10, 70, 10, 62, 28]]),
        _row(
            10,
            2,
            5,
            [20, 20, 40, 10],
            segmentation=rle_of(np.ones((10, 40)), (20, 20), size),
            iscrowd=1,
        ),
    ]
    return {
        "images": [
            {"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT},
            {"id": 2, "file_name": "sub/b.png", "width": WIDTH, "height": HEIGHT},
        ],
        "categories": [
            {"id": 3, "name": "cat"},
            {"id": 5, "name": "dog"},
            {"id": 7, "name": "traffic light"},
        ],
        "annotations": rows,
    }


def _row(number: int, image: int, category: int, bbox: list[float], **more: Any) -> dict[str, Any]:
    area = bbox[2] * bbox[3]
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": bbox,
        "area": area,
        "iscrowd": 0,
        **more,
    }


@pytest.fixture
def kinds() -> dict[str, Any]:
    return every_kind()


@pytest.fixture
def kinds_file(tmp_path: Path, kinds: dict[str, Any]) -> Path:
    path = tmp_path / "kinds.json"
    path.write_text(json.dumps(kinds))
    return path


@pytest.fixture
def kinds_photos(tmp_path: Path) -> Path:
    """a.png and sub/b.png."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/b.png"):
        Image.new("RGB", (WIDTH, HEIGHT), (90, 120, 30)).save(folder / name)
    return folder
