"""Masks for given boxes, from image crops: one encoder–decoder for every class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from halfmask import distributed
from halfmask.errors import InputError
from halfmask.masks.paste import best_threshold, recentred
from halfmask.models.backbones.encoder import Encoder
from halfmask.models.base import LossKind, SegmentationModel
from halfmask.models.box_segmenter.box_losses import BoxSupervision
from halfmask.models.box_segmenter.crops import (
    CropReader,
    ImagePyramid,
    crop_regions,
    inside_box,
    resample,
)
from halfmask.models.box_segmenter.decoder import Decoder, HourglassDecoder
from halfmask.models.box_segmenter.losses import CropLossWeights, crop_losses
from halfmask.models.box_segmenter.prototypes import class_prototypes
from halfmask.models.box_segmenter.quality import QualityScore, agreement_of, mask_features
from halfmask.models.box_segmenter.sampler import CropSampler, box_tightness
from halfmask.models.class_weights import FixedWeights
from halfmask.models.heads.predictors import MaskPredictor
from halfmask.models.image_rng import draws_of
from halfmask.structures import Detection, Target

# Crops that go through the network at once in inference: bounds memory, whatever the
# number of boxes.
CHUNK = 32
LOOKS = 24
"""Crops in one call of the network on a CPU: below 16, PyTorch runs 1×1 convolutions of
one thread slowly; above, maps leave the cache.
"""
THRESHOLDS = 0.2, 0.6
"""Bounds of the threshold that a mask of greatest expected IoU is cut at."""


@dataclass(frozen=True)
class _Piece:
    """Boxes `rows` of image `image`: what one chunk takes of one image."""

    image: int
    rows: slice


class BoxSegmenter(SegmentationModel):
    """Cuts each box out with some context, and segments the crop. Learns from
    annotations that have masks, and needs no class.

    Args:
        reader: boxes → crops [R, 4, S, S].
        encoder: crops → maps by stride; its first convolution takes 4 channels.
        decoder: maps → features [R, C, M, M], M = S / decoder.stride.
        predictor: features → logits [R, M, M], the seam that every mask head ends in.
        class_weights: class vectors for a conditioned predictor, whose row 0 stands for
            an unknown class; None for one that has no use for them.
        sampler: draws the crops to learn from; None: masked objects as they are.
        loss_weights: of the losses of masked objects.
        from_boxes: losses of objects without masks, which the sampler then draws too.
        best_iou: in inference a mask is cut where its expected IoU is greatest, not at
            one half.
    """

    def __init__(
        self,
        reader: CropReader,
        encoder: Encoder,
        decoder: Decoder | HourglassDecoder,
        predictor: MaskPredictor,
        class_weights: FixedWeights | None = None,
        sampler: CropSampler | None = None,
        loss_weights: CropLossWeights | None = None,
        from_boxes: BoxSupervision | None = None,
        best_iou: bool = False,
    ) -> None:
        super().__init__()
        assert (class_weights is not None) == predictor.needs_labels
        self.reader = reader
        self.encoder = encoder
        self.decoder = decoder
        self.predictor = predictor
        self.class_weights = class_weights
        self.sampler = sampler or CropSampler(reader)
        self.loss_weights = loss_weights or CropLossWeights()
        self.from_boxes = from_boxes
        self.best_iou = best_iou
        self.quality_score = QualityScore()

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
        """Whether it learnt on boxes that are off, and can be told that boxes are
        (`expect_loose_boxes`).
        """
        return self.sampler.jitter.box > 0

    def expect_loose_boxes(self, loose: bool) -> None:
        """From now on boxes are read as ones that may be off, and masks may go beyond
        them; or as tight ones again.
        """
        self.reader.loose = loose and self.knows_loose_boxes

    @property
    def mask_size(self) -> int:
        """M, the side of a predicted mask, which covers the box and its context."""
        return self.reader.size // self.decoder.stride

    def learn_looks(self, examples: Iterable[tuple[Tensor, Target]]) -> None:
        """Makes the class vectors of a model that is conditioned on prototypes, from
        boxes alone (`models.box_segmenter.prototypes`). Before training: the encoder
        has to be as it was loaded.
        """
        assert self.class_weights is not None
        training = self.training
        vectors = class_prototypes(
            self.reader, self.encoder.eval(), examples, len(self.class_weights.vectors)
        )
        self.class_weights.set_vectors(vectors)
        self.train(training)

    def logits(self, crops: Tensor, labels: Tensor) -> Tensor:
        """float [R, M, M] of crops [R, 4, S, S] with labels int64 [R], 0 where the
        class is not known.
        """
        # Channels last: measured a third faster on CPUs.
        maps = self.encoder(crops.contiguous(memory_format=torch.channels_last))
        features = self.decoder(maps)
        vectors = features.new_zeros((1, 0)) if self.class_weights is None else self.class_weights()
        out: Tensor = self.predictor(features, labels, vectors)
        return out

    def probabilities(self, crops: Tensor, labels: Tensor) -> Tensor:
        """float32 [R, M, M] in [0, 1] of crops [R, 4, S, S]: what inference makes of the logits."""
        return _mean(self.readings(crops, labels))

    def readings(self, crops: Tensor, labels: Tensor) -> list[Tensor]:
        """float32 [R, M, M] in [0, 1] each: what each look at the crops [R, 4, S, S]
        gives, as they are and mirrored.
        """
        found = [self.logits(crops, labels).float().sigmoid()]
        if self.reader.mirror:
            found.append(self.logits(crops.flip(3), labels).float().sigmoid().flip(2))
        return found

    def forward(
        self, images: list[Tensor], targets: list[Target], loss: LossKind = "all"
    ) -> dict[str, Tensor]:
        """loss_mask (cross-entropy) and loss_dice of crops of objects that have a mask,
        both 0 for a batch without any; with `from_boxes` loss_projection and
        loss_colour of objects that have none.
        """
        if loss == "boxes":
            raise InputError(
                "a box_segmenter has no box losses: set the stage's `loss` to `all` or `masks`"
            )
        with draws_of(targets):
            batch = self.sampler.draw(
                images, targets, self.mask_size, hide_labels=self.needs_labels
            )
        if distributed.total(0 if batch is None else len(batch.labels)) == 0:
            return self._no_losses()
        batch = batch or self.sampler.nothing(images, self.mask_size)
        logits = self.logits(batch.crops, batch.labels)
        rows = batch.has_mask
        losses = {"loss_mask": logits.sum() * 0, "loss_dice": logits.sum() * 0}
        share = distributed.mean_scale(batch.weight[rows].sum())
        if bool(rows.any()):
            truth = batch.masks[rows], batch.counts[rows], batch.weight[rows]
            entropy, dice = crop_losses(logits[rows], *truth, self.loss_weights.boundary)
            losses = {
                "loss_mask": entropy * share,
                "loss_dice": self.loss_weights.dice * dice * share,
            }
        if self.from_boxes is not None:
            rgb = self.reader.colours(batch.crops[~rows])
            losses |= self.from_boxes(
                logits[~rows], rgb, batch.true_inside[~rows], box_tightness(targets)
            )
        return losses

    def _no_losses(self) -> dict[str, Tensor]:
        """Zeros that hang on every parameter."""
        nothing = torch.stack([p.sum() * 0.0 for p in self.parameters() if p.requires_grad]).sum()
        names = ["loss_mask", "loss_dice"] + ["loss_projection", "loss_colour"] * (
            self.from_boxes is not None
        )
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
        """See `SegmentationModel.segment`; `mask_probs` are spread over the box and its
        closest context. Label 0: not known.
        """
        return [found for found, _ in self.segment_with_features(images, boxes, labels)]

    @torch.no_grad()
    def segment_with_features(
        self, images: list[Tensor], boxes: list[Tensor], labels: list[Tensor] | None = None
    ) -> list[tuple[Detection, Tensor]]:
        """`segment`, and for each image the features [n, F] that its quality is made
        from (`models.box_segmenter.quality.FEATURES`).
        """
        sizes = [len(b) for b in boxes]
        if labels is None:
            labels = [
                torch.zeros(n, dtype=torch.int64, device=b.device)
                for n, b in zip(sizes, boxes, strict=True)
            ]
        regions = [crop_regions(b, self.reader.contexts[0]) for b in boxes]
        probs = [
            b.new_zeros((n, self.mask_size, self.mask_size))
            for n, b in zip(sizes, boxes, strict=True)
        ]
        agreement = [b.new_zeros((n, 3)) for n, b in zip(sizes, boxes, strict=True)]
        pyramids: dict[int, ImagePyramid] = {}
        for chunk in _chunks(sizes, CHUNK):
            # Only images of this chunk are kept in their normalised form.
            pyramids = {
                p.image: pyramids.get(p.image) or self.reader.pyramid(images[p.image])
                for p in chunk
            }
            crowd = torch.cat([boxes[p.image][p.rows] for p in chunk])
            known = torch.cat([labels[p.image][p.rows] for p in chunk])
            found, agreed = self._zoomed(chunk, [pyramids[p.image] for p in chunk], crowd, known)
            counts = [p.rows.stop - p.rows.start for p in chunk]
            for piece, rows, marks in zip(
                chunk, torch.split(found, counts), torch.split(agreed, counts), strict=True
            ):
                probs[piece.image][piece.rows], agreement[piece.image][piece.rows] = rows, marks
        return [
            self._detection(*row)
            for row in zip(images, boxes, labels, probs, regions, agreement, strict=True)
        ]

    def _zoomed(
        self, chunk: list[_Piece], images: list[ImagePyramid], boxes: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The mean of what each context gives, float32 [r, M, M] over the closest
        regions of a chunk's boxes [r, 4], and how far all readings agree, float32 [r,
        3].
        """
        counts = [p.rows.stop - p.rows.start for p in chunk]
        closest = crop_regions(boxes, self.reader.contexts[0])
        total = boxes.new_zeros((len(boxes), self.mask_size, self.mask_size))
        views: list[Tensor] = []
        crops = []
        for context in self.reader.contexts:
            rows = zip(
                images,
                torch.split(boxes, counts),
                torch.split(crop_regions(boxes, context), counts),
                strict=True,
            )
            crops += [self.reader.read(*row) for row in rows]
        looks = self._readings_in_parts(torch.cat(crops), labels.repeat(len(self.reader.contexts)))
        for k, context in enumerate(self.reader.contexts):
            found = [maps[k * len(boxes) : (k + 1) * len(boxes)] for maps in looks]
            if k:
                found = [resample(view, crop_regions(boxes, context), closest) for view in found]
            total += _mean(found)
            views += found
        mean = total / len(self.reader.contexts)
        return mean, agreement_of(
            views, mean, inside_box(self.reader.limits(boxes), closest, self.mask_size) > 0.5
        )

    def _readings_in_parts(self, crops: Tensor, labels: Tensor) -> list[Tensor]:
        """`readings`, on a CPU in equal parts of at most LOOKS crops."""
        parts = 1 if crops.is_cuda else -(-len(crops) // LOOKS)
        rows = zip(torch.tensor_split(crops, parts), torch.tensor_split(labels, parts), strict=True)
        return [
            torch.cat(maps) for maps in zip(*(self.readings(*row) for row in rows), strict=True)
        ]

    def _detection(
        self,
        image: Tensor,
        boxes: Tensor,
        labels: Tensor,
        probs: Tensor,
        regions: Tensor,
        agreement: Tensor,
    ) -> tuple[Detection, Tensor]:
        height, width = int(image.shape[-2]), int(image.shape[-1])
        edges = boxes.new_tensor([width, height, width, height])
        # The mask is clipped to these limits and the image: what lies outside says
        # nothing about its quality.
        limits = torch.minimum(self.reader.limits(boxes).clamp_min(0), edges)
        visible = inside_box(limits, regions, self.mask_size) > 0.5
        features = mask_features(probs, visible, boxes, regions, agreement)
        quality, scores = self.quality_score(features), boxes.new_ones(len(boxes))
        if self.best_iou:
            # Within bounds: beyond them the probabilities are not to be trusted that
            # far.
            probs = recentred(probs, best_threshold(probs * visible).clamp(*THRESHOLDS))
        reach = self.reader.reach if self.reader.loose else 0.0
        return Detection(
            boxes, labels, scores, probs, regions, quality, (height, width), reach
        ), features


def _mean(maps: list[Tensor]) -> Tensor:
    return maps[0] if len(maps) == 1 else torch.stack(maps).sum(0) / len(maps)


def _chunks(sizes: list[int], chunk: int) -> Iterator[list[_Piece]]:
    """Cuts `sizes[i]` boxes of each image i into groups of at most `chunk` boxes, in order."""
    group: list[_Piece] = []
    room = chunk
    for image, size in enumerate(sizes):
        start = 0
        while start < size:
            stop = min(size, start + room)
            group.append(_Piece(image, slice(start, stop)))
            room -= stop - start
            start = stop
            if room == 0:
                yield group
                group, room = [], chunk
    if group:
        yield group
