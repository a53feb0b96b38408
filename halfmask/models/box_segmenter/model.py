"""The box segmenter: masks for given boxes, from image crops."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from halfmask.errors import InputError
from halfmask.masks.crops import MaskCrops
from halfmask.masks.paste import best_threshold, recentred
from halfmask.models.backbones.encoder import Encoder
from halfmask.models.base import SegmentationModel
from halfmask.models.box_segmenter.border import FINER, BorderLook, Maps, all_losses, second_look
from halfmask.models.box_segmenter.box_losses import BoxSupervision
from halfmask.models.box_segmenter.clicks import Hints, hints_of
from halfmask.models.box_segmenter.crops import Boxes, ImagePyramid, crop_regions, inside_box
from halfmask.models.box_segmenter.decoder import Decoder, HourglassDecoder
from halfmask.models.box_segmenter.inference import ChunkPiece, chunks, zoomed_masks
from halfmask.models.box_segmenter.looks import EffortScores, Looks
from halfmask.models.box_segmenter.losses import CropLossWeights
from halfmask.models.box_segmenter.prototypes import class_prototypes
from halfmask.models.box_segmenter.quality import mask_features
from halfmask.models.box_segmenter.sampler import CropSampler
from halfmask.models.box_segmenter.settle import Settling
from halfmask.models.class_weights import FixedWeights
from halfmask.models.heads.predictors import MaskPredictor
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
        border: a second look at the border of a mask; None: the first mask stays.
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
        self.border: BorderLook | None = None
        self.best_looks = Looks(self.reader.contexts, self.reader.mirror)
        self.quality_score = EffortScores()

    def parts(self) -> dict[str, nn.Module]:
        border = {} if self.border is None else {"border": self.border}
        first = {"encoder": self.encoder, "decoder": self.decoder, "mask_head": self.predictor}
        return {**first, **border}

    @property
    def has_detector(self) -> bool:
        return False

    @property
    def needs_labels(self) -> bool:
        return self.predictor.needs_labels

    @property
    def takes_clicks(self) -> bool:
        """Whether `segment` takes clicks and earlier masks."""
        return self.reader.clicks

    @property
    def knows_loose_boxes(self) -> bool:
        """Whether the model learned from loose boxes, and can expect them."""
        return self.sampler.jitter.loosens

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
        return self._logits(self._maps(crops)[-1], labels)

    def _maps(self, crops: Tensor) -> Maps:
        """Returns the encoder's finest map and the decoder's features."""
        # Channels last: measured a third faster on CPUs.
        maps = self.encoder(crops.contiguous(memory_format=torch.channels_last))
        return maps[min(maps)], self.decoder(maps)

    def _logits(self, features: Tensor, labels: Tensor) -> Tensor:
        vectors = features.new_zeros((1, 0)) if self.class_weights is None else self.class_weights()
        out: Tensor = self.predictor(features, labels, vectors)
        return out

    def readings(
        self, crops: Tensor, labels: Tensor, kept: list[Maps] | None = None
    ) -> list[Tensor]:
        """Returns probabilities [R, M, M] of crops [R, C, S, S], plain and mirrored.

        The maps of the plain reading are added to `kept`; an engine has none, so
        PyTorch then computes that reading.
        """
        look = self.engine or self.look
        if kept is None:
            found = [look(crops, labels)]
        else:
            kept.append(self._maps(crops))
            found = [self._logits(kept[-1][-1], labels).float().sigmoid()]
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
        add loss_projection and loss_colour; with a teacher, all add loss_looks. Where
        the border learns there are loss_border and loss_border_dice, alone if it does.
        """
        if loss == "boxes":
            raise InputError(
                "a box_segmenter has no box losses: set the stage's `loss` to `all` or `masks`"
            )
        return all_losses(self, images, targets)

    def detect(self, images: list[Tensor], least_score: float = 0.0) -> list[Detection]:
        raise InputError(
            "this model segments given boxes and finds none itself: pass a detector "
            "(--detector), or boxes to `segment`"
        )

    @torch.no_grad()
    def segment(
        self,
        images: list[Tensor],
        boxes: list[Tensor],
        labels: list[Tensor] | None = None,
        *,
        clicks: Sequence[Tensor] | None = None,
        mask: Sequence[MaskCrops | None] | None = None,
    ) -> list[Detection]:
        """Returns masks over each box and its closest context. Label 0: unknown.

        Args:
            images, boxes, labels: as in `SegmentationModel.segment`.
            clicks: of each image, float32 [k, 4]: the row of a box, x and y in pixels,
                and 1 for a point of its object, 0 for one that is not.
            mask: of each image, an earlier mask of every box (one without pixels counts
                as none), or None.
        Raises:
            InputError: clicks or masks for a model without `takes_clicks`, or for a box
                that is not there.
        """
        sizes = [len(b) for b in boxes]
        hints = hints_of(sizes, clicks, mask, taken=self.takes_clicks)
        drawn = self.segment_with_features(images, boxes, labels, hints=hints)
        return [found for found, _ in drawn]

    @torch.no_grad()
    def segment_with_features(
        self,
        images: list[Tensor],
        boxes: list[Tensor],
        labels: list[Tensor] | None = None,
        *,
        hints: Sequence[Hints | None] | None = None,
    ) -> list[tuple[Detection, Tensor]]:
        """Returns `segment`, and for each image the `quality.FEATURES` [n, F]."""
        hints, side = hints or [None] * len(images), self.mask_size
        if labels is None:
            labels = [b.new_zeros(len(b), dtype=torch.int64) for b in boxes]
        probs = [b.new_zeros((len(b), side, side)) for b in boxes]
        finer = side if self.border is None else side * FINER
        final = [p.new_zeros((len(p), finer, finer)) for p in probs]
        agreement = [b.new_zeros((len(b), 3)) for b in boxes]
        pyramids: dict[int, ImagePyramid] = {}
        for chunk in chunks([len(b) for b in boxes], CHUNK):
            # Only images of this chunk stay in their normalised form.
            pyramids = {
                p.image: pyramids.get(p.image) or self.reader.pyramid(images[p.image])
                for p in chunk
            }
            some = [_boxes_of(p, boxes[p.image], hints[p.image]) for p in chunk]
            seen, kept = [pyramids[p.image] for p in chunk], list[Maps]()
            found, agreed = zoomed_masks(
                self.reader,
                partial(self.readings, kept=None if self.border is None else kept),
                seen,
                boxes=some,
                labels=torch.cat([labels[p.image][p.rows] for p in chunk]),
            )
            counts = [len(b.own) for b in some]
            fine = second_look(self, seen, some, first=found, kept=kept)
            for out, part in zip((probs, agreement, final), (found, agreed, fine), strict=True):
                for piece, rows in zip(chunk, torch.split(part, counts), strict=True):
                    out[piece.image][piece.rows] = rows
        known = zip(images, boxes, labels, probs, agreement, final, strict=True)
        return [self._detection(*row) for row in known]

    def _detection(
        self,
        image: Tensor,
        boxes: Tensor,
        labels: Tensor,
        first: Tensor,
        agreement: Tensor,
        probs: Tensor,
    ) -> tuple[Detection, Tensor]:
        regions = crop_regions(boxes, self.reader.contexts[0])
        height, width = int(image.shape[-2]), int(image.shape[-1])
        edges = boxes.new_tensor([width, height, width, height])
        # The mask is clipped to these limits and the image: the quality depends only on
        # cells inside them.
        limits = torch.minimum(self.reader.limits(boxes).clamp_min(0), edges)
        visible = inside_box(limits, regions, self.mask_size) > 0.5
        # The score is fitted to features of first masks, with a second look or without.
        features = mask_features(first, visible, boxes=boxes, regions=regions, agreement=agreement)
        quality, scores = self.quality_score(features), boxes.new_ones(len(boxes))
        if self.best_iou:
            visible = inside_box(limits, regions, probs.shape[-1]) > 0.5
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


def _boxes_of(piece: ChunkPiece, boxes: Tensor, hints: Hints | None) -> Boxes:
    return Boxes(boxes, torch.arange(len(boxes), device=boxes.device)[piece.rows], hints)
