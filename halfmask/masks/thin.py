"""Closed lines with fewer corners, after Douglas and Peucker."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Line = NDArray[np.float64]

SHARP = 3.5
"""Pixels that both sides of a right angle must have to be a corner, not a step of a slope."""
MOST_SIDES = 4_000
"""Sides of a line that are compared two by two; a line of more counts as crossing."""
_LEAST_AREA = 0.5
"""Share of its area that a line must keep; else it stays as it is."""


def thinned(loop: Line, tolerance: float) -> Line:
    """Returns a closed line along pixels with fewer corners.

    Steps of a slope are replaced by the middles of their sides, so that the line is not
    biased outwards; the corners of rectangles stay. A line that would vanish, or lose
    half of its area, stays as it is.

    Args:
        loop: float64 [n, 2], corners along pixels, with right angles.
        tolerance: how far a dropped corner may be from the line that is left, in
            pixels.
    """
    smooth = _without_steps(loop)
    first = int((smooth[:, 0] + 0.9 * smooth[:, 1]).argmin())
    smooth = np.concatenate([smooth[first:], smooth[:first]])
    kept = smooth[_kept(np.concatenate([smooth, smooth[:1]]), tolerance)]
    if not 3 <= len(kept) < len(loop) or abs(signed_area(kept)) < _LEAST_AREA * abs(
        signed_area(loop)
    ):
        return loop
    return kept


def crosses(loop: Line) -> bool:
    """Whether two sides of a closed line cross; a mere touch does not count.

    True also for a line of more than `MOST_SIDES` sides, which is not compared.
    """
    if len(loop) > MOST_SIDES:
        return True
    start = loop
    way = next_rows(loop) - start

    def side(points: Line) -> Line:
        gap = points[None] - start[:, None]
        turn: Line = way[:, None, 0] * gap[..., 1] - way[:, None, 1] * gap[..., 0]
        return turn

    first = np.sign(side(start))
    apart = first * next_rows(first.T).T < 0  # of each line: start and end of the others
    return bool((apart & apart.T).any())


def signed_area(loop: Line) -> float:
    """Returns the area: positive if clockwise (y down), negative around holes."""
    (x, y), (next_x, next_y) = loop.T, next_rows(loop).T
    return float(x @ next_y - next_x @ y) / 2


def next_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """Returns for each row the next one; the first follows the last."""
    return np.concatenate([rows[1:], rows[:1]])


def _without_steps(loop: Line) -> Line:
    """Returns the middles of short sides, and the ends of long ones."""
    way = next_rows(loop) - loop
    length = np.abs(way).sum(1)
    unit = way / length[:, None]
    long = length >= SHARP
    sharp_end = long & next_rows(long)
    sharp = np.concatenate([sharp_end[-1:], sharp_end[:-1]])
    # Of each side: its sharp corner, half a pixel after its start, half a pixel before
    # its end.
    points = np.stack([loop, loop + unit / 2, loop + way - unit / 2], 1)
    wanted = np.stack([sharp, ~sharp, ~sharp_end & (length > 1)], 1)
    chosen: Line = points[wanted]
    return chosen


def _kept(closed: Line, tolerance: float) -> NDArray[np.int64]:
    """Returns the positions of the corners that stay; the last repeats the first."""
    last = len(closed) - 1
    far = int(((closed - closed[0]) ** 2).sum(1).argmax())
    kept = np.array([0, far, last])
    while True:
        which = np.repeat(np.arange(len(kept) - 1), np.diff(kept))
        off = _distance(closed[:-1], closed[kept[which]], closed[kept[which + 1]])
        worst = np.maximum.reduceat(off, kept[:-1])
        split = np.flatnonzero((off == worst[which]) & (off > tolerance))
        if not len(split):
            return kept[:-1]
        first = np.diff(which[split], prepend=-1) > 0  # one of equals
        kept = np.sort(np.concatenate([kept, split[first]]))


def _distance(points: Line, start: Line, end: Line) -> NDArray[np.float64]:
    """Returns the distance of each point from its own piece of line."""
    way, gap = end - start, points - start
    length = np.maximum((way * way).sum(1), 1e-12)
    along = ((way * gap).sum(1) / length).clip(0, 1)
    off = gap - along[:, None] * way
    distance: NDArray[np.float64] = np.sqrt((off * off).sum(1))
    return distance
