"""The areas of boxes and masks, and how well they fit, of millions of annotations."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfmask.coco.doctor.sizes import size_table
from halfmask.coco.index.format import MASK_STATES
from halfmask.coco.supervision import MaskState
from halfmask.coco.tightness import ENOUGH, SMALLEST

Array = NDArray[Any]

_MASK, _CROWD = MASK_STATES.index(MaskState.MASK), MASK_STATES.index(MaskState.CROWD)


class Areas:
    """Collects the areas of annotations, part after part in the order of the images.

    Args:
        images: number of the images of the file.
    """

    def __init__(self, images: int) -> None:
        self._boxes: list[Array] = []
        self._masks: list[Array] = []
        self._fills: list[Array] = []
        # The order in which `box_tightness` looks at images.
        order = random.Random(0).sample(range(images), images)
        self._rank = np.empty(images, dtype=np.int64)
        self._rank[order] = np.arange(images)
        self._fits = np.zeros((0, 2))

    def add(self, rows: Array) -> None:
        """Adds annotations, ROW sorted by image."""
        rows = rows[rows["state"] != _CROWD]
        box = rows["box"].astype(np.float64)
        areas = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
        self._boxes.append(areas)
        masked = rows["state"] == _MASK
        pixels = rows["pixels"][masked]
        self._masks.append(pixels)
        self._fills.append(pixels / areas[masked])
        self._add_fits(rows[masked], box[masked], areas[masked])

    def _add_fits(self, rows: Array, box: Array, areas: Array) -> None:
        """Keeps the IoU of boxes and masks of the images that are looked at first."""
        own = rows["own"].astype(np.float64)
        sides = own[:, 2:] - own[:, :2]
        shared = np.minimum(box[:, 2:], own[:, 2:]) - np.maximum(box[:, :2], own[:, :2])
        common = np.maximum(shared[:, 0], 0.0) * np.maximum(shared[:, 1], 0.0)
        union = areas + sides[:, 0] * sides[:, 1] - common
        fits = np.stack([self._rank[rows["image"]], common / np.maximum(union, 1e-9)], axis=1)
        fits = np.concatenate([self._fits, fits[sides.min(axis=1, initial=np.inf) >= SMALLEST]])
        self._fits = fits[np.argsort(fits[:, 0], kind="stable")[:ENOUGH]]

    def tightness(self) -> float | None:
        """Returns what `box_tightness` does."""
        found: list[float] = self._fits[:, 1].tolist()
        return sum(found) / len(found) if found else None

    def sizes(self) -> dict[str, Any]:
        """Returns what `sizes` of a file in memory does."""
        kinds = (self._boxes, np.float64), (self._masks, np.int64), (self._fills, np.float64)
        return size_table(*(np.concatenate([*some, np.zeros(0, kind)]) for some, kind in kinds))
