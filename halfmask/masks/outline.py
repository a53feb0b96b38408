"""Masks to COCO polygons without loss: outlines follow the pixels' borders."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Bitmap = NDArray[np.bool_]
Corner = tuple[int, int]

# Steps along the border with the mask on the right (y points down): east, south, west,
# north.
_STEPS: tuple[Corner, ...] = ((1, 0), (0, 1), (-1, 0), (0, -1))


def outlines(bitmap: NDArray[Any], offset: Corner = (0, 0)) -> list[list[int]]:
    """Returns the polygons of a mask.

    COCO's polygons only add pixels, so a part with a hole is cut into vertical strips
    through the hole. The strips share borders and cover the mask without overlap.

    Args:
        bitmap: bool or uint8 [h, w].
        offset: x and y of its upper left pixel in the image.
    Returns:
        For each polygon the list x0, y0, x1, y1, … of its corners in whole pixels; an
            empty list for an empty mask.
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
        # Through the hole, or along its left side if it is one pixel wide.
        cut = (min(columns) + max(columns)) // 2
        pending += [(strip[:, cut:], shift + cut), (strip[:, :cut], shift)]
    return polygons


def rings(bitmap: NDArray[Any], offset: Corner = (0, 0)) -> list[list[int]]:
    """Returns the borders of a mask as lists x0, y0, x1, y1, and so on.

    Arguments are those of `outlines`. Borders run clockwise around a part,
    counter-clockwise around a hole.
    """
    return [_flatten(loop, *offset) for loop in _loops(np.asarray(bitmap) > 0)]


def _loops(bitmap: Bitmap) -> list[list[Corner]]:
    """Returns the corners of each closed border line.

    Where two pixels touch only at a corner, the line stays with its own pixel: parts
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
    """Follows the border from one edge until it closes; returns its corners."""
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
    """Turns right if possible, to follow the same pixel; else straight, else left."""
    return next(d for d in ((direction + 1) % 4, direction, (direction - 1) % 4) if d in choices)


def _border_edges(bitmap: Bitmap) -> dict[Corner, list[int]]:
    """Returns the directions of the unit border edges that leave each corner."""
    padded = np.pad(bitmap, 1)
    inside = padded[1:-1, 1:-1]
    neighbours = (
        # neighbour beyond the edge, start of the edge relative to the pixel, direction
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
    """Returns twice the area: positive if clockwise (y down), negative around holes."""
    return sum(
        x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(loop, loop[1:] + loop[:1], strict=True)
    )


def _flatten(loop: list[Corner], x: int, y: int) -> list[int]:
    return [value for cx, cy in loop for value in (cx + x, cy + y)]
