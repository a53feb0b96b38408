"""The box segmenter: masks for given boxes, from image crops."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from halfmask import distributed
from halfmask.errors import InputError
from halfmask.masks.paste import best_threshold, recentred
from halfmask.models.backbones.encoder import Encoder
from halfmask.models.base import SegmentationModel
from halfmask.models.box_segmenter.box_losses import BoxSupervision
from halfmask.models.box_segmenter.crops import Boxes, ImagePyramid, crop_regions, inside_box
from halfmask.models.box_segmenter.decoder import Decoder, HourglassDecoder
from halfmask.models.box_segmenter.inference import ChunkPiece, chunks, zoomed_masks
from halfmask.models.box_segmenter.looks import EffortScores, Looks
from halfmask.models.box_segmenter.losses import CropLossWeights, crop_losses
from halfmask.models.box_segmenter.prototypes import class_prototypes
from halfmask.models.box_segmenter.quality import mask_features
from halfmask.models.box_segmenter.sampler import CropBatch, CropSampler, batch_tightness
from halfmask.models.box_segmenter.settle import Settling
from halfmask.models.class_weights import FixedWeights
from halfmask.models.heads.predictors import MaskPredictor
from halfmask.models.image_rng import use_image_seeds
from halfmask.recipes.run import LossKind
from halfmask.structures import Detection, Target

CHUNK = 32
"""Boxes that are read together in inference: bounds the memory."""
THRESHOLDS = 0.2, 0.6
"""Bounds of the threshold of masks with the greatest expected IoU."""


class BoxSegmenter(SegmentationModel):
    """Cuts out each box with some context and segments the crop, without its class.

    It learns from annotations that have masks.

    Args:
        encoder: crops [R, C, S, S] → maps by stride.
        decoder: maps → features [R, C, M, M], M = S / decoder.stride.
        predictor: features → logits [R, M, M].
        sampler: draws the crops to learn from.
        class_weights: class vectors for a predictor that needs labels (row 0 stands for
            an unknown class), None for others.
        loss_weights: of the losses of masked objects.
        from_boxes: losses of objects without masks, which the sampler then draws too.
        best_iou: in inference a mask is cut where its expected IoU is greatest, not at
            one half.

    Attributes:
        settling: settles the masks of an image in inference; None: they may overlap.
        engine: computes `look` in inference instead of PyTorch; None: PyTorch does.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder | HourglassDecoder,
        predictor: MaskPredictor,
        *,
        sampler: CropSampler,
        class_weights: FixedWeights | None,
        loss_weights: CropLossWeights,
        from_boxes: BoxSupervision | None,
        best_iou: bool,
    ) -> None:
        super().__init__()
        assert (class_weights is not None) == predictor.needs_labels
        self.reader = sampler.reader
        self.encoder = encoder
        self.decoder = decoder
        self.predictor = predictor
        self.class_weights = class_weights
        self.sampler = sampler
        self.loss_weights = loss_weights
        self.from_boxes = from_boxes
        self.best_iou = best_iou
        self.settling: Settling | None = None
        self.engine: Callable[[Tensor, Tensor], Tensor] | None = None
        self.best_looks = Looks(self.reader.contexts, self.reader.mirror)
        self.quality_score = EffortScores()

    def parts(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder, "decoder": self.decoder, "mask_head": self.predictor}

    @property
    def has_detector(self) -> bool:
        return False

    @property
    def needs_labels(self) -> bool:
        return self.predictor.needs_labels

    @property
    def knows_loose_boxes(self) -> bool:
        """Whether the model learned from loose boxes, and can expect them."""
        return self.sampler.jitter.box > 0

    def expect_loose_boxes(self, loose: bool) -> None:
        """From now on, takes boxes for loose (masks may exceed them) or for tight."""
        self.reader.loose = loose and self.knows_loose_boxes

    @property
    def mask_size(self) -> int:
        """M, the side of a predicted mask, which covers the box and its context."""
        return self.reader.size // self.decoder.stride

    def learn_prototypes(self, examples: Iterable[tuple[Tensor, Target]]) -> None:
        """Sets class vectors from boxes alone, while the encoder is as loaded."""
        assert self.class_weights is not None
        training = self.training
        vectors = class_prototypes(
            self.reader, self.encoder.eval(), examples, num_classes=len(self.class_weights.vectors)
        )
        self.class_weights.set_vectors(vectors)
        self.train(training)

    def logits(self, crops: Tensor, labels: Tensor) -> Tensor:
        """Returns float [R, M, M] of crops [R, C, S, S], labels [R] (0: unknown)."""
        # Channels last: measured a third faster on CPUs.
        maps = self.encoder(crops.contiguous(memory_format=torch.channels_last))
        features = self.decoder(maps)
        vectors = features.new_zeros((1, 0)) if self.class_weights is None else self.class_weights()
        out: Tensor = self.predictor(features, labels, vectors)
        return out

    def readings(self, crops: Tensor, labels: Tensor) -> list[Tensor]:
        """Returns probabilities [R, M, M] of crops [R, C, S, S], plain and mirrored."""
        look = self.engine or self.look
        found = [look(crops, labels)]
        if self.reader.mirror:
            found.append(look(crops.flip(3), labels).flip(2))
        return found

    def look(self, crops: Tensor, labels: Tensor) -> Tensor:
        """Returns probabilities, float32 [R, M, M], of crops [R, C, S, S]."""
        return self.logits(crops, labels).float().sigmoid()

    def forward(
        self, images: list[Tensor], targets: list[Target], loss: LossKind = "all"
    ) -> dict[str, Tensor]:
        """Returns loss_mask (cross-entropy) and loss_dice of crops of masked objects.

        Both are 0 for a batch without masks. With `from_boxes`, objects without masks
        add loss_projection and loss_colour.
        """
        if loss == "boxes":
            raise InputError(
                "a box_segmenter has no box losses: set the stage's `loss` to `all` or `masks`"
            )
        with use_image_seeds(targets):
            batch = self.sampler.draw(
                images, targets, self.mask_size, hide_labels=self.needs_labels
            )
        if distributed.total(0 if batch is None else len(batch.labels)) == 0:
            return self._no_losses()
        batch = batch or self.sampler.nothing(images, self.mask_size)
        logits = self.logits(batch.crops, batch.labels)
        losses = self._mask_losses(logits, batch)
        if self.from_boxes is not None:
            rows = ~batch.has_mask
            rgb = self.reader.colours(batch.crops[rows])
            losses |= self.from_boxes(
                logits[rows], rgb, batch.true_inside[rows], batch_tightness(targets)
            )
        return losses

    def _mask_losses(self, logits: Tensor, batch: CropBatch) -> dict[str, Tensor]:
        rows = batch.has_mask
        scale = distributed.mean_scale(batch.weight[rows].sum())
        if not bool(rows.any()):
            return {"loss_mask": logits.sum() * 0, "loss_dice": logits.sum() * 0}
        entropy, dice = crop_losses(
            logits[rows],
            batch.masks[rows],
            batch.counts[rows],
            weight=batch.weight[rows],
            boundary_weight=self.loss_weights.boundary,
        )
        return {"loss_mask": entropy * scale, "loss_dice": self.loss_weights.dice * dice * scale}

    def _no_losses(self) -> dict[str, Tensor]:
        """Returns zeros that depend on every parameter."""
        nothing = torch.stack([p.sum() * 0.0 for p in self.parameters() if p.requires_grad]).sum()
        names = ["loss_mask", "loss_dice"]
        names += [] if self.from_boxes is None else ["loss_projection", "loss_colour"]
        return dict.fromkeys(names, nothing)

    def detect(self, images: list[Tensor]) -> list[Detection]:
        raise InputError(
            "this model segments given boxes and finds none itself: pass a detector "
            "(--detector), or boxes to `segment`"
        )

    @torch.no_grad()
    def segment(
        self, images: list[Tensor], boxes: list[Tensor], labels: list[Tensor] | None = None
    ) -> list[Detection]:
        """Returns masks over each box and its closest context. Label 0: unknown."""
        return [found for found, _ in self.segment_with_features(images, boxes, labels)]

    @torch.no_grad()
    def segment_with_features(
        self, images: list[Tensor], boxes: list[Tensor], labels: list[Tensor] | None = None
    ) -> list[tuple[Detection, Tensor]]:
        """Returns `segment`, and for each image the `quality.FEATURES` [n, F]."""
        sizes, side = [len(b) for b in boxes], self.mask_size
        if labels is None:
            labels = [b.new_zeros(len(b), dtype=torch.int64) for b in boxes]
        probs = [b.new_zeros((len(b), side, side)) for b in boxes]
        agreement = [b.new_zeros((len(b), 3)) for b in boxes]
        pyramids: dict[int, ImagePyramid] = {}
        for chunk in chunks(sizes, CHUNK):
            # Only images of this chunk stay in their normalised form.
            pyramids = {
                p.image: pyramids.get(p.image) or self.reader.pyramid(images[p.image])
                for p in chunk
            }
            some = [_boxes_of(p, boxes[p.image]) for p in chunk]
            found, agreed = zoomed_masks(
                self.reader,
                self.readings,
                [pyramids[p.image] for p in chunk],
                boxes=some,
                labels=torch.cat([labels[p.image][p.rows] for p in chunk]),
            )
            counts = [len(b.own) for b in some]
            columns = torch.split(found, counts), torch.split(agreed, counts)
            for piece, rows, marks in zip(chunk, *columns, strict=True):
                probs[piece.image][piece.rows], agreement[piece.image][piece.rows] = rows, marks
        known = zip(images, boxes, labels, probs, agreement, strict=True)
        return [self._detection(*row) for row in known]

    def _detection(
        self, image: Tensor, boxes: Tensor, labels: Tensor, probs: Tensor, agreement: Tensor
    ) -> tuple[Detection, Tensor]:
        regions = crop_regions(boxes, self.reader.contexts[0])
        height, width = int(image.shape[-2]), int(image.shape[-1])
        edges = boxes.new_tensor([width, height, width, height])
        # The mask is clipped to these limits and the image: the quality depends only on
        # cells inside them.
        limits = torch.minimum(self.reader.limits(boxes).clamp_min(0), edges)
        visible = inside_box(limits, regions, self.mask_size) > 0.5
        features = mask_features(probs, visible, boxes=boxes, regions=regions, agreement=agreement)
        quality, scores = self.quality_score(features), boxes.new_ones(len(boxes))
        if self.best_iou:
            probs = recentred(probs, best_threshold(probs * visible).clamp(*THRESHOLDS))
        if self.settling is not None:
            probs = self.settling(probs, regions, limits)
        reach = self.reader.reach if self.reader.loose else 0.0
        size = (height, width)
        found = Detection(
            boxes=boxes,
            labels=labels,
            scores=scores,
            mask_probs=probs,
            regions=regions,
            quality=quality,
            image_size=size,
            reach=reach,
        )
        return found, features


def _boxes_of(piece: ChunkPiece, boxes: Tensor) -> Boxes:
    return Boxes(boxes, torch.arange(len(boxes), device=boxes.device)[piece.rows])
