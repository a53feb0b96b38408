"""Boxes of COCO annotations: x, y, width, height in pixels; which can be used, and how they are clipped."""

from __future__ import annotations

import struct
from typing import Any

from halfmask.coco.problems import Finding, ProblemKind
from halfmask.coco.supervision import all_finite

Box = tuple[float, float, float, float]

_SINGLES = struct.Struct("4f")


def clip_box(bbox: object, image_size: tuple[int, int]) -> Box | None:
    """The part of a box that lies on the image, xyxy; None where nothing usable does.

    Args:
        bbox: any JSON value; usable is [x, y, width, height], finite, of positive size, touching the image.
        image_size: (H, W).
    """
    if not isinstance(bbox, list) or len(bbox) != 4 or not all_finite(bbox):
        return None
    x, y, w, h = (float(v) for v in bbox)
    height, width = image_size
    # Rounded to float32 at once, as training holds them: what vanishes there is refused here.
    corners = [
        min(max(x, 0.0), width),
        min(max(y, 0.0), height),
        max(min(x + w, width), 0.0),
        max(min(y + h, height), 0.0),
    ]
    x0, y0, x1, y1 = _SINGLES.unpack(_SINGLES.pack(*corners))
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def overhang(bbox: list[Any], image_size: tuple[int, int]) -> float:
    """By how many pixels a box of four finite numbers reaches beyond the image, on its worst side; 0 where it does not."""
    x, y, w, h = bbox
    return float(max(-x, -y, x + w - image_size[1], y + h - image_size[0], 0.0))


def fault_of_box(bbox: object, image_size: tuple[int, int]) -> Finding:
    """Why `clip_box` refused a box."""
    if not isinstance(bbox, list) or len(bbox) != 4 or not all_finite(bbox):
        text = repr(bbox)
        shown = text if len(text) <= 60 else text[:59] + "…"
        return ProblemKind.BOX_MALFORMED, f"bbox is {shown}; expected [x, y, width, height] in finite numbers"
    height, width = image_size
    if bbox[2] <= 0 or bbox[3] <= 0:
        return ProblemKind.BOX_EMPTY, f"box of {bbox[2]:g} × {bbox[3]:g} pixels"
    x, y, w, h = bbox
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        return ProblemKind.BOX_OUTSIDE, f"box {x:g}, {y:g}, {w:g} × {h:g} on an image of {width} × {height}"
    return ProblemKind.BOX_EMPTY, f"box of {w:g} × {h:g} pixels, nothing in single precision"
