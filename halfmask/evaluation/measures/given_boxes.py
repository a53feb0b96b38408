"""Mask IoU in given boxes: the quality of masks alone, whatever the quality of boxes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfmask.coco.doctor.diagnosis import LARGE, SMALL
from halfmask.evaluation.measures.reliability import reliability

Block = dict[str, float | int | None]


@dataclass(kw_only=True)
class IouTable:
    """One row for each instance with a usable mask: the predicted mask's IoU and score.

    Crowds have no row. `image_ids` and `places` (the row among the boxes given on that
    image) identify the instance, because files repeat annotation ids.
    """

    categories: list[int] = field(default_factory=list)
    ious: list[float] = field(default_factory=list)
    areas: list[int] = field(default_factory=list)
    from_rle: list[bool] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    image_ids: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    def add(
        self,
        category_id: int,
        iou: float,
        area: int,
        *,
        from_rle: bool,
        score: float = 1.0,
        instance: tuple[int, int] = (0, 0),
    ) -> None:
        """Adds an instance.

        Args:
            category_id: The file's id of its class.
            iou: Of the predicted and the true mask, in [0, 1].
            area: Of the true mask, pixels.
            from_rle: Whether the truth is RLE; otherwise it is polygons.
            score: The model's estimate of `iou`.
            instance: Image id and place.
        """
        self.categories.append(category_id)
        self.ious.append(iou)
        self.areas.append(area)
        self.from_rle.append(from_rle)
        self.scores.append(score)
        self.image_ids.append(instance[0])
        self.places.append(instance[1])

    def block(self, category_ids: Collection[int] | None = None) -> Block:
        """Mean IoU over the instances of some classes; null without instances.

        `category_ids` None means all classes. Keys: miou, miou_per_category_mean (each
        class counts once), S, M, L (COCO's areas of the true mask), instances, and
        polygon and rle, separate means by the kind of truth: RLE often comes from
        panoptic maps, whose borders differ a little.
        """
        chosen = self._rows(category_ids)
        ious = np.asarray(self.ious, dtype=np.float64)[chosen]
        areas = np.asarray(self.areas, dtype=np.int64)[chosen]
        rle = np.asarray(self.from_rle, dtype=bool)[chosen]
        categories = np.asarray(self.categories, dtype=np.int64)[chosen]
        per_category = np.asarray(
            [ious[categories == c].mean() for c in np.unique(categories)], dtype=np.float64
        )
        return {
            "miou": _mean(ious),
            "miou_per_category_mean": _mean(per_category),
            "S": _mean(ious[areas < SMALL]),
            "M": _mean(ious[(areas >= SMALL) & (areas < LARGE)]),
            "L": _mean(ious[areas >= LARGE]),
            "instances": len(ious),
            "polygon": _mean(ious[~rle]),
            "rle": _mean(ious[rle]),
        }

    def quality(self, category_ids: Collection[int] | None = None) -> dict[str, Any]:
        """`reliability` of the scores of some classes' instances (None: all)."""
        chosen = self._rows(category_ids)
        return reliability(
            np.asarray(self.scores, dtype=np.float64)[chosen],
            np.asarray(self.ious, dtype=np.float64)[chosen],
        )

    def _rows(self, category_ids: Collection[int] | None) -> NDArray[np.bool_]:
        if category_ids is None:
            return np.ones(len(self.categories), dtype=bool)
        return np.asarray([c in category_ids for c in self.categories], dtype=bool)


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if values.size else None
