"""Masks to COCO polygons: along the pixels' borders, or with few corners, to edit.

Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfmask.errors import InputError
from halfmask.masks.rle import crop_of
from halfmask.masks.thin import crosses, signed_area, thinned

Bitmap = NDArray[np.bool_]
Corner = tuple[int, int]
Loop = NDArray[np.float64]
"""The n corners of a closed line, float64 [n, 2] of x and y."""

TOLERANCE = 1.0
"""Pixels that polygons of our masks may be from the mask's border, unless said otherwise."""
LEAST_IOU = 0.97
"""Least IoU of a mask with its simplified polygons; below it, a finer tolerance is used."""
MOST_LOOPS, MOST_CORNERS = 1_000, 20_000
"""Borders and corners of a mask that is simplified; a mask of more is speckle, and its
polygons follow every pixel.
"""
_MANY_HOLES = 16
_FINER = (1.0, 0.5, 0.25)
_STEPS = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])
"""Steps along the border with the mask on the right (y points down): east, south, west, north."""


def outlines(
    bitmap: NDArray[Any], offset: Corner = (0, 0), tolerance: float = 0.0
) -> list[list[float]]:
    """Returns the polygons of a mask.

    COCO's polygons only add pixels, so a part with a hole is cut into vertical strips
    through the hole. Without a tolerance, the strips share borders and cover the mask
    without overlap. Corners are whole or half pixels.

    Args:
        bitmap: bool or uint8 [h, w].
        offset: x and y of its upper left pixel in the image.
        tolerance: how far the polygons may be from the mask's border, in pixels; 0
            follows every pixel. It is halved, and finally 0, until the polygons' IoU
            with the mask is at least `LEAST_IOU`. Every part keeps a polygon. Masks of
            more than `MOST_LOOPS` borders or `MOST_CORNERS` corners get 0.
    Returns:
        For each polygon the list x0, y0, x1, y1, … of its corners; an empty list for an
            empty mask.
    """
    return _simplest(np.asarray(bitmap) > 0, _strips, offset=offset, tolerance=tolerance)


def rings(
    bitmap: NDArray[Any], offset: Corner = (0, 0), tolerance: float = 0.0
) -> list[list[float]]:
    """Returns the borders of a mask as lists x0, y0, x1, y1, and so on.

    Arguments are those of `outlines`. Borders run clockwise around a part,
    counter-clockwise around a hole.
    """
    return _simplest(np.asarray(bitmap) > 0, _loops, offset=offset, tolerance=tolerance)


def check_tolerance(tolerance: object) -> float:
    """Returns a tolerance as a number.

    Raises:
        InputError: it is not a finite number of at least 0.
    """
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float):
        raise InputError(f"tolerance: expected pixels, found {tolerance!r}")
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise InputError(f"tolerance: expected pixels of at least 0, found {tolerance}")
    return float(tolerance)


def _simplest(
    bitmap: Bitmap, trace: Callable[[Bitmap], list[Loop]], *, offset: Corner, tolerance: float
) -> list[list[float]]:
    exact = trace(bitmap)
    is_speckle = len(exact) > MOST_LOOPS or sum(map(len, exact)) > MOST_CORNERS
    if tolerance > 0 and not is_speckle:
        for share in _FINER:
            fewer = [thinned(loop, share * tolerance) for loop in exact]
            if _fits(fewer, bitmap):
                return [_flatten(loop, offset) for loop in fewer]
    return [_flatten(loop, offset) for loop in exact]


def _fits(loops: list[Loop], bitmap: Bitmap) -> bool:
    """Whether simplified borders cross nowhere and cover nearly the same pixels."""
    if any(crosses(loop) for loop in loops):
        return False
    drawn = _drawn([loop for loop in loops if signed_area(loop) > 0], bitmap.shape)
    drawn &= ~_drawn([loop for loop in loops if signed_area(loop) < 0], bitmap.shape)
    common, either = np.count_nonzero(drawn & bitmap), np.count_nonzero(drawn | bitmap)
    return bool(common >= LEAST_IOU * either)


def _drawn(loops: list[Loop], shape: tuple[int, ...]) -> Bitmap:
    canvas = np.zeros(shape, dtype=bool)
    polygons = [_flatten(loop, (0, 0)) for loop in loops]
    crop = crop_of(polygons, (shape[0], shape[1])) if polygons else None
    if crop is not None:
        part, (x, y) = crop
        canvas[y : y + part.shape[0], x : x + part.shape[1]] = part > 0
    return canvas


def _strips(bitmap: Bitmap) -> list[Loop]:
    """Returns the borders of parts without holes."""
    pending: list[tuple[Bitmap, int]] = [(bitmap, 0)]
    polygons: list[Loop] = []
    while pending:
        strip, shift = pending.pop()
        loops = _loops(strip)
        holes = [loop for loop in loops if signed_area(loop) < 0]
        if not holes:
            polygons += [loop + np.array((shift, 0)) for loop in loops]
            continue
        # Many holes: through the middle one, or a strip is cut off for each in turn.
        hole = holes[0] if len(holes) <= _MANY_HOLES else _middle(holes)
        # Through the hole, or along its left side if it is one pixel wide.
        cut = int(hole[:, 0].min() + hole[:, 0].max()) // 2
        pending += [(strip[:, cut:], shift + cut), (strip[:, :cut], shift)]
    return polygons


def _middle(holes: list[Loop]) -> Loop:
    """Returns the hole in the middle from left to right."""
    return sorted(holes, key=lambda loop: float(loop[:, 0].min()))[len(holes) // 2]


def _loops(bitmap: Bitmap) -> list[Loop]:
    """Returns the corners of each closed border line.

    Where two pixels touch only at a corner, the line stays with its own pixel: parts
    are 4-connected.
    """
    starts, directions, following = _border(bitmap)
    ends = starts + _STEPS[directions]
    turns = directions[following] != directions
    after, loops = following.tolist(), []
    seen = bytearray(len(after))
    # Every line has an edge to the east.
    for first in np.flatnonzero(directions == 0).tolist():
        edge, line = first, []
        while not seen[edge]:
            seen[edge] = 1
            line.append(edge)
            edge = after[edge]
        if line:
            loops.append(ends[line][turns[line]].astype(np.float64))
    return loops


def _border(bitmap: Bitmap) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Returns start [n, 2], direction [n] and following edge [n] of the unit border edges."""
    padded = np.pad(bitmap, 1)
    neighbours = (
        # neighbour beyond the edge, start of the edge relative to the pixel
        (padded[:-2, 1:-1], (0, 0)),
        (padded[1:-1, 2:], (1, 0)),
        (padded[2:, 1:-1], (1, 1)),
        (padded[1:-1, :-2], (0, 1)),
    )
    starts, directions = [], []
    for direction, (beyond, shift) in enumerate(neighbours):
        ys, xs = np.nonzero(bitmap & ~beyond)
        starts.append(np.stack([xs, ys], 1) + shift)
        directions.append(np.full(len(xs), direction))
    start, heading = np.concatenate(starts), np.concatenate(directions)
    if not len(start):
        return start, heading, heading
    # One edge leaves a corner, or two where pixels touch there: then turn right, to
    # stay with the same pixel.
    columns = bitmap.shape[1] + 1
    corner = start[:, 1] * columns + start[:, 0]
    order = np.argsort(corner, kind="stable")
    end = start + _STEPS[heading]
    place = np.searchsorted(corner[order], end[:, 1] * columns + end[:, 0])
    following = order[place]
    other = order[np.minimum(place + 1, len(order) - 1)]
    right = (corner[other] == corner[following]) & (heading[other] == (heading + 1) % 4)
    return start, heading, np.where(right, other, following)


def _flatten(loop: Loop, offset: Corner) -> list[float]:
    values: list[float] = (loop + offset).reshape(-1).tolist()
    return [int(value) if value.is_integer() else value for value in values]
