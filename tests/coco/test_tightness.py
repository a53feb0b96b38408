"""Whether a file's boxes end where its objects do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfmask.coco.file import CocoFile
from halfmask.coco.tightness import LOOSE_BELOW, box_tightness, boxes_are_loose
from halfmask.masks.rle import box_iou


def file(
    boxes: list[list[float]], masked: list[bool], categories: list[int] | None = None
) -> CocoFile:
    """Squares from (10, 10) to (30, 30), in boxes of their own."""
    rows: list[dict[str, Any]] = []
    for k, (box, has_mask) in enumerate(zip(boxes, masked, strict=True)):
        row: dict[str, Any] = {
            "id": k + 1,
            "image_id": 1,
            "category_id": (categories or [1] * 9)[k],
            "bbox": box,
            "iscrowd": 0,
        }
        if has_mask:
            row["segmentation"] = [[10, 10, 30, 10, 30, 30, 20, 30, 10, 30]]
        rows.append(row)
    document = {
        "images": [{"id": 1, "file_name": "1.jpg", "height": 50, "width": 50}],
        "annotations": rows,
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    return CocoFile.from_document(document, "test.json")


def test_the_mean_over_masked_objects() -> None:
    # The polygon repeats a tight box, and so is suspect: it is not counted as a mask.
    loose, looser = [10.0, 10, 25, 20], [10.0, 10, 40, 20]
    assert box_tightness(file([loose, looser], [True, True])) == pytest.approx(
        (20 / 25 + 20 / 40) / 2, abs=0.02
    )
    assert box_tightness(file([loose, looser], [True, False])) == pytest.approx(20 / 25, abs=0.02)
    assert box_tightness(file([loose, looser], [False, False])) is None
    assert box_tightness(file([loose, looser], [True, True], [1, 2]), classes={2}) == pytest.approx(
        0.5, abs=0.02
    )
    assert box_tightness(file([], [])) is None


def test_small_objects_say_nothing() -> None:
    """A mask's own box ends at pixels' borders: five pixels wide, it agrees with no box well."""
    row = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10.4, 10.4, 5, 5], "iscrowd": 0}
    row["segmentation"] = [[10.4, 10.4, 15.4, 10.4, 15.4, 15.4, 12, 15.4]]
    image = {"id": 1, "file_name": "1.jpg", "height": 50, "width": 50}
    document = {"images": [image], "annotations": [row], "categories": [{"id": 1, "name": "cat"}]}
    assert box_tightness(CocoFile.from_document(document, "test.json")) is None


def test_what_is_not_known_is_taken_for_tight() -> None:
    assert not boxes_are_loose(None)
    assert not boxes_are_loose(LOOSE_BELOW)
    assert boxes_are_loose(LOOSE_BELOW - 0.01)


SIDES = st.floats(0.5, 50)


@given(st.floats(-20, 20), st.floats(-20, 20), SIDES, SIDES, SIDES, SIDES)
def test_box_iou(x: float, y: float, w: float, h: float, v: float, u: float) -> None:
    one, other = (0.0, 0.0, w, h), (x, y, x + v, y + u)
    value = box_iou(one, other)
    assert 0 <= value <= 1 + 1e-9
    assert value == pytest.approx(box_iou(other, one))
    assert box_iou(one, one) == pytest.approx(1)
