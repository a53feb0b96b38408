"""A generated data set of COCO's size with detections: truth as polygons and RLE,
detections as RLE, images one after another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import hotcoco.mask as rle_library
import numpy as np
from numpy.typing import NDArray

Record = dict[str, Any]
Numbers = NDArray[np.float64]

CLASSES = 80
HEIGHT, WIDTH = 480, 640
CORNERS = 24
CROWDS = 0.02
"""Share of crowds among the truth."""


@dataclass(frozen=True)
class ImageRecords:
    """One image: its record, annotations, and detections as COCO results (bbox and
    segmentation, best first).
    """

    image: Record
    truth: list[Record]
    found: list[Record]


def categories() -> list[Record]:
    return [{"id": k, "name": f"class {k}"} for k in range(1, CLASSES + 1)]


def made_up_images(
    images: int, truth: int, detections: int, seed: int = 0
) -> Iterator[ImageRecords]:
    """Images of 640 × 480 with round objects of COCO's sizes, most of them found once,
    some several times, and much besides.

    Args:
        images: how many.
        truth: annotations in all; their number differs from image to image.
        detections: in all, an equal number for each image.
    """
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(truth, rng.dirichlet(np.full(images, 1.5)))
    number = 1
    for index in range(images):
        boxes = _boxes(rng, int(counts[index]))
        classes = rng.integers(1, CLASSES + 1, len(boxes))
        annotations = _annotations(rng, index + 1, number, boxes, classes)
        number += len(boxes)
        found = _found(rng, index + 1, boxes, classes, detections // images)
        yield ImageRecords({"id": index + 1, "height": HEIGHT, "width": WIDTH}, annotations, found)


def _boxes(rng: np.random.Generator, count: int) -> Numbers:
    """xywh: sides spread over three octaves and more, as COCO's are."""
    sides = np.exp(rng.uniform(np.log(8), np.log(320), (count, 1))) * rng.uniform(
        0.6, 1.4, (count, 2)
    )
    sides = np.minimum(sides, [WIDTH * 0.95, HEIGHT * 0.95])
    corner = rng.uniform(0, 1, (count, 2)) * ([WIDTH, HEIGHT] - sides)
    return np.concatenate([corner, sides], 1).round(2)


def _outlines(rng: np.random.Generator, boxes: Numbers) -> Numbers:
    """[n, 2 · CORNERS] x, y in turn: uneven ellipses in the boxes."""
    turn = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    reach = rng.uniform(0.75, 1.0, (len(boxes), CORNERS))
    x = boxes[:, :1] + boxes[:, 2:3] / 2 * (1 + reach * np.cos(turn))
    y = boxes[:, 1:2] + boxes[:, 3:4] / 2 * (1 + reach * np.sin(turn))
    return np.stack([x, y], 2).reshape(len(boxes), 2 * CORNERS).round(2)


def _rles(outlines: Numbers) -> list[Record]:
    found = rle_library.frPyObjects(outlines.tolist(), HEIGHT, WIDTH) if len(outlines) else []
    return [{"size": [HEIGHT, WIDTH], "counts": _text(rle["counts"])} for rle in found]


def _text(counts: str | bytes) -> str:
    return counts.decode("ascii") if isinstance(counts, bytes) else counts


def _annotations(
    rng: np.random.Generator, image_id: int, first: int, boxes: Numbers, classes: NDArray[np.int64]
) -> list[Record]:
    outlines = _outlines(rng, boxes)
    crowd = rng.random(len(boxes)) < CROWDS
    rles = _rles(outlines)
    areas: Any = rle_library.area(rles) if rles else []
    return [
        {
            "id": first + k,
            "image_id": image_id,
            "category_id": int(classes[k]),
            "bbox": boxes[k].tolist(),
            "area": float(areas[k]),
            "iscrowd": int(crowd[k]),
            "segmentation": rles[k] if crowd[k] else [outlines[k].tolist()],
        }
        for k in range(len(boxes))
    ]


def _found(
    rng: np.random.Generator, image_id: int, boxes: Numbers, classes: NDArray[np.int64], count: int
) -> list[Record]:
    """Objects found well, badly, twice or as another class, and boxes where nothing is."""
    chosen = rng.integers(0, len(boxes), count // 2) if len(boxes) else np.zeros(0, dtype=np.int64)
    noise = rng.choice([0.02, 0.08, 0.25], (len(chosen), 1)) * rng.normal(size=(len(chosen), 4))
    moved = boxes[chosen] + noise * np.tile(boxes[chosen][:, 2:], 2)
    said = np.where(
        rng.random(len(chosen)) < 0.85, classes[chosen], rng.integers(1, CLASSES + 1, len(chosen))
    )
    others = _boxes(rng, count - len(chosen))
    place = np.concatenate([moved, others])
    place[:, 2:] = np.maximum(place[:, 2:], 2.0)
    place = place.round(2)
    labels = np.concatenate([said, rng.integers(1, CLASSES + 1, len(others))])
    scores = np.concatenate([rng.beta(3, 2, len(chosen)), rng.beta(1, 6, len(others))]).round(3)
    order = np.argsort(-scores, kind="stable")
    rles = _rles(_outlines(rng, place))
    return [
        {
            "image_id": image_id,
            "category_id": int(labels[k]),
            "bbox": place[k].tolist(),
            "score": float(scores[k]),
            "segmentation": rles[k],
        }
        for k in order.tolist()
    ]
