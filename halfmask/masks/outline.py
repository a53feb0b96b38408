"""Masks to COCO polygons, exactly: the outline runs along the pixels' borders, so that
drawing it gives the same pixels again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Bitmap = NDArray[np.bool_]
Corner = tuple[int, int]

# Steps along the border with the mask on the right hand, y pointing down: east, south,
# west, north.
_STEPS: tuple[Corner, ...] = ((1, 0), (0, 1), (-1, 0), (0, -1))


def outlines(bitmap: NDArray[Any], offset: Corner = (0, 0)) -> list[list[int]]:
    """The polygons of a mask.

    COCO's polygons add up and cannot cut out, so a part with a hole is cut into upright
    strips through the hole; the strips share borders and cover the mask without
    overlap.

    Args:
        bitmap: bool or uint8 [h, w].
        offset: x and y of its upper left pixel in the image.
    Returns:
        One list x0, y0, x1, y1, … of corners a polygon, in whole pixels; none for an
            empty mask.
    """
    pending: list[tuple[Bitmap, int]] = [(np.asarray(bitmap) > 0, 0)]
    polygons: list[list[int]] = []
    while pending:
        strip, shift = pending.pop()
        loops = _loops(strip)
        hole = next((loop for loop in loops if _signed_area(loop) < 0), None)
        if hole is None:
            polygons += [_flatten(loop, offset[0] + shift, offset[1]) for loop in loops]
            continue
        columns = [x for x, _ in hole]
        cut = (
            min(columns) + max(columns)
        ) // 2  # through the hole, or along its left side where it is one pixel wide
        pending += [(strip[:, cut:], shift + cut), (strip[:, :cut], shift)]
    return polygons


def rings(bitmap: NDArray[Any], offset: Corner = (0, 0)) -> list[list[int]]:
    """The borders of a mask, each x0, y0, x1, y1, …: clockwise around a part,
    counter-clockwise around a hole. Arguments as `outlines`.
    """
    return [_flatten(loop, *offset) for loop in _loops(np.asarray(bitmap) > 0)]


def _loops(bitmap: Bitmap) -> list[list[Corner]]:
    """Closed border lines as their corners: clockwise around a part, counter-clockwise
    around a hole.

    Where two pixels touch at a corner only, the line stays with its own pixel: parts
    are 4-connected.
    """
    leaving = _border_edges(bitmap)
    seen: set[tuple[Corner, int]] = set()
    edges = [
        (start, direction) for start, directions in leaving.items() for direction in directions
    ]
    return [_walk(edge, leaving, seen) for edge in edges if edge not in seen]


def _walk(
    edge: tuple[Corner, int], leaving: dict[Corner, list[int]], seen: set[tuple[Corner, int]]
) -> list[Corner]:
    """Follows the border from one edge until it closes; returns the corners on the way."""
    corners: list[Corner] = []
    position, direction = edge
    while (position, direction) not in seen:
        seen.add((position, direction))
        position = (position[0] + _STEPS[direction][0], position[1] + _STEPS[direction][1])
        turn = _turn(direction, leaving[position])
        if turn != direction:
            corners.append(position)
        direction = turn
    return corners


def _turn(direction: int, choices: list[int]) -> int:
    """Right if possible, which keeps to the same pixel where two touch at a corner;
    else on, else left.
    """
    return next(d for d in ((direction + 1) % 4, direction, (direction - 1) % 4) if d in choices)


def _border_edges(bitmap: Bitmap) -> dict[Corner, list[int]]:
    """From each corner on the border, the directions of the border's unit edges that leave it."""
    padded = np.pad(bitmap, 1)
    inside = padded[1:-1, 1:-1]
    neighbours = (
        # (the neighbour beyond the edge, where the edge starts relative to the pixel,
        # its direction)
        (padded[:-2, 1:-1], (0, 0), 0),
        (padded[1:-1, 2:], (1, 0), 1),
        (padded[2:, 1:-1], (1, 1), 2),
        (padded[1:-1, :-2], (0, 1), 3),
    )
    following: dict[Corner, list[int]] = {}
    for beyond, (dx, dy), direction in neighbours:
        ys, xs = np.nonzero(inside & ~beyond)
        for x, y in zip((xs + dx).tolist(), (ys + dy).tolist(), strict=True):
            following.setdefault((x, y), []).append(direction)
    return following


def _signed_area(loop: list[Corner]) -> int:
    """Twice the area; positive clockwise (y down), negative around holes."""
    return sum(
        x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(loop, loop[1:] + loop[:1], strict=True)
    )


def _flatten(loop: list[Corner], x: int, y: int) -> list[int]:
    return [value for cx, cy in loop for value in (cx + x, cy + y)]
