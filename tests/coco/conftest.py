"""A small COCO file that the tests of this room bend."""

from typing import Any

import pytest


@pytest.fixture
def document() -> dict[str, Any]:
    """Two images of 40 × 30 (W × H), two classes, four annotations: polygon, no mask,
    uncompressed RLE, crowd.
    """
    triangle = [2.0, 3.0, 20.0, 3.0, 11.0, 21.0]
    block = [305, *[10, 20] * 7, 10, 675]  # x 10 … 18, y 5 … 15
    crowd = {"size": [30, 40], "counts": [0, 60, 1140]}
    return {
        "info": {"about": "a test"},
        "images": [
            {"id": 1, "file_name": "a.png", "width": 40, "height": 30},
            {"id": 2, "file_name": "b.png", "width": 40, "height": 30},
        ],
        "categories": [{"id": 7, "name": "cup"}, {"id": 3, "name": "dog"}],
        "annotations": [
            _annotation(10, 1, 3, [2.0, 3.0, 18.0, 18.0], segmentation=[triangle], area=162.0),
            _annotation(11, 1, 7, [1.5, 2.5, 12.0, 9.0], area=108.0),
            _annotation(
                12, 2, 7, [10, 5, 8, 10], segmentation={"size": [30, 40], "counts": block}, area=80
            ),
            _annotation(13, 2, 3, [0, 0, 2, 30], segmentation=crowd, area=60, iscrowd=1),
        ],
    }


def _annotation(
    number: int, image: int, category: int, bbox: list[float], **more: Any
) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": bbox,
        "iscrowd": 0,
        **more,
    }
