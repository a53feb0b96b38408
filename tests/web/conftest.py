"""A small reviewed file: three photographs, masks that halfmask filled, one of a
person's, and more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

HEIGHT, WIDTH = 48, 64


def rectangle(x: int, y: int, width: int, height: int) -> dict[str, Any]:
    """COCO's uncompressed RLE of a rectangle on the 64 × 48 photographs."""
    counts = [x * HEIGHT + y]
    for column in range(width):
        counts += [height, HEIGHT - height if column < width - 1 else 0]
    counts[-1] = HEIGHT * WIDTH - sum(counts)
    return {"size": [HEIGHT, WIDTH], "counts": counts}


def filled(
    number: int,
    score: object = 0.5,
    image: int = 1,
    category: int = 2,
    state: str = "filled",
    **more: Any,
) -> dict[str, Any]:
    """An annotation that halfmask filled."""
    note = {"model": "m@1", "score": score, "state": state}
    box = [4 + number, 5, 20, 30]
    row = {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "iscrowd": 0,
        "area": 600,
    }
    return (
        row
        | {"segmentation": rectangle(4 + number, 5, 20, 30), "halfmask": note, "kept": "ä"}
        | more
    )


def annotations() -> list[dict[str, Any]]:
    own = {
        "id": 7,
        "image_id": 1,
        "category_id": 5,
        "bbox": [1, 1, 9, 9],
        "iscrowd": 0,
        "segmentation": [[1, 1, 9, 2, 5, 9]],
    }
    return [
        filled(1, 0.9),
        filled(2, 0.3, category=5),
        own,
        filled(3, 0.6, image=2),
        filled(4, 0.1, image=3, category=5),
        filled(5, 0.7, image=3),
    ]


@dataclass(frozen=True)
class Case:
    """A file on disk and its folder of photographs."""

    folder: Path
    data: Path
    photos: Path
    journal: Path
    out: Path


@pytest.fixture
def case(tmp_path: Path) -> Callable[..., Case]:
    """Writes the file; `rows` replaces its annotations, `changes` its other keys."""

    def write(rows: list[Any] | None = None, **changes: Any) -> Case:
        photos = tmp_path / "photos"
        photos.mkdir(exist_ok=True)
        rng = np.random.default_rng(0)
        for i in (1, 2, 3):
            Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(
                photos / f"{i}.jpg"
            )
        document = {
            "info": {"description": "ü"},
            "images": [
                {"id": i, "file_name": f"{i}.jpg", "height": HEIGHT, "width": WIDTH}
                for i in (1, 2, 3)
            ],
            "annotations": annotations() if rows is None else rows,
            "categories": [{"id": 5, "name": "dog"}, {"id": 2, "name": "cät"}],
        }
        data = tmp_path / "filled.json"
        data.write_text(json.dumps(document | changes, ensure_ascii=False), encoding="utf-8")
        return Case(
            tmp_path,
            data,
            photos,
            tmp_path / "filled.json.review.jsonl",
            tmp_path / "out" / "reviewed.json",
        )

    return write


@pytest.fixture
def open_review(tiny_segmenter: Path) -> Iterator[Callable[[Case], Any]]:
    """Opens a review of a case; closed at the end of the test."""
    from halfmask.web.review.review import Review
    from halfmask.web.segmenting import Segmenter

    opened = []

    def start(of: Case) -> Review:
        segmenter = Segmenter(str(tiny_segmenter), device="cpu")
        opened.append(Review(of.data, segmenter, images=of.photos, journal=of.journal, out=of.out))
        return opened[-1]

    yield start
    for review in opened:
        review.close()


from .browser import chromium, served, visit  # noqa: E402, F401 - fixtures of every test here
