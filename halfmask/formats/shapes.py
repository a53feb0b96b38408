"""Shapes that annotation tools draw, as boxes and polygons of COCO."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfmask.masks.outline import rings
from halfmask.masks.rle import crop_of

Point = tuple[float, float]

ELLIPSE_CORNERS = 72


def extent(points: list[Point]) -> list[float]:
    """x, y, width, height around points."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def turned(points: list[Point], centre: Point, degrees: float) -> list[Point]:
    """Points turned clockwise, as y points down."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    cx, cy = centre
    return [
        (cx + (x - cx) * cos - (y - cy) * sin, cy + (x - cx) * sin + (y - cy) * cos)
        for x, y in points
    ]


def rectangle(x: float, y: float, w: float, h: float) -> list[Point]:
    """The corners of a box."""
    return [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]


def ellipse(centre: Point, radii: Point, degrees: float) -> list[Point]:
    """A polygon with the area of an ellipse, turned about its centre."""
    step = 2 * math.pi / ELLIPSE_CORNERS
    grow = math.sqrt(
        step / math.sin(step)
    )  # corners a little outside, or the polygon would be too small
    corners = [
        (
            centre[0] + radii[0] * grow * math.cos(k * step),
            centre[1] + radii[1] * grow * math.sin(k * step),
        )
        for k in range(ELLIPSE_CORNERS)
    ]
    return turned(corners, centre, degrees)


def flat(points: list[Point]) -> list[float]:
    """COCO's x1, y1, x2, y2, …, to a thousandth of a pixel."""
    return [round(v, 3) for point in points for v in point]


Ring = NDArray[np.float64]


def one_polygon(segmentation: Any, image_size: tuple[int, int]) -> list[float]:
    """A single polygon that covers what a sound segmentation covers, drawn with the
    even-odd rule or the non-zero rule.

    A polygon stays as it is. Parts that lie apart are joined as they are; parts that
    may overlap, and an RLE, are drawn and their outline along the pixels is taken.

    Args:
        segmentation: polygons or RLE.
        image_size: (H, W).
    Returns:
        x1, y1, x2, y2, …
    """
    if isinstance(segmentation, list):
        parts = [_ring(part) for part in segmentation]
        if all(_apart(a, b) for a, b in combinations(parts, 2)):
            return _flat(_joined(parts))
    crop = crop_of(segmentation, image_size)
    assert crop is not None, "a mask without pixels is broken"
    return _flat(_joined([_ring(ring) for ring in rings(*crop)]))


def _joined(parts: list[Ring]) -> Ring:
    """Goes over to each ring from the nearest corner of the path so far, and back the same way."""
    path = parts[0]
    for ring in parts[1:]:
        i, j = _nearest(path, ring)
        path = np.concatenate([path[: i + 1], ring[j:], ring[: j + 1], path[i:]])
    return path


def _nearest(path: Ring, ring: Ring) -> tuple[int, int]:
    """Positions of the nearest two corners, one of each."""
    gaps = [((path - corner) ** 2).sum(1) for corner in ring]
    j = min(range(len(gaps)), key=lambda k: float(gaps[k].min()))
    return int(gaps[j].argmin()), j


def _apart(a: Ring, b: Ring) -> bool:
    return bool((a.max(0) < b.min(0)).any() or (b.max(0) < a.min(0)).any())


def _ring(flat: list[Any]) -> Ring:
    return np.asarray(flat, dtype=np.float64).reshape(-1, 2)


def _flat(ring: Ring) -> list[float]:
    values: list[float] = ring.reshape(-1).tolist()
    return values
