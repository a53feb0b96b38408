"""How large the boxes and masks of a file are, by COCO's limits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfmask.coco.file import CocoFile
from halfmask.coco.records import clip_box
from halfmask.coco.supervision import MaskState
from halfmask.masks.rle import area_of

SMALL, LARGE = 32**2, 96**2
"""COCO's limits between S, M and L, square pixels."""


def sizes(file: CocoFile) -> dict[str, Any]:
    """Returns the sizes of all boxes (clipped to their image) and all usable masks.

    Crowds are left out. See `size_table`.
    """
    boxes: list[float] = []
    masks: list[int] = []
    fills: list[float] = []
    for image, annotation, state in file.rows():
        size = file.size_of(image["id"])
        box = clip_box(annotation["bbox"], size)
        if state == MaskState.CROWD or box is None:
            continue
        boxes.append((box[2] - box[0]) * (box[3] - box[1]))
        if state == MaskState.MASK:
            masks.append(area_of(annotation["segmentation"], size))
            fills.append(masks[-1] / boxes[-1])
    return size_table(np.array(boxes), np.array(masks, dtype=np.int64), np.array(fills))


def size_table(
    boxes: NDArray[np.float64], masks: NDArray[np.int64], fills: NDArray[np.float64]
) -> dict[str, Any]:
    """Returns how many boxes and masks are small, medium and large.

    Args:
        boxes: areas of all boxes, square pixels.
        masks: pixels of all masks.
        fills: share of its box that each mask covers.
    Returns:
        `boxes` and `masks`: `count`; `S`, `M`, `L`, the number of each of COCO's sizes;
            `median_area`, square pixels; for masks also `fill`, the median share of its
            box that a mask covers. Medians of nothing are null.
    """
    return {"boxes": _block(boxes), "masks": _block(masks) | {"fill": _median(fills)}}


def _block(areas: NDArray[Any]) -> dict[str, Any]:
    small, large = int((areas < SMALL).sum()), int((areas >= LARGE).sum())
    return {
        "count": len(areas),
        "S": small,
        "M": len(areas) - small - large,
        "L": large,
        "median_area": _median(areas),
    }


def _median(values: NDArray[Any]) -> Any:
    """Returns what `statistics.median` does, None of nothing."""
    count = len(values)
    if not count:
        return None
    first, second = (count - 1) // 2, count // 2
    ordered = np.partition(values, [first, second])
    low, high = ordered[first].item(), ordered[second].item()
    return low if count % 2 else (low + high) / 2
