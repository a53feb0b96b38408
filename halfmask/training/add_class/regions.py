"""Regions of a data set as the box head reads them, computed once.

The box head stays fixed while the rows of added classes learn, so its 1024 numbers for
a region are all that they need: no photograph is read twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from halfmask.data.dataset import CocoInstances
from halfmask.data.loader import build_loader
from halfmask.data.unreadable import SkipUnreadable
from halfmask.errors import InputError
from halfmask.models.mask_rcnn.box_heads import SampledRegions
from halfmask.models.mask_rcnn.images import training_batch, training_flag
from halfmask.models.mask_rcnn.model import PartialMaskRCNN
from halfmask.progress import Progress

BATCH = 4
"""Photographs in one call of the network: bounds the memory."""
MOST_REGIONS = 400_000
"""Regions kept of a data set: 0.8 GB for a box head of width 1024."""
LEAST_OF_IMAGE = 8
"""Regions kept of each photograph, however many there are."""


@dataclass(frozen=True, kw_only=True)
class BoxRegions:
    """What the rows of n added classes learn from.

    Attributes:
        hidden: float16 [R, D], the box head's answer for each region.
        rest: float32 [R], logsumexp of all logits before the added ones.
        labels: int64 [R], 1…n; 0: none of the added classes.
        offsets: float32 [R, 4], encoded offsets to the object's box; of label 0 unused.
        weights: float32 [R], how many sampled regions each stands for.
    """

    hidden: Tensor
    rest: Tensor
    labels: Tensor
    offsets: Tensor
    weights: Tensor

    def counts(self, classes: int) -> list[int]:
        """Returns the number of regions of each added class."""
        return torch.bincount(self.labels, minlength=classes + 1)[1:].tolist()


def sample_box_regions(
    model: PartialMaskRCNN,
    images: CocoInstances,
    *,
    unreadable: float = 0.01,
    seed: int = 0,
    progress: Progress | None = None,
) -> BoxRegions:
    """Samples regions of each photograph as for a training step of the box head.

    Objects are those of the added classes alone: what is known of others, and
    background, is "none of them". Regions of objects are all kept; of the others as
    many as `MOST_REGIONS` leaves room for.

    Args:
        model: in eval mode, before the classes are added.
        images: photographs with boxes of the n added classes, labels 1…n.
        unreadable: see the recipe's key of that name.
        seed: of the sampling.
        progress: receives ("regions", photographs read, photographs).
    Raises:
        InputError: too many photographs cannot be read, or no region shows an object.
    """
    torch.manual_seed(seed)
    examples = SkipUnreadable(images, unreadable)
    most = max(LEAST_OF_IMAGE, MOST_REGIONS // len(images))
    rows: list[tuple[Tensor, ...]] = []
    for number, (pictures, targets) in enumerate(build_loader(examples, BATCH, shuffle=False), 1):
        batch, boxes = training_batch(model.transform, pictures, targets)
        with torch.inference_mode():
            features = model.features(batch.tensors)
            with training_flag(model.rpn, False):
                proposals, _ = model.rpn(batch, features)
            found = model.box_heads.sample(proposals, boxes)
            kept = [_kept(labels, most) for labels in found.labels]
            part = _picked(found, [index for index, _ in kept])
            hidden = model.box_heads.hidden(features, part.boxes, batch.image_sizes)
            rest = model.box_heads.box_predictor(hidden)[0].float().logsumexp(1)
        columns = (torch.cat(part.labels), torch.cat(part.box_targets))
        rows.append((hidden.half(), rest, *columns, torch.cat([weight for _, weight in kept])))
        if progress is not None:
            progress("regions", min(number * BATCH, len(images)), len(images))
    hidden, rest, labels, offsets, weights = (
        torch.cat(column) for column in zip(*rows, strict=True)
    )
    if not bool((labels > 0).any()):
        raise InputError(f"{images.file.name}: no region of its photographs shows an added class")
    return BoxRegions(hidden=hidden, rest=rest, labels=labels, offsets=offsets, weights=weights)


def _kept(labels: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Returns the rows of an image to keep, and how many each stands for."""
    objects, others = torch.where(labels > 0)[0], torch.where(labels == 0)[0]
    room = min(len(others), max(most - len(objects), 1))
    chosen = others[torch.randperm(len(others))[:room]].sort().values
    weights = torch.ones(len(objects) + room)
    weights[len(objects) :] = len(others) / max(room, 1)
    return torch.cat([objects, chosen]), weights


def _picked(regions: SampledRegions, rows: list[Tensor]) -> SampledRegions:
    columns = (regions.boxes, regions.matched, regions.labels, regions.box_targets)
    return SampledRegions(
        *([column[k][index] for k, index in enumerate(rows)] for column in columns)
    )
