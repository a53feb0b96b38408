"""The forms in which tools write boxes, and which of them the boxes of a file can be."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

FEWEST = 4
"""Fewest boxes, polygons or crowds from which a convention of the file is suspected."""
BOX_FORMS = ("xywh", "xyxy", "cxcywh")
"""COCO's x, y, width, height; two corners; centre and size."""


@dataclass
class BoxCounts:
    """Boxes of a file at one scale: how many are impossible, and how many stick out.

    Attributes:
        boxes: number of boxes.
        impossible: form → boxes that cannot be of it.
        sticking: form → boxes that reach beyond their image, read in it.
    """

    boxes: int = 0
    impossible: Counter[str] = field(default_factory=Counter)
    sticking: Counter[str] = field(default_factory=Counter)

    def add(self, bbox: list[float], size: tuple[float, float], slack: float) -> None:
        """Counts a box of an image of size (H, W), in the box's own units."""
        self.boxes += 1
        for form in BOX_FORMS:
            x, y, w, h = as_xywh(bbox, form)
            if w <= 0 or h <= 0:
                self.impossible[form] += 1
            elif max(-x, -y, x + w - size[1], y + h - size[0]) > slack:
                self.sticking[form] += 1

    def add_many(self, boxes: Array, sizes: Array, slack: float) -> None:
        """Counts boxes, float64 [n, 4], of images of sizes [n, 2] as `add` does."""
        self.boxes += len(boxes)
        for form in BOX_FORMS:
            x, y, w, h = as_xywh(boxes.T, form)
            out = np.maximum(x + w - sizes[:, 1], y + h - sizes[:, 0])
            impossible = (w <= 0) | (h <= 0)
            sticking = ~impossible & (np.maximum(np.maximum(-x, -y), out) > slack)
            self.impossible[form] += int(impossible.sum())
            self.sticking[form] += int(sticking.sum())

    def fits(self, form: str) -> bool:
        """Whether every box can be of a form and lies on its image."""
        return self.boxes >= FEWEST and not self.impossible[form] and not self.sticking[form]


def as_xywh(bbox: Any, form: str) -> list[Any]:
    """Returns a box of a form as x, y, width, height, in the same units.

    Args:
        bbox: four numbers, or four arrays of them.
        form: one of BOX_FORMS.
    """
    a, b, c, d = bbox
    if form == "xyxy":
        return [a, b, c - a, d - b]
    return [a - c / 2, b - d / 2, c, d] if form == "cxcywh" else [a, b, c, d]
