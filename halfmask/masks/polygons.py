"""Polygons of masks as training targets: kept, mirrored, drawn on a region's cells.

Detectron's way, number for number: it draws the polygons themselves on the cells of a
region, so that its targets are 0 or 1. `masks.sample` samples bitmaps instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfmask.masks.rle import crop_of

Outline = tuple[NDArray[np.float32], ...]
"""The polygons of a mask, each float32 [2k]: x1, y1, x2, y2, … in pixels of the image."""

FEWEST = 6
"""Numbers of a polygon; Detectron drops shorter ones."""
NARROWEST = 1.0
"""Least side over which a region's cells are spread, pixels."""


def outline_of(segmentation: Any) -> Outline | None:
    """Returns the polygons of a COCO segmentation; None for run lengths."""
    if not isinstance(segmentation, list):
        return None
    polygons = (np.asarray(part, dtype=np.float32) for part in segmentation)
    return tuple(polygon for polygon in polygons if len(polygon) >= FEWEST)


def mirror_outline(outline: Outline, width: int) -> Outline:
    """Returns the outline in the mirrored image, as Detectron places it.

    It maps x to width − 1 − x, so a mirrored outline lies one pixel left of the
    mirrored bitmap.
    """
    out = []
    for polygon in outline:
        flipped = polygon.copy()
        flipped[0::2] = width - polygon[0::2] - 1
        out.append(flipped)
    return tuple(out)


def draw_outline(outline: Outline, box: NDArray[Any], side: int) -> NDArray[np.float32]:
    """Draws an outline on the cells of a box by COCO's rule.

    Args:
        outline: the polygons; their union is drawn.
        box: [4] xyxy, the rectangle over which the cells are spread.
        side: M.
    Returns:
        float32 [M, M] of 0 and 1.
    """
    x0, y0, x1, y1 = np.asarray(box, dtype=np.float32)
    width, height = max(x1 - x0, np.float32(NARROWEST)), max(y1 - y0, np.float32(NARROWEST))
    placed = []
    for polygon in outline:
        moved = polygon.copy()
        moved[0::2] = (polygon[0::2] - x0) * np.float32(side) / width
        moved[1::2] = (polygon[1::2] - y0) * np.float32(side) / height
        placed.append(moved.tolist())
    out = np.zeros((side, side), dtype=np.float32)
    crop = crop_of(placed, (side, side)) if placed else None
    if crop is not None:
        bitmap, (x, y) = crop
        out[y : y + bitmap.shape[0], x : x + bitmap.shape[1]] = bitmap
    return out
