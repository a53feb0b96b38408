"""Mask R-CNN under partial supervision: boxes of every class, masks of some, masks for
all (the paper's model).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes
from torchvision.ops import FeaturePyramidNetwork

from halfmask import distributed
from halfmask.errors import InputError
from halfmask.masks.paste import expected_iou
from halfmask.models.backbones.encoder import Encoder
from halfmask.models.base import LossKind, SegmentationModel
from halfmask.models.class_weights import ClassRows
from halfmask.models.image_rng import ANCHORS, ImageSampler, draws_of
from halfmask.models.mask_rcnn.box_heads import (
    BoxHeads,
    BoxTargets,
    Features,
    SampledRegions,
    Sizes,
    own_boxes,
    with_masks,
)
from halfmask.models.mask_rcnn.detectron_geometry import (
    MASK_SHIFT,
    LegacyPool,
    padded,
    resize_legacy,
)
from halfmask.models.mask_rcnn.images import thickened, training_batch, training_flag
from halfmask.models.mask_rcnn.loss import region_loss
from halfmask.models.mask_rcnn.mask_branch import MaskBranch
from halfmask.models.mask_rcnn.pooling import RegionPool
from halfmask.models.mask_rcnn.regions import (
    HALF_PIXEL,
    FoundBoxes,
    MaskRegions,
    RegionPlaces,
    region_targets,
)
from halfmask.structures import Detection, Target

# Regions that go through the mask branch at once in inference: bounds memory, whatever
# the number of boxes.
CHUNK = 256


class PartialMaskRCNN(SegmentationModel):
    """torchvision's backbone, FPN, RPN and box head with a mask branch that learns from
    the masks that exist.

    Args:
        transform: resizes, normalises and batches images; it never sees a mask.
        backbone: images → maps by stride.
        fpn: maps "0", "1", … → maps of one width.
        rpn: torchvision's.
        box_heads: torchvision's RoI heads for boxes.
        mask_pool: pools regions for the mask branch.
        mask_branch: regions → mask logits.
        legacy: Detectron's geometry (`legacy_boxes`), for weights that were trained in
            it.
    """

    def __init__(
        self,
        transform: GeneralizedRCNNTransform,
        backbone: Encoder,
        fpn: FeaturePyramidNetwork,
        rpn: RegionProposalNetwork,
        box_heads: BoxHeads,
        mask_pool: RegionPool | LegacyPool,
        mask_branch: MaskBranch,
        legacy: bool = False,
    ) -> None:
        super().__init__()
        self.transform = transform
        self.backbone = backbone
        self.fpn = fpn
        self.rpn = rpn
        self.rpn.fg_bg_sampler = ImageSampler(rpn.fg_bg_sampler, ANCHORS)
        self.box_heads = box_heads
        self.mask_pool = mask_pool
        self.mask_branch = mask_branch
        self.legacy = legacy
        self.mask_shift = MASK_SHIFT if legacy else HALF_PIXEL
        self._resize = resize_legacy if legacy else resize_boxes

    def parts(self) -> dict[str, nn.Module]:
        return {
            "backbone": self.backbone,
            "fpn": self.fpn,
            "rpn": self.rpn,
            "box_head": nn.ModuleList([self.box_heads.box_head, self.box_heads.box_predictor]),
            "mask_head": self.mask_branch,
        }

    @property
    def has_detector(self) -> bool:
        return True

    @property
    def needs_labels(self) -> bool:
        return self.mask_branch.predictor.needs_labels

    def forward(
        self, images: list[Tensor], targets: list[Target], loss: LossKind = "all"
    ) -> dict[str, Tensor]:
        """Losses by torchvision's names: loss_objectness, loss_rpn_box_reg,
        loss_classifier, loss_box_reg, loss_mask.

        The four box losses see every object. loss_mask is the mean over regions whose
        matched object has a mask, 0 where there is none. With `masks`, no gradient goes
        beyond the pooled features, and only masked objects' regions are drawn.
        """
        if loss == "masks":
            return {"loss_mask": self.mask_loss(self.mask_regions(images, targets))}
        with draws_of(targets):
            return self._losses(images, targets, loss)

    def _losses(
        self, images: list[Tensor], targets: list[Target], loss: LossKind
    ) -> dict[str, Tensor]:
        batch, boxes = self._batch(images, targets)
        features = self.features(batch.tensors)
        proposals, losses = self._propose(batch, features, boxes)
        regions = self.box_heads.sample(proposals, boxes)
        losses |= self.box_heads.losses(features, regions, batch.image_sizes)
        if loss == "all":
            teaching = self._teaching(targets, boxes)
            own = self.mask_branch.rules.source == "boxes"
            masked = self._own_boxes(boxes, teaching) if own else with_masks(regions, teaching)
            losses["loss_mask"] = self.mask_loss(
                self._pool_masked(features, masked, batch, targets)[0]
            )
        return losses

    @torch.no_grad()
    def mask_regions(self, images: list[Tensor], targets: list[Target]) -> MaskRegions:
        """The regions of `loss="masks"`: proposals and boxes that match a masked
        object, pooled, with their targets.
        """
        return self.placed_regions(images, targets)[0]

    @torch.no_grad()
    def placed_regions(
        self, images: list[Tensor], targets: list[Target]
    ) -> tuple[MaskRegions, RegionPlaces]:
        """`mask_regions`, and where they lie in the images."""
        with draws_of(targets):
            batch, boxes = self._batch(images, targets)
            features = self.features(batch.tensors)
            teaching = self._teaching(targets, boxes)
            if self.mask_branch.rules.source == "boxes":
                regions = self._own_boxes(boxes, teaching)
            else:
                proposals, _ = self._propose(batch, features, boxes)
                regions = self.box_heads.sample_masked(proposals, boxes, teaching)
        return self._pool_masked(features, regions, batch, targets)

    def mask_loss(self, regions: MaskRegions) -> Tensor:
        """The mask loss of pooled regions, a scalar; 0 for none. The branch's rules say
        which of them and of their cells count.
        """
        return region_loss(self.mask_branch, regions, self.class_rows())

    def class_weights(self) -> Tensor:
        """float [K, D], what the mask head is told of each class."""
        predictor = self.box_heads.box_predictor
        weights: Tensor = self.mask_branch.class_weights(
            predictor.cls_score.weight, predictor.bbox_pred.weight
        )
        return weights

    def class_rows(self) -> ClassRows:
        """The same, only the rows that are asked for."""
        predictor = self.box_heads.box_predictor
        return self.mask_branch.rows(predictor.cls_score.weight, predictor.bbox_pred.weight)

    @torch.no_grad()
    def mask_probs(self, features: Tensor, labels: Tensor) -> Tensor:
        """float32 [n, M, M] of pooled regions [n, C, S, S] with labels int64 [n]."""
        weights = self.class_rows()
        rows = [
            self.mask_branch(f, c, weights).float().sigmoid()
            for f, c in zip(torch.split(features, CHUNK), torch.split(labels, CHUNK), strict=True)
        ]
        return torch.cat(rows)

    @torch.no_grad()
    def detect_boxes(self, images: list[Tensor]) -> list[FoundBoxes]:
        """Boxes, classes, scores and pooled features of each image; no masks yet."""
        if not images:
            return []
        with training_flag(self.transform, False):
            batch, _ = self.transform(thickened(images, self.transform.max_size))
        return self.boxes_on(
            self.features(batch.tensors), batch, [_size(image) for image in images]
        )

    @torch.no_grad()
    def boxes_on(self, features: Features, batch: ImageList, originals: Sizes) -> list[FoundBoxes]:
        """The same from the FPN's maps of a batch of resized images on; originals: (H,
        W) of the images, whose pixels boxes come out in.
        """
        with training_flag(self.rpn, False):
            proposals, _ = self.rpn(padded(batch) if self.legacy else batch, features)
        sizes = batch.image_sizes
        if self.legacy:  # offsets are applied in the frame of the image, not of the resized one
            placed = self._resized(proposals, sizes, originals)
            placed, labels, scores = self.box_heads.find(
                features, proposals, sizes, (placed, originals)
            )
            boxes = self._resized(placed, originals, sizes)
        else:
            boxes, labels, scores = self.box_heads.find(features, proposals, sizes)
            placed = self._resized(boxes, sizes, originals)
        pooled = torch.split(self.mask_pool(features, boxes, sizes), [len(b) for b in boxes])
        return [
            FoundBoxes(*row) for row in zip(placed, labels, scores, pooled, originals, strict=True)
        ]

    @torch.no_grad()
    def detect(self, images: list[Tensor]) -> list[Detection]:
        found = self.detect_boxes(images)
        if not found:
            return []
        probs = self.mask_probs(
            torch.cat([f.features for f in found]), torch.cat([f.labels for f in found])
        )
        rows = torch.split(probs, [len(f.boxes) for f in found])
        return [
            Detection(
                f.boxes,
                f.labels,
                f.scores,
                p,
                f.boxes + self.mask_shift,
                expected_iou(p),
                f.image_size,
            )
            for f, p in zip(found, rows, strict=True)
        ]

    @torch.no_grad()
    def pool(self, images: list[Tensor], boxes: list[Tensor]) -> Tensor:
        """float32 [R, C, S, S], pooled features of given boxes (xyxy, pixels of the
        images), image after image.
        """
        features, placed, sizes = self._place(images, boxes)
        pooled: Tensor = self.mask_pool(features, placed, sizes)
        return pooled

    @torch.no_grad()
    def segment(
        self, images: list[Tensor], boxes: list[Tensor], labels: list[Tensor] | None = None
    ) -> list[Detection]:
        """Masks for given boxes. A box whose label is 0 or not given gets the box
        head's likeliest class and its probability as score, unless the head is
        class-agnostic.

        Raises:
            InputError: a label outside 0…K−1.
        """
        if not images:
            return []
        features, placed, sizes = self._place(images, boxes)
        given = (
            torch.cat(labels)
            if labels is not None
            else torch.zeros(sum(map(len, boxes)), dtype=torch.int64)
        )
        given = given.to(images[0].device, torch.int64)
        self._check_labels(given)
        scores = torch.ones(len(given), device=given.device)
        unknown = given == 0
        if self.needs_labels and bool(unknown.any()):
            guessed, likely = self.box_heads.classify(features, placed, sizes)
            given, scores = (
                torch.where(unknown, guessed, given),
                torch.where(unknown, likely, scores),
            )
        probs = self.mask_probs(self.mask_pool(features, placed, sizes), given)
        counts = [len(b) for b in boxes]
        columns = zip(
            images,
            boxes,
            *(torch.split(rows, counts) for rows in (given, scores, probs)),
            strict=True,
        )
        return [
            Detection(b.to(p), c, s, p, b.to(p) + self.mask_shift, expected_iou(p), _size(i))
            for i, b, c, s, p in columns
        ]

    def _check_labels(self, labels: Tensor) -> None:
        classes = self.box_heads.box_predictor.cls_score.out_features
        if len(labels) and (int(labels.min()) < 0 or int(labels.max()) >= classes):
            raise InputError(
                f"labels: expected 1…{classes - 1} (0 where unknown), found "
                f"{int(labels.min())}…{int(labels.max())}"
            )

    def _batch(self, images: list[Tensor], targets: list[Target]) -> tuple[ImageList, BoxTargets]:
        """Images resized as in training, and boxes with them."""
        return training_batch(
            self.transform, images, targets, resize_legacy if self.legacy else None
        )

    def features(self, images: Tensor) -> Features:
        """The FPN's maps of a batch [N, 3, H, W]."""
        maps = self.backbone(images)
        features: Features = self.fpn({str(i): m for i, m in enumerate(maps.values())})
        # In mixed precision too: anchors and RoIAlign's places are as precise as the
        # maps.
        return {name: level.float() for name, level in features.items()}

    def _propose(
        self, batch: ImageList, features: Features, boxes: BoxTargets
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Training proposals and RPN losses; a frozen RPN (in eval mode) proposes as
        many as a learning one.
        """
        with training_flag(self.rpn, True):
            proposals, losses = self.rpn(padded(batch) if self.legacy else batch, features, boxes)
        share = distributed.mean_scale(
            self.rpn.fg_bg_sampler.drawn
        )  # both are means over the sampled anchors
        return proposals, {name: loss * share for name, loss in losses.items()}

    def _pool_masked(
        self, features: Features, regions: SampledRegions, batch: ImageList, targets: list[Target]
    ) -> tuple[MaskRegions, RegionPlaces]:
        """Pools regions that have a mask and draws their targets in the frame of the
        original image: masks are never resized.
        """
        # `sample` draws half a pixel up and left, as RoIAlign sees things: masks then
        # come out HALF_PIXEL from their box.
        placed = [
            self._resize(boxes, size, target.masks.image_size) + (self.mask_shift - HALF_PIXEL)
            for boxes, size, target in zip(regions.boxes, batch.image_sizes, targets, strict=True)
        ]
        side = 2 * self.mask_pool.output_size[0]
        drawn, unknown, has_mask = [], [], []
        for target, matched, place in zip(targets, regions.matched, placed, strict=True):
            cells = region_targets(target, matched, place, side)
            drawn.append(cells[0])
            unknown.append(cells[1])
            has_mask.append(target.has_mask.to(matched.device)[matched])
        pooled = self.mask_pool(features, regions.boxes, batch.image_sizes)
        labels = torch.cat(regions.labels)
        found = MaskRegions(
            pooled, labels, torch.cat(drawn), torch.cat(unknown), torch.cat(has_mask)
        )
        return found, RegionPlaces(placed, regions.matched)

    def _teaching(self, targets: list[Target], boxes: BoxTargets) -> list[Tensor]:
        """bool [n] for each image: the objects whose regions the mask head learns on."""
        flags = [t.has_mask.to(b["boxes"].device) for t, b in zip(targets, boxes, strict=True)]
        return flags if self.mask_branch.teacher is None else [torch.ones_like(f) for f in flags]

    def _own_boxes(self, boxes: BoxTargets, has_mask: list[Tensor]) -> SampledRegions:
        return own_boxes(
            boxes, has_mask, self.box_heads.foreground_limit, self.mask_branch.rules.jitter
        )

    def _place(
        self, images: list[Tensor], boxes: list[Tensor]
    ) -> tuple[Features, list[Tensor], list[tuple[int, int]]]:
        """Features of images resized as in inference, the boxes in that frame, and the
        resized sizes.
        """
        with training_flag(self.transform, False):
            batch, _ = self.transform(thickened(images, self.transform.max_size))
        given = [b.to(i.device, torch.float32) for i, b in zip(images, boxes, strict=True)]
        placed = self._resized(given, [_size(image) for image in images], batch.image_sizes)
        return self.features(batch.tensors), placed, batch.image_sizes

    def _resized(self, boxes: list[Tensor], before: Sizes, after: Sizes) -> list[Tensor]:
        return [self._resize(*row) for row in zip(boxes, before, after, strict=True)]


def _size(image: Tensor) -> tuple[int, int]:
    return int(image.shape[-2]), int(image.shape[-1])
