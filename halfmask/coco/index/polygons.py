"""Which of many polygons are surely sound, decided with array operations.

The rules are those of `halfmask.coco.supervision`. A polygon about which this file is
not sure may still be sound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from halfmask.coco.index.format import Array
from halfmask.coco.supervision import STEPS, SURE_PIXELS, SUSPECT_TOLERANCE


@dataclass(frozen=True, kw_only=True)
class PolygonMasks:
    """Masks of polygons.

    Attributes:
        missing: bool by row, no mask: null or [].
        sound: bool by row, a mask that surely can be read and has a pixel.
        extent: float64 [rows, 4], the corners of all points of a sound mask.
        corners: int64 by row, numbers in a mask of one polygon; 0 for more.
    """

    missing: Array
    sound: Array
    extent: Array
    corners: Array

    def surely_not_box(self, boxes: Array) -> Array:
        """Returns bool by row: the mask surely does not repeat its box.

        Args:
            boxes: float64 [rows, 4], x, y, width, height.
        """
        corner, side = boxes[:, :2], boxes[:, 2:]
        near, far = self.extent[:, :2] - corner, self.extent[:, 2:] - corner - side
        worst = np.maximum(np.abs(near), np.abs(far))
        worst = np.maximum(worst[:, 0], worst[:, 1])
        surely: Array = ~np.isin(self.corners, (8, 10)) | (worst > SUSPECT_TOLERANCE)
        return surely


def polygon_masks(column: Any, sizes: Array) -> PolygonMasks:
    """Looks at the polygons of many masks.

    Args:
        column: Arrow column, each value a list of polygons x1, y1, x2, y2, … or null.
        sizes: int64 [rows, 2], H and W of the image of each.
    """
    rows = len(column)
    counts = np.diff(column.offsets.to_numpy())
    parts = column.values
    of_row = np.repeat(np.arange(rows), counts)
    lengths = np.diff(parts.offsets.to_numpy())
    odd = (lengths < 6) | (lengths % 2 != 0)
    sound = counts > 0
    if odd.any():
        sound[of_row[odd]] = False
        kept = sound[of_row]
        parts, of_row, lengths = parts.filter(_mask(kept)), of_row[kept], lengths[kept]
    extent = np.zeros((rows, 4))
    if len(of_row):
        with np.errstate(over="ignore", invalid="ignore"):
            _judge(parts, of_row, sizes, sound=sound, extent=extent)
    corners = np.zeros(rows, dtype=np.int64)
    corners[of_row] = lengths
    corners[counts != 1] = 0
    return PolygonMasks(missing=counts == 0, sound=sound, extent=extent, corners=corners)


def _mask(kept: Array) -> Any:
    import pyarrow as pa

    return pa.array(kept)


def _judge(parts: Any, of_row: Array, sizes: Array, *, sound: Array, extent: Array) -> None:
    """Sets `sound` and `extent` of masks whose polygons all have points."""
    numbers = parts.values.to_numpy(zero_copy_only=False)  # null is NaN
    x, y = np.ascontiguousarray(numbers[0::2]), np.ascontiguousarray(numbers[1::2])
    bounds = parts.offsets.to_numpy().astype(np.int64) // 2
    starts, own = bounds[:-1], sizes[of_row]
    left, right = np.minimum.reduceat(x, starts), np.maximum.reduceat(x, starts)
    top, bottom = np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)
    reach = np.maximum(own[:, 0], own[:, 1])
    inside = (np.minimum(left, top) >= -reach) & (np.maximum(right, bottom) <= 2 * reach)
    sound[of_row[~inside]] = False
    low, high = np.trunc(STEPS * left + 0.5), np.trunc(STEPS * right + 0.5)
    whole = (low >= 0) & (top >= 0) & (high <= STEPS * own[:, 1]) & (bottom <= own[:, 0])
    line = STEPS * np.floor((low + high) / (2 * STEPS)) + STEPS / 2
    drawn = np.zeros(len(sound), dtype=bool)
    drawn[of_row[whole & _crossed(x, y, bounds, line=line)]] = True
    sound &= drawn
    first = np.flatnonzero(np.diff(of_row, prepend=-1))
    extent[of_row[first]] = np.stack(
        [
            np.minimum.reduceat(left, first),
            np.minimum.reduceat(top, first),
            np.maximum.reduceat(right, first),
            np.maximum.reduceat(bottom, first),
        ],
        axis=1,
    )


def _crossed(x: Array, y: Array, bounds: Array, *, line: Array) -> Array:
    """Returns bool by polygon: a column is crossed at points far enough apart.

    Args:
        x, y: float64, the points of all polygons.
        bounds: int64, first point of each polygon, and the number of points.
        line: of the column of each, in fractions of a pixel.
    """
    starts, lengths = bounds[:-1], np.diff(bounds)
    fine = np.trunc(STEPS * x + 0.5)
    before = _previous(fine, bounds)
    lines = np.repeat(line, lengths)
    at = np.flatnonzero((before < lines) != (fine < lines))
    if not len(at):
        return np.zeros(len(starts), dtype=bool)
    x0, x1, y0, y1 = before[at], fine[at], _previous(y, bounds)[at], y[at]
    height = y0 + (lines[at] - x0) * (y1 - y0) / (x1 - x0)
    polygon = np.searchsorted(starts, at, side="right") - 1
    order = np.lexsort((height, polygon))
    height, polygon = height[order], polygon[order]
    wide = height[1::2] - height[0::2] > SURE_PIXELS
    found = np.zeros(len(starts), dtype=bool)
    found[polygon[0::2][wide]] = True
    return found


def _previous(values: Array, bounds: Array) -> Array:
    """Returns for each point the value of the one before it in its closed polygon."""
    before = np.empty_like(values)
    before[1:] = values[:-1]
    before[bounds[:-1]] = values[bounds[1:] - 1]
    return before
