"""A generated COCO file of any number of annotations, written while it is generated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfmask.coco.stream import CocoStream

CLASSES = 80
ANNOTATIONS_AN_IMAGE = 7
"""About as many as COCO has."""
HEIGHT, WIDTH = 480, 640
CORNERS = 16
MASKS = 0.5
"""Share of annotations that have a polygon; the rest have a box alone."""
BATCH = 20_000


def write_annotations(
    path: Path, annotations: int, seed: int = 0, say: Callable[[int], None] = lambda _: None
) -> int:
    """Writes a COCO instances file whose annotations come in no order of their images,
    as COCO's own do.

    Args:
        annotations: how many.
        say: called with each line of progress.
    Returns:
        How many images it has.
    """
    rng = np.random.default_rng(seed)
    images = images_of(annotations)
    categories = [{"id": k, "name": f"class {k}"} for k in range(1, CLASSES + 1)]
    records = (
        {"id": k, "file_name": f"{k:012d}.jpg", "height": HEIGHT, "width": WIDTH}
        for k in range(1, images + 1)
    )
    with CocoStream(
        path, {"info": {"description": "generated"}, "categories": categories}, records
    ) as stream:
        for first in range(0, annotations, BATCH):
            for record in _records(rng, first + 1, min(BATCH, annotations - first), images):
                stream.add(record)
            say(min(first + BATCH, annotations))
    return images


def images_of(annotations: int) -> int:
    """Returns how many images such a file has."""
    return max(1, annotations // ANNOTATIONS_AN_IMAGE)


def _records(rng: np.random.Generator, first: int, count: int, images: int) -> list[dict[str, Any]]:
    sides = np.exp(rng.uniform(np.log(8), np.log(320), (count, 2)))
    corner = rng.uniform(0, 1, (count, 2)) * ([WIDTH, HEIGHT] - sides)
    boxes = np.concatenate([corner, sides], 1).round(2)
    columns = (
        rng.integers(1, images + 1, count).tolist(),
        rng.integers(1, CLASSES + 1, count).tolist(),
        boxes.tolist(),
        (sides.prod(1) * 0.7).round(2).tolist(),
        _outlines(rng, boxes).tolist(),
        (rng.random(count) < MASKS).tolist(),
    )
    records = []
    for number, (image, category, box, area, outline, masked) in enumerate(
        zip(*columns, strict=True), first
    ):
        record = {
            "id": number,
            "image_id": image,
            "category_id": category,
            "bbox": box,
            "area": area,
            "iscrowd": 0,
        }
        records.append(record | {"segmentation": [outline]} if masked else record)
    return records


def _outlines(rng: np.random.Generator, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """[n, 2 · CORNERS] x, y in turn: uneven ellipses in the boxes."""
    turn = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    reach = rng.uniform(0.75, 1.0, (len(boxes), CORNERS))
    x = boxes[:, :1] + boxes[:, 2:3] / 2 * (1 + reach * np.cos(turn))
    y = boxes[:, 1:2] + boxes[:, 3:4] / 2 * (1 + reach * np.sin(turn))
    return np.stack([x, y], 2).reshape(len(boxes), 2 * CORNERS).round(2)
