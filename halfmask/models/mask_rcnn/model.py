"""Mask R-CNN under partial supervision: boxes of every class, masks of some classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork

from halfmask.masks.paste import expected_iou
from halfmask.models.backbones.encoder import Encoder
from halfmask.models.class_weights import ClassRows
from halfmask.models.image_rng import use_image_seeds
from halfmask.models.mask_rcnn.added_classes import by_group
from halfmask.models.mask_rcnn.box_heads import (
    BoxHeads,
    BoxTargets,
    Features,
    SampledRegions,
    own_boxes,
    picked_by,
    with_masks,
)
from halfmask.models.mask_rcnn.detections import Sizes
from halfmask.models.mask_rcnn.detector import RegionDetector
from halfmask.models.mask_rcnn.detectron_geometry import (
    MASK_SHIFT,
    DetectronPool,
    without_last_pixel,
)
from halfmask.models.mask_rcnn.detectron_training import RpnRules
from halfmask.models.mask_rcnn.images import inference_batch, size_of
from halfmask.models.mask_rcnn.loss import region_loss
from halfmask.models.mask_rcnn.mask_branch import MaskBranch
from halfmask.models.mask_rcnn.pooling import RegionPool
from halfmask.models.mask_rcnn.regions import (
    CHUNK,
    HALF_PIXEL,
    DetectedBoxes,
    MaskRegions,
    RegionPlaces,
    batch_targets,
    check_labels,
    count_to_draw,
    minibatches,
)
from halfmask.recipes.run import LossKind
from halfmask.structures import Detection, Target


class PartialMaskRCNN(RegionDetector):
    """torchvision's detector, and a mask branch that learns from the masks that exist.

    Args:
        mask_pool: pools regions for the mask branch.
        mask_branch: regions → mask logits.
        minibatch: images of each mean of the mask loss; None: all of a batch.
        rpn_rules: None: torchvision's.
        others: as RegionDetector's.
    """

    def __init__(
        self,
        transform: GeneralizedRCNNTransform,
        backbone: Encoder,
        fpn: FeaturePyramidNetwork,
        *,
        rpn: RegionProposalNetwork,
        box_heads: BoxHeads,
        mask_pool: RegionPool | DetectronPool,
        mask_branch: MaskBranch,
        legacy: bool = False,
        rpn_rules: RpnRules | None = None,
        minibatch: int | None = None,
    ) -> None:
        super().__init__(transform, backbone, fpn, rpn=rpn, box_heads=box_heads, legacy=legacy)
        self.rpn_rules = rpn_rules or RpnRules()
        self.minibatch = minibatch
        self.mask_pool = mask_pool
        self.mask_branch = mask_branch
        self.mask_shift = MASK_SHIFT if legacy else HALF_PIXEL

    def parts(self) -> dict[str, nn.Module]:
        return {
            "backbone": self.backbone,
            "fpn": self.fpn,
            "rpn": self.rpn,
            "box_head": nn.ModuleList([self.box_heads.box_head, self.box_heads.box_predictor]),
            "mask_head": self.mask_branch,
        }

    @property
    def needs_labels(self) -> bool:
        return self.mask_branch.predictor.needs_labels

    def forward(
        self, images: list[Tensor], targets: list[Target], loss: LossKind = "all"
    ) -> dict[str, Tensor]:
        """Returns losses by torchvision's names.

        loss_objectness, loss_rpn_box_reg, loss_classifier and loss_box_reg see every
        object. loss_mask is the mean over regions whose matched object has a mask, 0
        without any. With `masks`, no gradient passes the pooled features, and only
        regions of masked objects are drawn.
        """
        if loss == "masks":
            pooled, places = self.placed_regions(images, targets)
            return {"loss_mask": self._mean_mask_loss(pooled, places.regions)}
        with use_image_seeds(targets):
            batch, boxes = self._batch(images, targets)
            features = self.features(batch.tensors)
            proposals, losses = self._propose(batch, features, boxes)
            regions = self.box_heads.sample(proposals, boxes)
            losses |= self.box_heads.losses(features, regions, batch.image_sizes)
            if loss == "all":
                teaching = self.mask_branch.teaching(targets, images[0].device)
                own = self._own_boxes(boxes, teaching)
                masked = with_masks(regions, teaching) if own is None else own
                pooled, places = self._pool_masked(features, masked, batch, targets=targets)
                losses["loss_mask"] = self._mean_mask_loss(pooled, places.regions)
        return losses

    @torch.no_grad()
    def mask_regions(self, images: list[Tensor], targets: list[Target]) -> MaskRegions:
        """Returns the pooled regions of `loss="masks"`, with their targets."""
        return self.placed_regions(images, targets)[0]

    @torch.no_grad()
    def placed_regions(
        self, images: list[Tensor], targets: list[Target]
    ) -> tuple[MaskRegions, RegionPlaces]:
        """Returns `mask_regions`, and where they lie in the images."""
        with use_image_seeds(targets):
            batch, boxes = self._batch(images, targets)
            features = self.features(batch.tensors)
            teaching = self.mask_branch.teaching(targets, images[0].device)
            regions = self._own_boxes(boxes, teaching)
            if regions is None:
                proposals, _ = self._propose(batch, features, boxes)
                regions = self.box_heads.sample_masked(proposals, boxes, teaching)
        return self._pool_masked(features, regions, batch, targets=targets)

    def mask_loss(self, regions: MaskRegions) -> Tensor:
        """Returns the mask loss of pooled regions, by the branch's rules; 0 for none."""
        return region_loss(self.mask_branch, regions, self.class_rows())

    def _mean_mask_loss(self, regions: MaskRegions, of_images: list[Tensor]) -> Tensor:
        """Returns the mask loss; `of_images` holds a row for each region of each image."""
        parts = minibatches(regions, [len(rows) for rows in of_images], self.minibatch)
        return torch.stack([self.mask_loss(part) for part in parts]).mean()

    def class_weights(self) -> Tensor:
        """Returns the class weights that the mask head reads, float [K, D]."""
        weights: Tensor = self.mask_branch.class_weights(*self.box_heads.rows())
        return weights

    def class_rows(self) -> ClassRows:
        """Returns `class_weights` with rows made on demand."""
        return self.mask_branch.rows(*self.box_heads.rows())

    @torch.no_grad()
    def mask_probs(self, features: Tensor, labels: Tensor) -> Tensor:
        """Returns float32 [n, M, M] of regions [n, C, S, S] with labels int64 [n]."""
        weights, added = self.class_rows(), self.box_heads.added
        if added:
            return by_group(labels, added, lambda r: self._draw(features[r], labels[r], weights))
        return self._draw(features, labels, weights)

    def _draw(self, features: Tensor, labels: Tensor, weights: ClassRows) -> Tensor:
        chunks = zip(torch.split(features, CHUNK), torch.split(labels, CHUNK), strict=True)
        return torch.cat([self.mask_branch(f, c, weights).float().sigmoid() for f, c in chunks])

    @torch.no_grad()
    def detect_boxes(self, images: list[Tensor], least: float = 0.0) -> list[DetectedBoxes]:
        """Returns boxes, classes, scores and pooled features; see `count_to_draw`."""
        if not images:
            return []
        batch, originals = inference_batch(self.transform, images), [size_of(i) for i in images]
        return self.boxes_on(self.features(batch.tensors), batch, originals, least=least)

    @torch.no_grad()
    def boxes_on(
        self, features: Features, batch: ImageList, originals: Sizes, *, least: float = 0.0
    ) -> list[DetectedBoxes]:
        """Returns `detect_boxes` from FPN maps. Boxes are in pixels of `originals`."""
        columns = self.find_boxes(features, batch, originals)
        counts, sizes = [count_to_draw(s, least) for s in columns[3]], batch.image_sizes
        placed, boxes, labels, scores = (
            [rows[:n] for rows, n in zip(column, counts, strict=True)] for column in columns
        )
        pooled = torch.split(self.mask_pool(features, boxes, sizes), [len(b) for b in boxes])
        rows = zip(placed, labels, scores, pooled, originals, strict=True)
        return [
            DetectedBoxes(boxes=b, labels=k, scores=s, features=f, image_size=size)
            for b, k, s, f, size in rows
        ]

    @torch.no_grad()
    def detect(self, images: list[Tensor], least_score: float = 0.0) -> list[Detection]:
        # Classes that were added make groups of regions, whose chunks are others.
        found = self.detect_boxes(images, 0.0 if self.box_heads.added else least_score)
        rows = [(f, self.mask_probs(f.features, f.labels)) for f in found]
        drawn = [self._detection(f.boxes, f.labels, f.scores, p, f.image_size) for f, p in rows]
        return [d.select(d.scores >= least_score) for d in drawn] if least_score > 0 else drawn

    @torch.no_grad()
    def pool(self, images: list[Tensor], boxes: list[Tensor]) -> Tensor:
        """Returns pooled features [R, C, S, S] of given boxes, in pixels of each image."""
        features, placed, sizes = self._place(images, boxes)
        pooled: Tensor = self.mask_pool(features, placed, sizes)
        return pooled

    @torch.no_grad()
    def segment(
        self, images: list[Tensor], boxes: list[Tensor], labels: list[Tensor] | None = None
    ) -> list[Detection]:
        """Returns masks for given boxes.

        If the mask head needs labels, a box with label 0 or none gets the box head's
        likeliest class, and its probability as score.

        Raises:
            InputError: a label outside 0…K−1.
        """
        if not images:
            return []
        features, placed, sizes = self._place(images, boxes)
        counts = [len(b) for b in boxes]
        given = torch.zeros(sum(counts), dtype=torch.int64) if labels is None else torch.cat(labels)
        given = given.to(images[0].device, torch.int64)
        check_labels(len(self.box_heads.rows()[0]), given)
        scores, unknown = torch.ones(len(given), device=given.device), given == 0
        if self.needs_labels and bool(unknown.any()):
            guessed, likely = self.box_heads.classify(features, placed, sizes)
            given = torch.where(unknown, guessed, given)
            scores = torch.where(unknown, likely, scores)
        probs = self.mask_probs(self.mask_pool(features, placed, sizes), given)
        columns = (torch.split(rows, counts) for rows in (given, scores, probs))
        return [
            self._detection(b.to(p), c, s, p, size_of(i))
            for i, b, c, s, p in zip(images, boxes, *columns, strict=True)
        ]

    def _detection(
        self, boxes: Tensor, labels: Tensor, scores: Tensor, probs: Tensor, size: tuple[int, int]
    ) -> Detection:
        regions = boxes + self.mask_shift
        return Detection(
            boxes=boxes,
            labels=labels,
            scores=scores,
            mask_probs=probs,
            regions=regions,
            quality=expected_iou(probs),
            image_size=size,
        )

    def _pool_masked(
        self,
        features: Features,
        regions: SampledRegions,
        batch: ImageList,
        *,
        targets: list[Target],
    ) -> tuple[MaskRegions, RegionPlaces]:
        """Pools regions, and draws their targets in the original images."""
        if self.mask_branch.sampler is not None:
            regions = picked_by(regions, self.mask_branch.sampler)
        # `sample` draws half a pixel up and left, as RoIAlign reads features: masks are
        # then HALF_PIXEL away from their box.
        shift = self.mask_shift - HALF_PIXEL
        originals = [target.masks.image_size for target in targets]
        resized = self._resized(regions.boxes, batch.image_sizes, originals)
        places = RegionPlaces([boxes + shift for boxes in resized], regions.matched)
        frames = [without_last_pixel(b) for b in resized] if self.legacy else resized
        side = 2 * self.mask_pool.output_size[0]
        drawn, unknown, has_mask = batch_targets(targets, places, side, frames=frames)
        found = MaskRegions(
            features=self.mask_pool(features, regions.boxes, batch.image_sizes),
            labels=torch.cat(regions.labels),
            targets=drawn,
            unknown=unknown,
            has_mask=has_mask,
        )
        return found, places

    def _own_boxes(self, boxes: BoxTargets, has_mask: list[Tensor]) -> SampledRegions | None:
        """Returns the objects' own boxes, if the rules ask for them."""
        rules, most = self.mask_branch.rules, self.box_heads.foreground_limit
        own = rules.source == "boxes"
        return own_boxes(boxes, has_mask, most, jitter=rules.jitter) if own else None
