"""The box head on torchvision's RoIHeads, with the sampling of regions that partial
supervision needs.

This is the project's one subclass of a concrete class (design, house rule 4). It adds
methods and overrides none: torchvision's `forward` chooses by `self.training`, and a
frozen detector under a training mask head needs the choice made by the caller.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.ops import batched_nms, clip_boxes_to_image, remove_small_boxes

from halfmask import distributed
from halfmask.models.image_rng import MASKS, REGIONS, ImageSampler, image_draws
from halfmask.models.mask_rcnn.detectron_geometry import LegacyPool
from halfmask.models.mask_rcnn.pooling import RegionPool

Features = dict[str, Tensor]
Sizes = list[tuple[int, int]]
BoxTargets = list[dict[str, Tensor]]


@dataclass(frozen=True)
class SampledRegions:
    """Regions of a training batch, a list entry for each image.

    Attributes:
        boxes: float32 [r, 4] xyxy, pixels of the resized image.
        matched: int64 [r], row of the object that each region is matched to (0 in an
            image without objects).
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
        score_threshold, nms_threshold, detections: torchvision's post-processing.
    """

    def __init__(
        self,
        pool: RegionPool | LegacyPool,
        head: nn.Module,
        predictor: nn.Module,
        batch: int = 512,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.5,
        detections: int = 100,
    ) -> None:
        super().__init__(
            pool,
            head,
            predictor,
            0.5,
            0.5,
            batch,
            0.25,
            None,
            score_threshold,
            nms_threshold,
            detections,
        )
        self.fg_bg_sampler = ImageSampler(BalancedPositiveNegativeSampler(batch, 0.25), REGIONS)

    def sample(self, proposals: list[Tensor], targets: BoxTargets) -> SampledRegions:
        """torchvision's training regions: proposals and the objects' own boxes,
        foreground and background.
        """
        return SampledRegions(*self.select_training_samples(proposals, targets))

    def sample_masked(
        self, proposals: list[Tensor], targets: BoxTargets, has_mask: list[Tensor]
    ) -> SampledRegions:
        """Foreground regions alone, of objects that have a mask: what a mask head on a
        frozen detector learns from.

        As many as `sample` may draw, but not shared with box-only objects, as in the
        paper's stage 2 (2.2). Regions that match a box-only object are left out, never
        taken for its neighbour's.
        """
        boxes = self.add_gt_proposals(proposals, [t["boxes"] for t in targets])
        matched, labels = self.assign_targets_to_proposals(
            boxes, [t["boxes"] for t in targets], [t["labels"] for t in targets]
        )
        kept = []
        for index, (match, label, mask) in enumerate(zip(matched, labels, has_mask, strict=True)):
            usable = torch.where(label > 0)[0]
            usable = usable[mask[match[usable]]]
            with image_draws(index, MASKS):
                order = torch.randperm(len(usable), device=usable.device)[: self.foreground_limit]
            kept.append(usable[order].sort().values)
        pick = [
            [rows[i] for rows, i in zip(values, kept, strict=True)]
            for values in (boxes, matched, labels)
        ]
        return SampledRegions(pick[0], pick[1], pick[2], [b[:, :0] for b in pick[0]])

    @property
    def foreground_limit(self) -> int:
        """The most foreground regions of an image."""
        return int(self.fg_bg_sampler.batch_size_per_image * self.fg_bg_sampler.positive_fraction)

    def losses(
        self, features: Features, regions: SampledRegions, sizes: Sizes
    ) -> dict[str, Tensor]:
        """`loss_classifier` and `loss_box_reg` of sampled regions: every object
        teaches, masked or not.
        """
        logits, offsets = self._score(features, regions.boxes, sizes)
        classifier, box_reg = fastrcnn_loss(logits, offsets, regions.labels, regions.box_targets)
        share = distributed.mean_scale(len(logits))  # both are means over the sampled regions
        return {"loss_classifier": classifier * share, "loss_box_reg": box_reg * share}

    def find(
        self,
        features: Features,
        proposals: list[Tensor],
        sizes: Sizes,
        frame: tuple[list[Tensor], Sizes] | None = None,
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Detections of each image, best first: boxes [n, 4] in pixels of the resized
        image, labels [n], scores [n].

        Args:
            frame: the proposals in another frame and its sizes: offsets are applied
                there, and boxes come out there.
        """
        logits, offsets = self._score(features, proposals, sizes)
        places, limits = (proposals, sizes) if frame is None else frame
        rules = DetectionRules(self.score_thresh, self.nms_thresh, self.detections_per_img)
        boxes, scores, labels = detections(logits, offsets, places, limits, self.box_coder, rules)
        return boxes, labels, scores

    def classify(
        self, features: Features, boxes: list[Tensor], sizes: Sizes
    ) -> tuple[Tensor, Tensor]:
        """The likeliest foreground class of each given box and its probability: int64
        [R], float32 [R].
        """
        logits, _ = self._score(features, boxes, sizes)
        scores, labels = logits.float().softmax(1)[:, 1:].max(1)
        return labels + 1, scores

    def _score(
        self, features: Features, boxes: list[Tensor], sizes: Sizes
    ) -> tuple[Tensor, Tensor]:
        logits, offsets = self.box_predictor(
            self.box_head(self.box_roi_pool(features, boxes, sizes))
        )
        return logits.float(), offsets.float()  # boxes are placed in the precision of their offsets


def with_masks(regions: SampledRegions, has_mask: list[Tensor]) -> SampledRegions:
    """The foreground regions whose matched object has a mask."""
    kept = []
    for labels, matched, mask in zip(regions.labels, regions.matched, has_mask, strict=True):
        foreground = torch.where(labels > 0)[0]
        kept.append(foreground[mask[matched[foreground]]])
    columns = (regions.boxes, regions.matched, regions.labels, regions.box_targets)
    return SampledRegions(
        *([rows[i] for rows, i in zip(column, kept, strict=True)] for column in columns)
    )


def own_boxes(
    targets: BoxTargets, has_mask: list[Tensor], limit: int, jitter: float
) -> SampledRegions:
    """The boxes of the objects that have a mask, at most `limit` for each image, drawn
    at random.

    Args:
        jitter: each side of a box moves by up to this share of the box's size; below
            0.5.
    """
    boxes, matched, labels = [], [], []
    for index, (target, mask) in enumerate(zip(targets, has_mask, strict=True)):
        rows = torch.where(mask)[0]
        with image_draws(index, MASKS):
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
    strides: list[int], size: int, sampling_ratio: int, legacy: bool = False
) -> RegionPool | LegacyPool:
    """Multi-level RoIAlign over levels named "0", "1", … of the given strides;
    `legacy`: in Detectron's geometry.
    """
    return (LegacyPool if legacy else RegionPool)(strides, size, sampling_ratio)


SMALLEST = 1e-2
"""Sides of a box that counts, pixels; torchvision's."""


@dataclass(frozen=True)
class DetectionRules:
    """score: a class's probability must exceed it; nms: IoU above which the lower score
    of a class goes; most: boxes kept of an image.
    """

    score: float
    nms: float
    most: int


def detections(
    logits: Tensor,
    offsets: Tensor,
    proposals: list[Tensor],
    sizes: list[tuple[int, int]],
    coder: BoxCoder,
    rules: DetectionRules,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """The detections of each image, best first: boxes [n, 4], scores [n], labels [n].

    The same values in the same order as torchvision's `postprocess_detections`, which
    decodes, clips and copies a box for every proposal and class; here only those above
    the score threshold are decoded.

    Args:
        logits: float [R, K] of the proposals of all images, one image after another.
        offsets: float [R, 4K].
        proposals: float [r, 4] xyxy for each image.
        sizes: (H, W) of each image; boxes are clipped to it.
        coder: turns offsets into boxes.
    """
    counts = [
        p.shape[0] for p in proposals
    ]  # not len: a graph that is traced here has to take another number
    scores = torch.split(logits.softmax(-1), counts)
    columns = zip(scores, torch.split(offsets, counts), proposals, sizes, strict=True)
    found = [_of_image(*column, coder, rules) for column in columns]
    return [f[0] for f in found], [f[1] for f in found], [f[2] for f in found]


def _of_image(
    scores: Tensor,
    offsets: Tensor,
    proposals: Tensor,
    size: tuple[int, int],
    coder: BoxCoder,
    rules: DetectionRules,
) -> tuple[Tensor, Tensor, Tensor]:
    row, label = torch.where(
        scores[:, 1:] > rules.score
    )  # row after row, as torchvision orders them
    label = label + 1
    kept = scores[row, label]
    offset = offsets.view(proposals.shape[0], scores.shape[1], 4)[row, label]
    boxes = clip_boxes_to_image(coder.decode_single(offset, proposals[row]).reshape(-1, 4), size)
    large = remove_small_boxes(boxes, SMALLEST)
    boxes, kept, label = boxes[large], kept[large], label[large]
    best = batched_nms(boxes, kept, label, rules.nms)[: rules.most]
    return boxes[best], kept[best], label[best]
