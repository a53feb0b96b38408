"""A small world whose detections are known to the pixel."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from halfmask.structures import Detection

torch.set_num_threads(1)

HEIGHT, WIDTH = 120, 160
CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 11, "name": "sofa"}]
LABEL = {3: 1, 7: 2, 11: 3}


def make_detection(
    boxes: list[list[float]],
    categories: list[int],
    scores: list[float] | None = None,
    shape: str = "ellipse",
) -> Detection:
    """Detections whose masks are ellipses in their boxes, `full` boxes or `empty`."""
    n, size = len(boxes), 28
    at = (torch.arange(size) + 0.5) / size * 2 - 1
    drawn = {
        "ellipse": (at[:, None] ** 2 + at[None] ** 2 <= 1).float(),
        "full": torch.ones(size, size),
        "empty": torch.zeros(size, size),
    }[shape]
    place = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Detection(
        boxes=place,
        labels=torch.tensor([LABEL[c] for c in categories], dtype=torch.int64),
        scores=torch.tensor(scores if scores is not None else [1.0] * n, dtype=torch.float32),
        mask_probs=drawn.expand(n, size, size).clone(),
        regions=place,
        quality=torch.ones(n),
        image_size=(HEIGHT, WIDTH),
    )


def make_annotation(
    number: int, image_id: int, category: int, box: list[float], **changes: Any
) -> dict[str, Any]:
    """An annotation whose mask is the ellipse in its box xyxy, as `make_detection`
    draws it; a change to None removes the key.
    """
    x0, y0, x1, y1 = box
    drawn = make_detection([box], [category])
    annotation: dict[str, Any] = {
        "id": number,
        "image_id": image_id,
        "category_id": category,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": float(drawn.crops().areas()[0]),
        "iscrowd": 0,
        "segmentation": drawn.rle()[0],
    } | changes
    return {key: value for key, value in annotation.items() if value is not None}


def make_document(annotations: list[dict[str, Any]], images: int = 2) -> dict[str, Any]:
    records = [
        {"id": i + 1, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH}
        for i in range(images)
    ]
    return {
        "images": records,
        "annotations": annotations,
        "categories": [dict(c) for c in CATEGORIES],
    }


@pytest.fixture
def detection() -> Callable[..., Detection]:
    return make_detection


@pytest.fixture
def annotation() -> Callable[..., dict[str, Any]]:
    return make_annotation


@pytest.fixture
def document() -> Callable[..., dict[str, Any]]:
    return make_document
