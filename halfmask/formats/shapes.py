"""Shapes of annotation tools as boxes and polygons of COCO."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfmask.masks.outline import rings
from halfmask.masks.rle import Bitmap, Place, crop_of, overlap

Point = tuple[float, float]
Ring = NDArray[np.float64]

ELLIPSE_CORNERS = 72
MOST_JOINED = 1_000
"""Parts that are joined at their nearest corners, and checked for overlap two by two."""


def pairs(polygon: Sequence[float]) -> list[Point]:
    """Returns the corners of x1, y1, x2, y2, …."""
    return list(zip(polygon[0::2], polygon[1::2], strict=True))


def flat(points: list[Point]) -> list[float]:
    """Returns COCO's x1, y1, x2, y2, …, rounded to 0.001 pixels."""
    return [round(v, 3) for point in points for v in point]


def pixels_of(fraction: float, side: int) -> float:
    """Returns a coordinate that a format gives as a fraction of a side, not rounded.

    A writer of fractions gets the same fraction back. Only the error of a fraction with
    ten decimals goes, so that masks return pixel by pixel.
    """
    value = fraction * side
    near = round(value, 3)
    return near if abs(value - near) <= 1e-10 * side else value


def extent(points: Iterable[Point]) -> list[float]:
    """Returns x, y, width, height around points."""
    xs, ys = zip(*points, strict=True)
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def rectangle(box: Sequence[float]) -> list[Point]:
    """Returns the corners of a box x, y, width, height."""
    x, y, w, h = box
    return [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]


def rotated(points: list[Point], centre: Point, degrees: float) -> list[Point]:
    """Returns points rotated clockwise (y points down)."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    cx, cy = centre
    return [
        (cx + (x - cx) * cos - (y - cy) * sin, cy + (x - cx) * sin + (y - cy) * cos)
        for x, y in points
    ]


def ellipse(centre: Point, radii: Point, degrees: float) -> list[Point]:
    """Returns a polygon with the area of an ellipse that is rotated about its centre."""
    step = 2 * math.pi / ELLIPSE_CORNERS
    # The corners lie slightly outside, else the polygon would be too small.
    grow = math.sqrt(step / math.sin(step))
    (cx, cy), (rx, ry) = centre, radii
    corners = [
        (cx + rx * grow * math.cos(k * step), cy + ry * grow * math.sin(k * step))
        for k in range(ELLIPSE_CORNERS)
    ]
    return rotated(corners, centre, degrees)


def sound_crop(segmentation: Any, image_size: tuple[int, int]) -> tuple[Bitmap, Place]:
    """Returns the bitmap of a valid segmentation, cut to its pixels, and its left top corner."""
    crop = crop_of(segmentation, image_size)
    assert crop is not None, "a valid mask has pixels"
    return crop


def one_polygon(
    segmentation: Any, image_size: tuple[int, int], tolerance: float = 0.0
) -> list[float]:
    """Returns a single polygon that covers the pixels of a valid segmentation.

    It does so under the even-odd rule and under the non-zero rule, and stays on the
    image. A polygon on the image stays unchanged. Parts that lie apart are joined
    unchanged. Parts that may overlap or reach beyond the image, and an RLE, are drawn,
    and the outline of their pixels is used.

    Args:
        segmentation: polygons or RLE.
        image_size: (H, W).
        tolerance: how far that outline may be from the pixels, see `outlines`.
    Returns:
        x1, y1, x2, y2, …
    """
    if isinstance(segmentation, list):
        given = [_ring(part) for part in segmentation]
        parts = [part.clip(0, image_size[::-1]) for part in given]
        kept = all(np.array_equal(a, b) for a, b in zip(given, parts, strict=True))
        whole = kept or overlap(segmentation, _lists(parts), image_size) == 1.0
        few = len(parts) <= MOST_JOINED
        if whole and few and all(_lie_apart(a, b) for a, b in combinations(parts, 2)):
            return _joined(parts)
    crop, place = sound_crop(segmentation, image_size)
    return _joined([_ring(ring) for ring in rings(crop, place, tolerance)])


def _joined(parts: list[Ring]) -> list[float]:
    """Joins rings by bridges, there and back, from the path's nearest corner.

    More than `MOST_JOINED` rings are all joined at the first corner. A bridge covers
    no pixel, however long it is.
    """
    if len(parts) > MOST_JOINED:
        start = parts[0][:1]
        star = [row for ring in parts[1:] for row in (ring, ring[:1], start)]
        return _corners(np.concatenate([start, *star, parts[0][1:]]))
    path = parts[0]
    for ring in parts[1:]:
        i, j = _nearest(path, ring)
        path = np.concatenate([path[: i + 1], ring[j:], ring[: j + 1], path[i:]])
    return _corners(path)


def _corners(path: Ring) -> list[float]:
    values: list[float] = path.reshape(-1).tolist()
    return values


def _nearest(path: Ring, ring: Ring) -> tuple[int, int]:
    """Positions of the two nearest corners, one of each."""
    gaps = [((path - corner) ** 2).sum(1) for corner in ring]
    j = min(range(len(gaps)), key=lambda k: float(gaps[k].min()))
    return int(gaps[j].argmin()), j


def _lists(parts: list[Ring]) -> list[list[float]]:
    return [part.reshape(-1).tolist() for part in parts]


def _lie_apart(a: Ring, b: Ring) -> bool:
    return bool((a.max(0) < b.min(0)).any() or (b.max(0) < a.min(0)).any())


def _ring(polygon: list[Any]) -> Ring:
    return np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
