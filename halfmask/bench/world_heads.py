"""Mask heads on a frozen detector of the procedural world: regions pooled once, then each head trains and is measured on them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from halfmask.config import MaskHead, Stage, Transfer
from halfmask.data.dataset import CocoInstances
from halfmask.data.loader import build_loader
from halfmask.engine.optim import build_optimiser
from halfmask.evaluation.evaluate import evaluate
from halfmask.masks import expected_iou
from halfmask.models.build import build_mask_branch
from halfmask.models.rcnn import HALF_PIXEL, FoundBoxes, MaskRegions, PartialMaskRCNN
from halfmask.structures import Detection, Target

HEADS: dict[str, dict[str, Any]] = {
    "class-agnostic": {"kind": "agnostic"},
    "T(random)": {"kind": "transfer", "transfer": {"input": "random"}},
    "T(box)": {"kind": "transfer", "transfer": {"input": "box"}},
    "T(cls+box)": {"kind": "transfer", "transfer": {"input": "cls+box"}},
    "T(cls)": {"kind": "transfer", "transfer": {"input": "cls"}},
    "oracle": {"kind": "per_class"},
}
"""What each head changes in the recipe's. The oracle learns from the masks of all classes."""
BATCH = 20


@dataclass(frozen=True)
class Pooled:
    """What the heads see, in 16 bits: regions of the training pictures, and given and found boxes of the test pictures."""

    training: MaskRegions
    test: CocoInstances
    targets: list[Target]
    given: Tensor
    found: list[FoundBoxes]


def pool_regions(
    model: PartialMaskRCNN, training: CocoInstances, images: int, test: CocoInstances, seed: int
) -> Pooled:
    """Pools the regions of the first `images` training pictures, of all classes; a head then takes those of its classes."""
    torch.manual_seed(seed)
    rows = []
    for count, batch in enumerate(build_loader(training, BATCH, shuffle=False)):
        if count * BATCH >= images:
            break
        regions = model.mask_regions(*batch)
        rows.append((regions.features.half(), regions.labels, regions.targets.half()))
    targets, given, found = [], [], []
    for pictures, known in build_loader(test, BATCH, shuffle=False):
        targets += known
        given.append(model.pool(pictures, [t.boxes for t in known]).half())
        for one in model.detect_boxes(pictures):
            found.append(FoundBoxes(one.boxes, one.labels, one.scores, one.features.half(), one.image_size))
    features, labels, drawn = (torch.cat(column) for column in zip(*rows, strict=True))
    return Pooled(MaskRegions(features, labels, drawn), test, targets, torch.cat(given), found)


def train_head(
    model: PartialMaskRCNN, head: MaskHead, stage: Stage, regions: MaskRegions, labels: Collection[int], seed: int
) -> float:
    """Gives the model a new mask branch and trains it on the regions of these labels; returns the mean loss of the last steps."""
    torch.manual_seed(seed)
    predictor = model.box_heads.box_predictor
    branch = build_mask_branch(
        head, regions.features.shape[1], predictor.cls_score.out_features, predictor.cls_score.in_features
    )
    # Channels last: a quarter faster on a CPU.
    model.mask_branch = branch.train().to(memory_format=torch.channels_last)
    rows = torch.where(torch.isin(regions.labels, torch.tensor(sorted(labels))))[0]
    assert len(rows) > 0, labels
    optimiser, schedule = build_optimiser(branch.named_parameters(), stage.optimiser, stage.steps)
    losses = []
    for _ in range(stage.steps):
        pick = rows[torch.randint(len(rows), (stage.batch_size,))]
        features = regions.features[pick].float().contiguous(memory_format=torch.channels_last)
        batch = MaskRegions(features, regions.labels[pick], regions.targets[pick].float())
        loss = model.mask_loss(batch)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
    branch.eval()
    tail = losses[-50:]
    return sum(tail) / len(tail)


def measure_head(model: PartialMaskRCNN, pooled: Pooled, masked: Collection[int]) -> dict[str, Any]:
    """`evaluate`'s blocks of the model's mask branch on the test pictures: box and mask AP, mask IoU on given boxes."""
    return evaluate(pooled.test.file, _detections(model, pooled), _given(model, pooled), masked)


def _detections(model: PartialMaskRCNN, pooled: Pooled) -> Iterator[tuple[int, Detection]]:
    for target, found in zip(pooled.targets, pooled.found, strict=True):
        probs = model.mask_probs(found.features.float(), found.labels)
        boxes, size = found.boxes, found.image_size
        regions = boxes + HALF_PIXEL  # as the model itself spreads its masks
        yield target.image_id, Detection(boxes, found.labels, found.scores, probs, regions, expected_iou(probs), size)


def _given(model: PartialMaskRCNN, pooled: Pooled) -> Iterator[tuple[int, Tensor, Detection]]:
    features = torch.split(pooled.given, [len(t) for t in pooled.targets])
    for target, rows, found in zip(pooled.targets, features, pooled.found, strict=True):
        probs = model.mask_probs(rows.float(), target.labels)
        ones = torch.ones(len(target))
        regions, quality = target.boxes + HALF_PIXEL, expected_iou(probs)
        drawn = Detection(target.boxes, target.labels, ones, probs, regions, quality, found.image_size)
        yield target.image_id, target.annotation_ids, drawn


def head_settings(base: MaskHead, name: str) -> MaskHead:
    """The recipe's mask head with what HEADS says of `name`."""
    change = dict(HEADS[name])
    transfer = Transfer.model_validate(base.transfer.model_dump() | change.pop("transfer", {}))
    return MaskHead.model_validate(base.model_dump() | change | {"transfer": transfer.model_dump()})
