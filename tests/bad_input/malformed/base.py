"""The sound file that the table of malformed files spoils, one fault at a time, and its
photographs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 48, 64
UNDER_TEST, BESIDE = 7, 8
"""Annotation ids in image 1: the one that is spoiled, which has a mask, and one that has none."""
BOX = [4, 5, 20, 30]
OUTLINE = [4, 5, 24, 5, 14, 35]

Document = dict[str, Any]
Teaches = Literal["box and mask", "box", "nothing", "unread"]


@dataclass(frozen=True)
class State:
    """A way in which a COCO data set can be wrong.

    Attributes:
        title: as the table says it.
        spoil: changes the document; the folder is that of the photographs.
        teaches: what training still learns from the spoiled annotation (`unread`: the
            whole file is refused).
        found: the kind of finding by which doctor must report it; None: nothing to
            report, or the file is refused.
        text: changes the JSON text of the document, or None.
    """

    title: str
    spoil: Callable[[Document, Path], object] = lambda _document, _photographs: None
    teaches: Teaches = "box and mask"
    found: str | None = None
    text: Callable[[bytes], bytes] | None = None


def sound() -> Document:
    """Three photographs, five annotations: three masks of cats, two dogs with boxes only."""
    rows = [
        _row(UNDER_TEST, 1, 1, segmentation=[list(OUTLINE)]),
        _row(BESIDE, 1, 2),
        _row(1, 2, 1, segmentation=[list(OUTLINE)]),
        _row(2, 2, 2),
        _row(3, 3, 1, segmentation=[list(OUTLINE)]),
    ]
    for row in (rows[1], rows[3]):
        row["bbox"] = [30, 10, 25, 30]
    images = [
        {"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in (1, 2, 3)
    ]
    return {
        "images": images,
        "annotations": rows,
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }


def annotation(document: Document) -> dict[str, Any]:
    """The one under test."""
    return document["annotations"][0]  # type: ignore[no-any-return]


def pixels(seed: int = 1) -> np.ndarray[Any, Any]:
    """A photograph of coloured noise, unlike any other seed's."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return small.repeat(8, axis=0).repeat(8, axis=1)


@dataclass(frozen=True)
class DataSet:
    """A malformed data set on disk, and its first annotation, the one under test, as JSON value."""

    data: Path
    images: Path
    first: Any


def build(state: State, folder: Path) -> DataSet:
    """Writes the data set of a state below `folder`."""
    photographs = folder / "photographs"
    photographs.mkdir(parents=True)
    for number in (1, 2, 3):
        Image.fromarray(pixels(number)).save(photographs / f"{number}.png")
    document = sound()
    state.spoil(document, photographs)
    text = json.dumps(document).encode()
    data = folder / "data.json"
    data.write_bytes(text if state.text is None else state.text(text))
    return DataSet(data, photographs, next(iter(document.get("annotations", [])), None))


def _row(number: int, image: int, category: int, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": list(BOX),
        "area": 300,
        "iscrowd": 0,
        **more,
    }
