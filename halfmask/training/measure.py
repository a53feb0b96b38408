"""Measures a box segmenter's masks in true boxes, with the features of its quality score."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from halfmask.data.dataset import CocoInstances
from halfmask.distributed import current
from halfmask.errors import InputError
from halfmask.masks.crops import iou
from halfmask.models.box_segmenter.looks import LIGHTER, Effort, expect_effort
from halfmask.models.box_segmenter.quality import FEATURES
from halfmask.models.build import build_model
from halfmask.models.checkpoint import load_checkpoint, load_weights
from halfmask.progress import Progress
from halfmask.structures import Detection, Target

logger = logging.getLogger("halfmask")

Columns = tuple[Tensor, Tensor]
"""Features float32 [n, F] of masks, and their IoUs float32 [n]."""


@dataclass(frozen=True, kw_only=True)
class MeasuredMasks:
    """Predicted masks beside their true ones.

    Attributes:
        features: float32 [n, F], see `models.box_segmenter.quality`.
        ious: float32 [n], with the true masks.
        classes, images, annotations: ids of each mask.
        lighter: features and IoUs of the same objects with fewer looks, by effort.
    """

    features: Tensor
    ious: Tensor
    classes: list[int]
    images: list[int]
    annotations: list[int]
    lighter: dict[Effort, Columns] = field(default_factory=dict)

    def calibrate(self, model: Any) -> None:
        """Fits a box segmenter's quality scores to these masks, one for each effort."""
        model.quality_score.fit(self.features, self.ious)
        for effort, columns in self.lighter.items():
            model.quality_score.of(effort).fit(*columns)

    def select(self, rows: Sequence[bool] | NDArray[np.bool_]) -> MeasuredMasks:
        """Returns the masks at which `rows` (bool [n]) is true."""
        places = [k for k, wanted in enumerate(rows) if wanted]
        return MeasuredMasks(
            features=self.features[places],
            ious=self.ious[places],
            classes=[self.classes[k] for k in places],
            images=[self.images[k] for k in places],
            annotations=[self.annotations[k] for k in places],
            lighter={e: (f[places], i[places]) for e, (f, i) in self.lighter.items()},
        )

    @classmethod
    def joined(cls, parts: Collection[MeasuredMasks]) -> MeasuredMasks:
        """Returns the masks of several measurements, in their order."""
        return cls(
            features=torch.cat([p.features for p in parts]),
            ious=torch.cat([p.ious for p in parts]),
            classes=[i for p in parts for i in p.classes],
            images=[i for p in parts for i in p.images],
            annotations=[i for p in parts for i in p.annotations],
            lighter={
                effort: _joined([p.lighter[effort] for p in parts])
                for effort in LIGHTER
                if all(effort in p.lighter for p in parts)
            },
        )


def load_for_measuring(checkpoint: Path, *, zooms: bool = True) -> Any:
    """Returns a checkpoint's model on the training's device, in evaluation mode.

    Args:
        zooms: read each box with all of the model's contexts; else with the first one
            alone, mirrored too where the model does so.
    """
    found = load_checkpoint(checkpoint)
    config = found.recipe.model
    if not zooms and config.kind == "box_segmenter":
        config = config.model_copy(update={"zooms": []})
    model = build_model(config, len(found.categories) + 1, pretrained=False)
    load_weights(model, found.state, checkpoint)
    return model.to(current().device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()


def measure_masks(
    model: Any,
    pictures: CocoInstances,
    chosen: Mapping[int, Tensor],
    *,
    title: str,
    progress: Progress,
) -> MeasuredMasks:
    """Predicts masks in true boxes and measures their IoU.

    Args:
        model: with `segment`; the features of one without `segment_with_features` (a
            rule) are zeros.
        pictures: images with the true masks.
        chosen: index of an image → rows of its Target (int64 [k]) that have a mask.
        title: of the task, for `progress`.
    Raises:
        InputError: none of the photographs can be read.
    """
    columns: list[Columns] = []
    lighter: dict[Effort, list[Columns]] = {}
    ids: list[tuple[int, int, int]] = []
    for image, target, rows in readable(pictures, chosen, title=title, progress=progress):
        boxes, labels = target.boxes[rows], target.labels[rows]
        true = target.masks.select(target.mask_row[rows])
        found, features = _drawn(model, image, boxes, labels=labels)
        columns.append((features, iou(found.crops(), true)))
        for effort, drawn, marks in _drawn_lighter(model, image, boxes, labels=labels):
            lighter.setdefault(effort, []).append((marks, iou(drawn.crops(), true)))
        names = [pictures.file.categories[k - 1]["id"] for k in target.labels[rows].tolist()]
        ids += [
            (i, target.image_id, a)
            for i, a in zip(names, target.annotation_ids[rows].tolist(), strict=True)
        ]
    classes, images, annotations = (list(column) for column in zip(*ids, strict=True))
    features, ious = _joined(columns)
    return MeasuredMasks(
        features=features,
        ious=ious,
        classes=classes,
        images=images,
        annotations=annotations,
        lighter={effort: _joined(parts) for effort, parts in lighter.items()},
    )


def _joined(parts: Sequence[Columns]) -> Columns:
    features, ious = zip(*parts, strict=True)
    return torch.cat(features), torch.cat(ious)


def _drawn_lighter(
    model: Any, image: Tensor, boxes: Tensor, *, labels: Tensor
) -> Iterator[tuple[Effort, Detection, Tensor]]:
    """Yields the masks of a box segmenter's lighter efforts, and their features."""
    if not hasattr(model, "best_looks"):
        return
    try:
        for effort in LIGHTER:
            expect_effort(model, effort)
            yield effort, *_drawn(model, image, boxes, labels=labels)
    finally:
        expect_effort(model, "best")


def readable(
    pictures: CocoInstances, chosen: Mapping[int, Tensor], *, title: str, progress: Progress
) -> Iterator[tuple[Tensor, Target, Tensor]]:
    """Yields image, Target and chosen rows; names photographs that cannot be read.

    Raises:
        InputError: none can be read.
    """
    faults = []
    for done, (index, rows) in enumerate(chosen.items()):
        try:
            image, target = pictures[index]
        except InputError as error:
            faults.append(error)
            logger.warning("%s: left out: %s", title, error)
        else:
            yield image, target, rows
        progress(title, done + 1, len(chosen))
    if faults and len(faults) == len(chosen):
        raise faults[0]


def scores_of(
    model: Any, pictures: CocoInstances, chosen: Mapping[int, Tensor], *, progress: Progress
) -> tuple[Tensor, list[int]]:
    """Scores masks that have no truth.

    Args:
        chosen: index of an image → rows of its Target.
    Returns:
        The scores, float32 [n], and the masks' category ids.
    """
    scores, classes = [torch.zeros(0)], []
    title = "scoring masks without a truth"
    for image, target, rows in readable(pictures, chosen, title=title, progress=progress):
        found, _ = _drawn(model, image, target.boxes[rows], labels=target.labels[rows])
        scores.append(found.quality.cpu())
        classes += [pictures.file.categories[k - 1]["id"] for k in target.labels[rows].tolist()]
    return torch.cat(scores), classes


@torch.no_grad()
def _drawn(model: Any, image: Tensor, boxes: Tensor, *, labels: Tensor) -> tuple[Detection, Tensor]:
    """Returns the masks in an image's boxes, and their features float32 [k, F]."""
    parameter = next(model.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    given = [image.to(device)], [boxes.to(device)], [labels.to(device)]
    if hasattr(model, "segment_with_features"):
        found, features = model.segment_with_features(*given)[0]
        return found, features.cpu()
    return model.segment(*given)[0], torch.zeros(len(boxes), len(FEATURES))
