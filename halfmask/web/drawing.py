"""Masks that people draw and boxes that they drag, as the journal keeps them."""

from __future__ import annotations

import math
from typing import Any

from halfmask.errors import InputError
from halfmask.masks.rle import area_of, box_of, compressed, fault_of_rle
from halfmask.web import schema

Mask = dict[str, Any]
"""segmentation, area and, if a model drew it, model, score and box."""
XYWH = tuple[float, float, float, float]
Size = tuple[int, int]


def drawn_by_hand(runs: schema.Runs, size: Size) -> Mask:
    """Returns a drawn mask as the journal keeps it.

    Raises:
        InputError: it has another size than the photograph, or no pixel.
    """
    rle = {"size": list(runs.size), "counts": runs.counts}
    if fault := fault_of_rle(rle, size):
        raise InputError(f"the drawn mask cannot be used: {fault}")
    return {"segmentation": compressed(rle, size), "area": area_of(rle, size)}


def mask_box(mask: Mask, size: Size) -> XYWH | None:
    """Returns a mask's own box x, y, width, height."""
    found = box_of(mask["segmentation"], size)
    if found is None:
        return None
    x, y, width, height = schema.xywh(*found)
    return x, y, width, height


def left_box(mask: Mask, box: XYWH, size: Size) -> XYWH | None:
    """Returns a mask's own box if a pixel of it lies outside a box; else None."""
    own = mask_box(mask, size)
    if own is None:
        return None
    ends = own[0] + own[2], own[1] + own[3]
    is_inside = (
        own[0] >= math.floor(box[0])
        and own[1] >= math.floor(box[1])
        and ends[0] <= math.ceil(box[0] + box[2])
        and ends[1] <= math.ceil(box[1] + box[3])
    )
    return None if is_inside else own


def inside(box: XYWH, size: Size) -> XYWH:
    """Returns the part of a box on a photograph (H, W), to a hundredth of a pixel.

    Raises:
        InputError: it lies outside.
    """
    x0, y0 = max(box[0], 0.0), max(box[1], 0.0)
    x1, y1 = min(box[0] + box[2], float(size[1])), min(box[1] + box[3], float(size[0]))
    x, y, width, height = (round(v, 2) for v in (x0, y0, x1 - x0, y1 - y0))
    if width <= 0 or height <= 0:
        raise InputError("the box lies outside the photograph")
    return x, y, width, height
