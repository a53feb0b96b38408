"""Finds pairs of annotations that seem to be of one object, often under two labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from halfmask.coco.boxes import clip_box
from halfmask.coco.problems import Problem, ProblemKind
from halfmask.coco.supervision import MaskState
from halfmask.masks.rle import overlap

if TYPE_CHECKING:
    from halfmask.coco.annotations import CocoFile

SAME_MASK = 0.7
"""IoU of two masks above which they are reported."""
SAME_BOX = 0.95
"""IoU of two boxes above which they are reported where a mask is missing. Boxes are no proof: a child on a chair shares its box."""
_WORTH_A_LOOK = 0.4  # masks so alike that they pass SAME_MASK have boxes far more alike than this


def near_duplicates(file: CocoFile, image_id: int) -> Iterator[Problem]:
    """One finding for each pair of an image; crowds and exact copies (same class and box) are left out."""
    size = file.size_of(image_id)
    both = zip(file.annotations_of(image_id), file.states_of(image_id), strict=True)
    rows = [(annotation, state) for annotation, state in both if state != MaskState.CROWD]
    for i, j in _alike([annotation["bbox"] for annotation, _ in rows], size):
        (first, first_state), (second, second_state) = rows[i], rows[j]
        if first["bbox"] == second["bbox"] and first["category_id"] == second["category_id"]:
            continue
        masked = first_state == second_state == MaskState.MASK
        what, limit = ("masks", SAME_MASK) if masked else ("boxes", SAME_BOX)
        value = overlap(first["segmentation"], second["segmentation"], size) if masked else _iou(first, second, size)
        if value > limit:
            labels = f"{file.name_of(first['category_id'])} and {file.name_of(second['category_id'])}"
            message = f"annotations {first['id']} and {second['id']} ({labels}): their {what} have IoU {value:.2f}"
            yield Problem(ProblemKind.NEAR_DUPLICATE, (first["id"], second["id"]), message)


def _alike(bboxes: list[Any], size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Pairs of rows whose boxes overlap enough to be worth a look."""
    if len(bboxes) < 2:
        return
    boxes = np.array([clip_box(bbox, size) for bbox in bboxes], dtype=np.float64)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    for i, box in enumerate(boxes):
        sides = np.minimum(box[2:], boxes[i + 1 :, 2:]) - np.maximum(box[:2], boxes[i + 1 :, :2])
        both = np.prod(np.clip(sides, 0, None), axis=1)
        alike = both > _WORTH_A_LOOK * (areas[i] + areas[i + 1 :] - both)
        for j in np.flatnonzero(alike).tolist():
            yield i, i + 1 + j


def _iou(first: dict[str, Any], second: dict[str, Any], size: tuple[int, int]) -> float:
    a, b = clip_box(first["bbox"], size), clip_box(second["bbox"], size)
    assert a is not None, "its box was checked"
    assert b is not None, "its box was checked"
    both = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)
