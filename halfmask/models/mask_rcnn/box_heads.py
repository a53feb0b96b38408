"""The box head on torchvision's RoIHeads, with sampling for partial supervision.

`BoxHeads` is the project's one subclass of a concrete class. It adds methods and
overrides none: torchvision's `forward` decides by `self.training`, and a frozen
detector under a mask head that learns needs its caller to decide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.roi_heads import RoIHeads

from halfmask import distributed
from halfmask.models.base import precise
from halfmask.models.image_rng import MASKS, REGIONS, ImageSampler, image_rng
from halfmask.models.mask_rcnn.added_classes import ClassGroup, GrownPredictor, merged
from halfmask.models.mask_rcnn.detections import DetectionRules, LazyOffsets, Sizes, detections
from halfmask.models.mask_rcnn.detectron_geometry import DetectronPool
from halfmask.models.mask_rcnn.detectron_training import (
    RPN_BETA,
    box_losses,
    goal_boxes,
    with_crowds,
)
from halfmask.models.mask_rcnn.pooling import RegionPool

Features = dict[str, Tensor]
BoxTargets = list[dict[str, Tensor]]

FOREGROUND = 0.25
"""Greatest share of foreground among sampled regions."""


@dataclass(frozen=True)
class SampledRegions:
    """Regions of a training batch, a list entry for each image.

    Attributes:
        boxes: float32 [r, 4] xyxy, pixels of the resized image.
        matched: int64 [r], row of the object that each region is matched to (0 in an
            image without objects); rows beyond the objects are crowds.
        labels: int64 [r], class of the matched object, 0 for background.
        box_targets: float32 [r, 4], encoded offsets to the matched object's box.
    """

    boxes: list[Tensor]
    matched: list[Tensor]
    labels: list[Tensor]
    box_targets: list[Tensor]


class BoxHeads(RoIHeads):
    """Samples regions, scores them, and turns them into detections.

    Args:
        pool: [levels, boxes] → [R, C, S, S].
        head: [R, C, S, S] → [R, width].
        predictor: torchvision's FastRCNNPredictor: [R, width] → class logits [R, K] and
            offsets [R, 4K].
        batch: regions sampled for each image, a quarter at most foreground (IoU ≥ 0.5
            with an object).
        rules: of the detections.
        beta: of the box loss (`box_beta`).
    """

    def __init__(
        self,
        pool: RegionPool | DetectronPool,
        head: nn.Module,
        predictor: nn.Module,
        *,
        batch: int = 512,
        rules: DetectionRules | None = None,
        beta: float = RPN_BETA,
    ) -> None:
        rules = rules or DetectionRules(0.05, 0.5, 100)
        super().__init__(
            pool,
            head,
            predictor,
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=batch,
            positive_fraction=FOREGROUND,
            bbox_reg_weights=None,
            score_thresh=rules.score,
            nms_thresh=rules.nms,
            detections_per_img=rules.most,
        )
        self.rules = rules
        self.beta = beta
        sampler = BalancedPositiveNegativeSampler(batch, FOREGROUND)
        self.fg_bg_sampler = ImageSampler(sampler, REGIONS)

    def sample(self, proposals: list[Tensor], targets: BoxTargets) -> SampledRegions:
        """Returns torchvision's training regions: proposals and objects' boxes."""
        if not any("crowds" in target for target in targets):
            return SampledRegions(*self.select_training_samples(proposals, targets))
        boxes, matched, labels = self._assigned(proposals, targets)
        rows = zip(boxes, matched, targets, strict=True)
        goals = self.box_coder.encode([goal_boxes(*row) for row in rows], boxes)
        every = SampledRegions(boxes, matched, labels, list(goals))
        return _picked(every, self.subsample(labels))

    def sample_masked(
        self, proposals: list[Tensor], targets: BoxTargets, has_mask: list[Tensor]
    ) -> SampledRegions:
        """Returns foreground regions of objects that have a mask (paper, stage 2, 2.2).

        A mask head on a frozen detector learns from them. There are as many as `sample`
        may draw, and box-only objects take none of them. A region that matches a
        box-only object is left out, never assigned to a neighbour.
        """
        boxes, matched, labels = self._assigned(proposals, targets)
        kept = []
        for index, (match, label, mask) in enumerate(zip(matched, labels, has_mask, strict=True)):
            usable = _with_mask(label, match, mask)
            with image_rng(index, MASKS):
                order = torch.randperm(len(usable), device=usable.device)[: self.foreground_limit]
            kept.append(usable[order].sort().values)
        return _picked(SampledRegions(boxes, matched, labels, [b[:, :0] for b in boxes]), kept)

    def _assigned(
        self, proposals: list[Tensor], targets: BoxTargets
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Returns candidates, the row of the object or crowd of each, and their labels."""
        boxes = self.add_gt_proposals(
            proposals, [t["boxes"].to(p) for t, p in zip(targets, proposals, strict=True)]
        )
        places, classes = zip(*(with_crowds(target) for target in targets), strict=True)
        return boxes, *self.assign_targets_to_proposals(boxes, list(places), list(classes))

    @property
    def foreground_limit(self) -> int:
        """The most foreground regions of an image."""
        return int(self.fg_bg_sampler.batch_size_per_image * self.fg_bg_sampler.positive_fraction)

    def losses(
        self, features: Features, regions: SampledRegions, sizes: Sizes
    ) -> dict[str, Tensor]:
        """Returns `loss_classifier` and `loss_box_reg` of every object, masked or not."""
        logits, offsets = self._score(features, regions.boxes, sizes)
        labels, goals = torch.cat(regions.labels), torch.cat(regions.box_targets)
        classifier, box_reg = box_losses(logits, offsets, labels, goals=goals, beta=self.beta)
        scale = distributed.mean_scale(len(logits))  # both are means over the sampled regions
        return {"loss_classifier": classifier * scale, "loss_box_reg": box_reg * scale}

    def find(
        self,
        features: Features,
        proposals: list[Tensor],
        sizes: Sizes,
        *,
        frame: tuple[list[Tensor], Sizes] | None = None,
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Returns boxes [n, 4], labels [n], scores [n] of each image, best first.

        Args:
            proposals: float [r, 4] for each image, pixels of the resized images, (H, W)
                `sizes`.
            frame: the proposals in another frame and its sizes, in which offsets apply
                and boxes are returned.
        """
        places, limits = (proposals, sizes) if frame is None else frame
        rules: Any = {"sizes": limits, "coder": self.box_coder, "rules": self.rules}
        groups = self._groups(features, proposals, sizes)
        parts = [detections(g.logits, g.offsets, places, **rules) for g in groups]
        boxes, scores, labels = merged(parts, [g.first for g in groups])
        return boxes, labels, scores

    def classify(
        self, features: Features, boxes: list[Tensor], sizes: Sizes
    ) -> tuple[Tensor, Tensor]:
        """Returns each box's likeliest foreground class, int64 [R], and its score."""
        groups = self._groups(features, boxes, sizes)
        scores, labels = torch.cat([g.logits.softmax(1)[:, 1:] for g in groups], 1).max(1)
        return labels + 1, scores

    @property
    def added(self) -> list[int]:
        """The first label of each group of classes added to the trained ones."""
        predictor = self.box_predictor
        return predictor.firsts if isinstance(predictor, GrownPredictor) else []

    def rows(self) -> tuple[Tensor, Tensor]:
        """Returns the weights of classes and boxes, [K, D] and [4K, D]."""
        predictor = self.box_predictor
        if isinstance(predictor, GrownPredictor):
            return predictor.rows()
        return predictor.cls_score.weight, predictor.bbox_pred.weight

    def hidden(self, features: Features, boxes: list[Tensor], sizes: Sizes) -> Tensor:
        """Returns what the box predictor reads of given boxes, float [R, D]."""
        found: Tensor = self.box_head(self.box_roi_pool(features, boxes, sizes))
        return found

    def _groups(self, features: Features, boxes: list[Tensor], sizes: Sizes) -> list[ClassGroup]:
        hidden, predictor = self.hidden(features, boxes, sizes), self.box_predictor
        if isinstance(predictor, GrownPredictor):
            return predictor.groups(hidden)
        logits = precise(predictor.cls_score(hidden))
        return [ClassGroup(0, logits, LazyOffsets(hidden, predictor.bbox_pred))]

    def _score(
        self, features: Features, boxes: list[Tensor], sizes: Sizes
    ) -> tuple[Tensor, Tensor]:
        logits, offsets = self.box_predictor(self.hidden(features, boxes, sizes))
        return precise(logits), precise(offsets)  # boxes are as precise as their offsets


def with_masks(regions: SampledRegions, has_mask: list[Tensor]) -> SampledRegions:
    """Returns the foreground regions whose matched object has a mask."""
    rows = zip(regions.labels, regions.matched, has_mask, strict=True)
    return _picked(regions, [_with_mask(*row) for row in rows])


def picked_by(regions: SampledRegions, sampler: Callable[..., Tensor]) -> SampledRegions:
    """Returns the rows that a sampler takes of each image, by boxes and labels."""
    images = zip(regions.boxes, regions.labels, strict=True)
    return _picked(regions, [sampler(*image) for image in images])


def own_boxes(
    targets: BoxTargets, has_mask: list[Tensor], limit: int, *, jitter: float
) -> SampledRegions:
    """Returns the boxes of at most `limit` masked objects of each image, drawn.

    jitter: each side of a box moves by up to this share of its size; below 0.5.
    """
    boxes, matched, labels = [], [], []
    for index, (target, mask) in enumerate(zip(targets, has_mask, strict=True)):
        rows = torch.where(mask)[0]
        with image_rng(index, MASKS):
            rows = rows[torch.randperm(len(rows), device=rows.device)[:limit]].sort().values
            own = target["boxes"][rows]
            if jitter > 0:
                size = own[:, 2:] - own[:, :2]
                own = own + (2 * torch.rand_like(own) - 1) * jitter * size.repeat(1, 2)
        boxes.append(own)
        matched.append(rows)
        labels.append(target["labels"][rows])
    return SampledRegions(boxes, matched, labels, [b[:, :0] for b in boxes])


def region_pool(
    strides: list[int], size: int, sampling_ratio: int, *, legacy: bool = False
) -> RegionPool | DetectronPool:
    """Returns RoIAlign over levels "0", "1", …; `legacy`: in Detectron's geometry."""
    return (DetectronPool if legacy else RegionPool)(strides, size, sampling_ratio)


def _with_mask(labels: Tensor, matched: Tensor, has_mask: Tensor) -> Tensor:
    foreground = torch.where(labels > 0)[0]
    return foreground[has_mask[matched[foreground]]]


def _picked(regions: SampledRegions, kept: list[Tensor]) -> SampledRegions:
    columns = (regions.boxes, regions.matched, regions.labels, regions.box_targets)
    return SampledRegions(
        *([rows[i] for rows, i in zip(column, kept, strict=True)] for column in columns)
    )
