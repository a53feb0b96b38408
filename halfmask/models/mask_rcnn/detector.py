"""The detector of the Mask R-CNN: backbone, FPN, RPN and box head, without masks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes
from torchvision.ops import FeaturePyramidNetwork

from halfmask import distributed
from halfmask.models.backbones.encoder import Encoder
from halfmask.models.base import SegmentationModel, precise
from halfmask.models.image_rng import ANCHORS, ImageSampler
from halfmask.models.mask_rcnn.box_heads import BoxHeads, BoxTargets, Features
from halfmask.models.mask_rcnn.detections import Sizes
from halfmask.models.mask_rcnn.detectron_geometry import padded, resize_detectron
from halfmask.models.mask_rcnn.detectron_training import RpnRules, propose
from halfmask.models.mask_rcnn.images import inference_batch, size_of, training_batch, training_flag
from halfmask.structures import Target


class RegionDetector(SegmentationModel):
    """torchvision's Faster R-CNN under models that segment its regions.

    Args:
        transform: resizes, normalises and batches images; it never sees a mask.
        backbone: images → maps by stride.
        fpn: maps "0", "1", … → maps of one width.
        rpn: torchvision's.
        box_heads: torchvision's RoI heads for boxes.
        legacy: Detectron's geometry (`legacy_boxes`), for weights trained in it.

    Attributes:
        rpn_rules: how the RPN learns and proposes in training.
        engine: computes the FPN's maps of a batch in inference, in their order; None:
            PyTorch does.
    """

    def __init__(
        self,
        transform: GeneralizedRCNNTransform,
        backbone: Encoder,
        fpn: FeaturePyramidNetwork,
        *,
        rpn: RegionProposalNetwork,
        box_heads: BoxHeads,
        legacy: bool,
    ) -> None:
        super().__init__()
        self.transform = transform
        self.backbone = backbone
        self.fpn = fpn
        self.rpn = rpn
        self.rpn.fg_bg_sampler = ImageSampler(rpn.fg_bg_sampler, ANCHORS)
        self.box_heads = box_heads
        self.legacy = legacy
        self.rpn_rules = RpnRules()
        self.engine: Callable[[Tensor], list[Tensor]] | None = None
        self._resize = resize_detectron if legacy else resize_boxes

    @property
    def has_detector(self) -> bool:
        return True

    @property
    def levels(self) -> list[str]:
        """Names of the FPN's maps, fine to coarse."""
        extra = ["pool"] if self.fpn.extra_blocks is not None else []
        return [*map(str, range(len(self.fpn.inner_blocks))), *extra]

    def features(self, images: Tensor) -> Features:
        """Returns the FPN's maps of a batch [N, 3, H, W]."""
        if self.engine is not None:
            return dict(zip(self.levels, self.engine(images), strict=True))
        maps = self.backbone(images)
        features: Features = self.fpn({str(i): m for i, m in enumerate(maps.values())})
        # In mixed precision too: anchors and RoIAlign are as precise as the maps.
        return {name: precise(level) for name, level in features.items()}

    @torch.no_grad()
    def find(self, images: list[Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Returns boxes [n, 4], labels [n] and scores [n] of each image, best first.

        They are those of `detect`; no mask is drawn.
        """
        if not images:
            return []
        batch = inference_batch(self.transform, images)
        sizes = [size_of(image) for image in images]
        placed, _, labels, scores = self.find_boxes(self.features(batch.tensors), batch, sizes)
        return list(zip(placed, labels, scores, strict=True))

    def find_boxes(
        self, features: Features, batch: ImageList, originals: Sizes
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        """Detects boxes on FPN maps.

        Args:
            features: of the resized images in `batch`.
            originals: (H, W) of the images before resizing.
        Returns:
            For each image, best first: boxes [n, 4] in pixels of the original and of
                the
            resized image, labels [n], scores [n].
        """
        with training_flag(self.rpn, False):
            proposals, _ = self.rpn(padded(batch) if self.legacy else batch, features)
        sizes = batch.image_sizes
        if not self.legacy:
            boxes, labels, scores = self.box_heads.find(features, proposals, sizes)
            return self._resized(boxes, sizes, originals), boxes, labels, scores
        # Detectron applies offsets in the frame of the original image.
        frame = self._resized(proposals, sizes, originals), originals
        placed, labels, scores = self.box_heads.find(features, proposals, sizes, frame=frame)
        return placed, self._resized(placed, originals, sizes), labels, scores

    def _batch(self, images: list[Tensor], targets: list[Target]) -> tuple[ImageList, BoxTargets]:
        resize = resize_detectron if self.legacy else None
        return training_batch(self.transform, images, targets, resize=resize)

    def _propose(
        self, batch: ImageList, features: Features, boxes: BoxTargets
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Returns training proposals and RPN losses; a frozen RPN proposes as many."""
        with training_flag(self.rpn, True):
            if self.rpn_rules.are_torchvisions:
                proposals, losses = self.rpn(batch, features, boxes)
            else:
                proposals, losses = propose(
                    self.rpn, self.rpn_rules, batch, features=features, targets=boxes
                )
        # Means over sampled anchors, or over images.
        fixed, drawn = self.rpn_rules.fixed_divisor, self.rpn.fg_bg_sampler.drawn
        scale = distributed.mean_scale(len(boxes) if fixed else drawn)
        return proposals, {name: loss * scale for name, loss in losses.items()}

    def _place(
        self, images: list[Tensor], boxes: list[Tensor]
    ) -> tuple[Features, list[Tensor], Sizes]:
        """Returns features of images resized for inference, boxes there, and sizes."""
        batch = inference_batch(self.transform, images)
        given = [b.to(i.device, torch.float32) for i, b in zip(images, boxes, strict=True)]
        placed = self._resized(given, [size_of(image) for image in images], batch.image_sizes)
        return self.features(batch.tensors), placed, batch.image_sizes

    def _resized(self, boxes: list[Tensor], before: Sizes, after: Sizes) -> list[Tensor]:
        return [self._resize(*row) for row in zip(boxes, before, after, strict=True)]
