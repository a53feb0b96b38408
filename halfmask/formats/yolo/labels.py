"""A line of a YOLO label file: a box, a polygon, or neither; each line says by itself
which it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One object, in shares of the image's width and height.

    Attributes:
        label: 0-based.
        box: centre x, centre y, width, height; None where there is a polygon.
        polygon: x1, y1, x2, y2, …; None where there is a box.
        score: the sixth number of a box, as detectors write it.
        keypoints: whether keypoints followed the box and were dropped.
    """

    label: int
    box: tuple[float, float, float, float] | None = None
    polygon: list[float] | None = None
    score: float | None = None
    keypoints: bool = False


def parse_line(line: str, keypoint_values: int = 0) -> Row | str:
    """The row of a line, or what is wrong with it, in words.

    5 numbers are a box, 6 a box and its score, 7 or more that are odd in count a
    polygon. Where data.yaml has a `kpt_shape`, rows of 5 + that many numbers are a box
    and keypoints.

    Args:
        line: not blank.
        keypoint_values: how many numbers `kpt_shape` stands for; 0 where there is none.
    """
    words = line.split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        return "something that is no number"
    if not all(map(math.isfinite, values)):
        return "a number that is not finite"
    if values[0] < 0 or values[0] != int(values[0]):
        return "a class that is no whole number"
    label, count = int(values[0]), len(values)
    posed = keypoint_values > 0 and count == 5 + keypoint_values
    if count in (5, 6) or posed:
        x, y, w, h = values[1:5]
        return Row(
            label, box=(x, y, w, h), score=values[5] if count == 6 else None, keypoints=posed
        )
    if count < 7:
        return f"{count} numbers, expected 5 (a box) or at least 7 (a polygon)"
    if count % 2 == 0:
        return "an odd number of polygon coordinates"
    return Row(label, polygon=values[1:])
