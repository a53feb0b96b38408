"""Boxes shared by objects of different classes, as a person and the bicycle below.

The box does not say which of its pixels belong to the object; only the class does.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from halfmask.masks.crops import MaskCrops, iou

NEAR, SAME = 0.3, 0.7
"""Least IoU with another class's box, for an ambiguous box and for the same box."""


@dataclass
class AmbiguousTable:
    """One row for each instance whose box is shared with an instance of another class.

    A row holds the IoU of its mask with its own truth and with the other's. Both
    instances have usable masks. Of several others, the one with the nearest box counts.
    """

    categories: list[int] = field(default_factory=list)
    nearness: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)
    other: list[float] = field(default_factory=list)

    def add_image(
        self, categories: list[int], boxes: Tensor, *, truth: MaskCrops, predicted: MaskCrops
    ) -> None:
        """Adds the n instances of one image.

        Args:
            categories: n class ids.
            boxes: float32 [n, 4] xyxy, pixels.
            truth: n true masks.
            predicted: n predicted masks.
        """
        if len(categories) < 2:
            return
        classes = torch.tensor(categories)
        near = box_iou(boxes, boxes) * (classes[:, None] != classes[None])
        best, partner = near.max(1)
        rows = torch.where(best >= NEAR)[0]
        own = iou(truth.select(rows), predicted.select(rows))
        other = iou(truth.select(partner[rows]), predicted.select(rows))
        self.categories += classes[rows].tolist()
        self.nearness += best[rows].tolist()
        self.own += own.tolist()
        self.other += other.tolist()

    def block(self, category_ids: Collection[int] | None = None) -> dict[str, Any]:
        """Means over the instances of some classes (None: all); null without instances.

        Keys: instances; miou (with the own truth); told_apart, the share of masks that
        overlap their own truth more than the other's, ties counted as a half (a model
        that ignores the class draws one mask for both and gets 0.5); and same_box, with
        the same three keys for boxes with an IoU of at least `SAME`.
        """
        chosen = np.asarray(
            [category_ids is None or c in category_ids for c in self.categories], dtype=bool
        )
        same = np.asarray(self.nearness) >= SAME
        return {**self._means(chosen), "same_box": self._means(chosen & same)}

    def _means(self, chosen: np.ndarray[Any, np.dtype[np.bool_]]) -> dict[str, float | int | None]:
        own, other = np.asarray(self.own)[chosen], np.asarray(self.other)[chosen]
        apart = (own > other) + 0.5 * (own == other)
        some = len(own) > 0
        return {
            "instances": len(own),
            "miou": float(own.mean()) if some else None,
            "told_apart": float(apart.mean()) if some else None,
        }
