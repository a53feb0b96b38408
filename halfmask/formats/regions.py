"""Shapes that annotation tools draw, as boxes and polygons of COCO."""

from __future__ import annotations

import math

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
    return [(cx + (x - cx) * cos - (y - cy) * sin, cy + (x - cx) * sin + (y - cy) * cos) for x, y in points]


def rectangle(x: float, y: float, w: float, h: float) -> list[Point]:
    """The corners of a box."""
    return [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]


def ellipse(centre: Point, radii: Point, degrees: float) -> list[Point]:
    """A polygon with the area of an ellipse, turned about its centre."""
    step = 2 * math.pi / ELLIPSE_CORNERS
    grow = math.sqrt(step / math.sin(step))  # corners a little outside, or the polygon would be too small
    corners = [
        (centre[0] + radii[0] * grow * math.cos(k * step), centre[1] + radii[1] * grow * math.sin(k * step))
        for k in range(ELLIPSE_CORNERS)
    ]
    return turned(corners, centre, degrees)


def flat(points: list[Point]) -> list[float]:
    """COCO's x1, y1, x2, y2, …, to a thousandth of a pixel."""
    return [round(v, 3) for point in points for v in point]
