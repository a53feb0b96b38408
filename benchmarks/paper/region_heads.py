"""Mask heads on a frozen detector: regions pooled once, then each head trains and is
measured on them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from halfmask.data.dataset import CocoInstances
from halfmask.data.loader import build_loader
from halfmask.evaluation.measures.metrics import compute_metrics
from halfmask.masks.paste import expected_iou
from halfmask.models.mask_rcnn.box_heads import region_pool
from halfmask.models.mask_rcnn.build import build_mask_branch, region_rules
from halfmask.models.mask_rcnn.model import PartialMaskRCNN
from halfmask.models.mask_rcnn.regions import DetectedBoxes, MaskRegions, region_targets, rows_of
from halfmask.recipes.recipe import MaskHead, MaskRCNN, Stage
from halfmask.structures import Detection, Target
from halfmask.training.loop.optim import build_optimiser

INPUTS: dict[str, dict[str, Any]] = {
    "class-agnostic": {"kind": "agnostic"},
    "T(random)": {"kind": "transfer", "transfer": {"input": "random"}},
    "T(box)": {"kind": "transfer", "transfer": {"input": "box"}},
    "T(cls+box)": {"kind": "transfer", "transfer": {"input": "cls+box"}},
    "T(cls)": {"kind": "transfer", "transfer": {"input": "cls"}},
    "oracle": {"kind": "per_class"},
}
"""Inputs of the weight transfer function (Table 1a)."""
HEADS: dict[str, dict[str, Any]] = {
    **INPUTS,
    "T(names)": {"kind": "transfer", "transfer": {"input": "embedding"}},
    # T's structure and the MLP branch (Table 1b, 1c), on the recipe's own input.
    "T, 1 layer": {"transfer": {"layers": 1}},
    "T, 2 layers, ReLU": {"transfer": {"activation": "relu"}},
    "T, 3 layers, ReLU": {"transfer": {"layers": 3, "activation": "relu"}},
    "T, 3 layers, LeakyReLU": {"transfer": {"layers": 3}},
    "class-agnostic + MLP": {"kind": "agnostic", "mlp": "full"},
    "class-agnostic + light MLP": {"kind": "agnostic", "mlp": "light"},
    "T + MLP": {"mlp": "full"},
    "T + light MLP": {"mlp": "light"},
}
"""What each head changes in the recipe's. The oracle learns from the masks of all
classes; `T(names)` reads vectors of the class names, which the pictures' source makes.
"""
BATCH = 20


@dataclass(frozen=True)
class PooledTest:
    """What the heads are measured on: given and found boxes of the test pictures, their
    features in 16 bits.
    """

    test: CocoInstances
    targets: list[Target]
    given: Tensor
    found: list[DetectedBoxes]


@dataclass(frozen=True)
class PooledTraining:
    """Training regions of all classes, features in 16 bits; each split takes what it
    may know of them.

    Attributes:
        features: float16 [R, C, S, S]; labels: int64 [R].
        image: int64 [R], each region's row in `targets`; matched: int64 [R], its object
            there.
        regions: float32 [R, 4] xyxy, as masks are drawn on them (`region_targets`).
        targets: what is known of the pictures, with the masks of all classes.
    """

    features: Tensor
    labels: Tensor
    image: Tensor
    matched: Tensor
    regions: Tensor
    targets: list[Target]

    def split(self, labels: Collection[int]) -> MaskRegions:
        """All regions as they are where only the objects of these labels have masks."""
        masked, side = torch.tensor(sorted(labels)), 2 * self.features.shape[-1]
        drawn = torch.zeros((len(self.labels), side, side), dtype=torch.float16)
        unknown = torch.zeros(drawn.shape, dtype=torch.bool)
        for i, target in enumerate(self.targets):
            rows = torch.where(self.image == i)[0]
            known = torch.isin(target.labels, masked)
            stripped = replace(target, has_mask=known, masks=target.masks.select(known))
            cells = region_targets(stripped, self.matched[rows], self.regions[rows], side=side)
            drawn[rows], unknown[rows] = cells[0].half(), cells[1]
        return MaskRegions(
            features=self.features,
            labels=self.labels,
            targets=drawn,
            unknown=unknown,
            has_mask=torch.isin(self.labels, masked),
        )


def set_regions(model: PartialMaskRCNN, config: MaskRCNN, head: MaskHead) -> None:
    """Lets the model pool regions as this mask head wants them: their side, and which ones."""
    detector = config.detector
    model.mask_pool = region_pool(
        detector.strides, head.roi_size, head.sampling_ratio, legacy=detector.legacy_boxes
    )
    model.mask_branch.rules = region_rules(head)


def pool_training(
    model: PartialMaskRCNN, training: CocoInstances, images: int, seed: int
) -> PooledTraining:
    """The regions of the first `images` training pictures, of all classes; see `set_regions`."""
    torch.manual_seed(seed)
    rows: list[tuple[Tensor, ...]] = []
    targets: list[Target] = []
    for count, batch in enumerate(build_loader(training, BATCH, shuffle=False)):
        if count * BATCH >= images:
            break
        regions, where = model.placed_regions(*batch)
        counts = torch.tensor([len(matched) for matched in where.matched])
        image = torch.repeat_interleave(len(targets) + torch.arange(len(counts)), counts)
        placed, matched = torch.cat(where.regions), torch.cat(where.matched)
        rows.append((regions.features.half(), regions.labels, image, matched, placed))
        targets += batch[1]
    features, labels, image, matched, placed = (
        torch.cat(column) for column in zip(*rows, strict=True)
    )
    return PooledTraining(features, labels, image, matched, placed, targets)


def pool_test(model: PartialMaskRCNN, test: CocoInstances) -> PooledTest:
    """Detects on the test pictures, and pools what is found and what is given."""
    targets, given, found = [], [], []
    for pictures, known in build_loader(test, BATCH, shuffle=False):
        targets += known
        given.append(model.pool(pictures, [t.boxes for t in known]).half())
        for one in model.detect_boxes(pictures):
            found.append(
                DetectedBoxes(
                    boxes=one.boxes,
                    labels=one.labels,
                    scores=one.scores,
                    features=one.features.half(),
                    image_size=one.image_size,
                )
            )
    return PooledTest(test, targets, torch.cat(given), found)


def train_head(
    model: PartialMaskRCNN,
    head: MaskHead,
    stage: Stage,
    regions: MaskRegions,
    labels: Collection[int],
    seed: int,
) -> float:
    """Gives the model a new mask branch and trains it on the regions of these labels,
    or on all where box-only ones teach it too; returns the mean loss of the last steps.
    """
    torch.manual_seed(seed)
    predictor = model.box_heads.box_predictor
    branch = build_mask_branch(
        head,
        regions.features.shape[1],
        predictor.cls_score.out_features,
        box_width=predictor.cls_score.in_features,
    )
    # Channels last: a quarter faster on a CPU.
    model.mask_branch = branch.train().to(memory_format=torch.channels_last)
    rows = torch.where(torch.isin(regions.labels, torch.tensor(sorted(labels))))[0]
    assert len(rows) > 0, labels
    if branch.teacher is not None:
        rows = torch.arange(len(regions.labels))
    optimiser, schedule = build_optimiser(
        branch.named_parameters(), settings=stage.optimiser, steps=stage.steps
    )
    losses = []
    for _ in range(stage.steps):
        pick = rows[torch.randint(len(rows), (stage.batch_size,))]
        batch = rows_of(regions, pick)
        features = batch.features.float().contiguous(memory_format=torch.channels_last)
        loss = model.mask_loss(replace(batch, features=features, targets=batch.targets.float()))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
    branch.eval()
    tail = losses[-50:]
    return sum(tail) / len(tail)


def measure_head(
    model: PartialMaskRCNN, pooled: PooledTest, masked: Collection[int]
) -> dict[str, Any]:
    """`compute_metrics`'s blocks of the model's mask branch on the test pictures: box and mask
    AP, mask IoU on given boxes.
    """
    given = _given(model, pooled)
    return compute_metrics(pooled.test.file, _detections(model, pooled), given, masked=masked)


def _detections(model: PartialMaskRCNN, pooled: PooledTest) -> Iterator[tuple[int, Detection]]:
    for target, found in zip(pooled.targets, pooled.found, strict=True):
        probs = model.mask_probs(found.features.float(), found.labels)
        boxes, size = found.boxes, found.image_size
        regions = boxes + model.mask_shift  # as the model itself spreads its masks
        yield (
            target.image_id,
            Detection(
                boxes=boxes,
                labels=found.labels,
                scores=found.scores,
                mask_probs=probs,
                regions=regions,
                quality=expected_iou(probs),
                image_size=size,
            ),
        )


def _given(model: PartialMaskRCNN, pooled: PooledTest) -> Iterator[tuple[int, Tensor, Detection]]:
    features = torch.split(pooled.given, [len(t) for t in pooled.targets])
    for target, rows, found in zip(pooled.targets, features, pooled.found, strict=True):
        probs = model.mask_probs(rows.float(), target.labels)
        ones = torch.ones(len(target))
        regions, quality = target.boxes + model.mask_shift, expected_iou(probs)
        drawn = Detection(
            boxes=target.boxes,
            labels=target.labels,
            scores=ones,
            mask_probs=probs,
            regions=regions,
            quality=quality,
            image_size=found.image_size,
        )
        yield target.image_id, target.annotation_ids, drawn


def head_settings(base: MaskHead, change: dict[str, Any], name_vectors: Path) -> MaskHead:
    """The recipe's mask head with a head's change (as in HEADS); name_vectors: the file
    that `T(names)` reads.
    """
    if change.get("transfer", {}).get("input") == "embedding":
        size = int(np.load(name_vectors).shape[1])
        change = change | {
            "transfer": {
                **change["transfer"],
                "embedding": str(name_vectors),
                "embedding_size": size,
            }
        }
    return change_head(base, change)


def change_head(base: MaskHead, change: dict[str, Any]) -> MaskHead:
    """A mask head with some keys changed, those of `transfer` one by one."""
    transfer = base.transfer.model_dump() | change.get("transfer", {})
    return MaskHead.model_validate(base.model_dump() | change | {"transfer": transfer})
