"""Mask IoU in given boxes: the quality of masks alone, whatever the quality of boxes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from halfmask.coco.annotations import Annotations
from halfmask.coco.doctor.sizes import LARGE, SMALL
from halfmask.coco.records import clip_box
from halfmask.coco.supervision import MaskState, Use, is_crowd
from halfmask.evaluation.measures.ambiguous import AmbiguousTable
from halfmask.evaluation.measures.reliability import reliability
from halfmask.masks.boundary import boundary_iou
from halfmask.masks.crops import MaskCrops, decode, iou
from halfmask.structures import Detection

Block = dict[str, Any]
GivenMasks = tuple[int, Tensor, Detection]
"""Image id, annotation ids int64 [n], and the masks drawn into these annotations' boxes."""


@dataclass(kw_only=True)
class IouTable:
    """One row for each instance with a usable mask: the predicted mask's IoU and score.

    Crowds have no row. `image_ids` and `places` (the row among the boxes given on that
    image) identify the instance, because files repeat annotation ids.
    """

    categories: list[int] = field(default_factory=list)
    ious: list[float] = field(default_factory=list)
    boundary_ious: list[float] = field(default_factory=list)
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
        boundary: float = 0.0,
        score: float = 1.0,
        instance: tuple[int, int] = (0, 0),
    ) -> None:
        """Adds an instance.

        Args:
            category_id: The file's id of its class.
            iou: Of the predicted and the true mask, in [0, 1].
            area: Of the true mask, pixels.
            from_rle: Whether the truth is RLE; otherwise it is polygons.
            boundary: The boundary IoU of both masks.
            score: The model's estimate of `iou`.
            instance: Image id and place.
        """
        self.categories.append(category_id)
        self.ious.append(iou)
        self.boundary_ious.append(boundary)
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
        panoptic maps, whose borders differ a little. `boundary` holds the same means of
        the boundary IoU.
        """
        chosen = self._rows(category_ids)
        means = self._means(self.ious, chosen)
        count = {"instances": int(chosen.sum())}
        return {**means, **count, "boundary": self._means(self.boundary_ious, chosen)}

    def _means(self, values: list[float], chosen: NDArray[np.bool_]) -> dict[str, float | None]:
        ious = np.asarray(values, dtype=np.float64)[chosen]
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


def measure_given(
    file: Annotations,
    given: Iterable[GivenMasks],
    use: Use,
    *,
    table: IouTable,
    ignored: Collection[int],
) -> tuple[AmbiguousTable, set[int]]:
    """Compares given masks with the truth, one image at a time.

    Args:
        file: The truth.
        given: The masks of some images.
        use: Which masks of halfmask's own count as truth.
        table: Gets a row for each instance.
        ignored: Category ids that do not count.
    Returns:
        The table of ambiguous boxes, and the ids of the images.
    """
    ambiguous = AmbiguousTable()
    images: set[int] = set()
    for image_id, annotation_ids, drawn in given:
        images.add(image_id)
        rows = _annotations(file, image_id, annotation_ids.tolist())
        usable = [
            i
            for i, row in enumerate(rows)
            if file.state_of(row, use) is MaskState.MASK and row["category_id"] not in ignored
        ]
        size, kept = drawn.image_size, [rows[i] for i in usable]
        crops = [decode(row["segmentation"], size) for row in kept]
        truth = MaskCrops.from_bitmaps([c[0] for c in crops], [c[1] for c in crops], size)
        predicted = drawn.select(torch.tensor(usable, dtype=torch.int64)).crops()
        # The file's own boxes, even if the model was given loosened ones.
        corners = [clip_box(row["bbox"], size) or (0.0, 0.0, 0.0, 0.0) for row in kept]
        boxes = torch.tensor(corners).reshape(-1, 4)
        labels = [row["category_id"] for row in kept]
        ambiguous.add_image(labels, boxes, truth=truth, predicted=predicted)
        values, borders = iou(truth, predicted).tolist(), boundary_iou(truth, predicted).tolist()
        columns = zip(usable, kept, values, borders, truth.areas().tolist(), strict=True)
        for i, row, value, border, area in columns:
            table.add(
                row["category_id"],
                value,
                area,
                from_rle=isinstance(row["segmentation"], dict),
                boundary=border,
                score=float(drawn.quality[i]),
                instance=(image_id, i),
            )
    return ambiguous, images


def _annotations(file: Annotations, image_id: int, numbers: list[int]) -> list[dict[str, Any]]:
    """The annotations with these ids; a repeated id means them in file order."""
    waiting: dict[int, list[dict[str, Any]]] = {}
    for annotation in file.annotations_of(image_id):
        if not is_crowd(annotation):
            waiting.setdefault(annotation["id"], []).append(annotation)
    return [waiting[number].pop(0) for number in numbers]


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if values.size else None
