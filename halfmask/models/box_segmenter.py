"""Masks for given boxes, from image crops: one encoder–decoder for every class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from halfmask.errors import InputError
from halfmask.masks import expected_iou, sample
from halfmask.models.backbones import Encoder
from halfmask.models.base import LossKind, SegmentationModel
from halfmask.models.class_weights import FixedWeights
from halfmask.models.crops import ImagePyramid, Jitter, crop_regions, inside_box, resample
from halfmask.models.decoder import Decoder
from halfmask.models.heads.base import MaskPredictor
from halfmask.models.losses.crop_losses import crop_losses
from halfmask.structures import Detection, Target

# Crops that go through the network at once in inference: bounds memory, whatever the number of boxes.
CHUNK = 32
# Share of the training crops whose class is hidden, so that a conditioned model can do without labels.
LABEL_DROPOUT = 0.1


class CropReader(nn.Module):
    """Turns boxes of images into the network's input: normalised pixels and a channel that is 1 inside the box.

    Args:
        size: S, side of a crop.
        context: share of the box's side added on each side of it.
        mean, std: of RGB in [0, 1].
        mirror: in inference each crop is read as it is and mirrored, and the two masks are averaged: twice the time.
        zooms: in inference each box is read with each of these contexts and the masks are averaged: as many times the time. Empty: with
            `context` alone.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        size: int,
        context: float,
        mean: list[float],
        std: list[float],
        mirror: bool = False,
        zooms: Sequence[float] = (),
    ) -> None:
        super().__init__()
        self.size = size
        self.context = context
        self.mirror = mirror
        # The closest one first: masks are spread over its regions, where their cells are finest.
        self.contexts = tuple(sorted(zooms)) or (context,)
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    def pyramid(self, image: Tensor) -> ImagePyramid:
        return ImagePyramid(image, self.mean, self.std)

    def regions(self, boxes: Tensor) -> Tensor:
        return crop_regions(boxes, self.context)

    def read(self, image: ImagePyramid, boxes: Tensor, regions: Tensor) -> Tensor:
        """float32 [R, 4, S, S]."""
        pixels = image.read(regions, self.size)
        return torch.cat([pixels, inside_box(boxes, regions, self.size)[:, None]], 1)


@dataclass(frozen=True)
class _Piece:
    """Boxes `rows` of image `image`: what one chunk takes of one image."""

    image: int
    rows: slice


class BoxSegmenter(SegmentationModel):
    """Cuts each box out with some context, and segments the crop. Learns from annotations that have masks, and needs no class.

    Args:
        reader: boxes → crops [R, 4, S, S].
        encoder: crops → maps by stride; its first convolution takes 4 channels.
        decoder: maps → features [R, C, M, M], M = S / decoder.stride.
        predictor: features → logits [R, M, M], the seam that every mask head ends in.
        class_weights: class vectors for a conditioned predictor, whose row 0 stands for an unknown class; None for one that has no use
            for them.
        jitter: changes of boxes and crops in training.
        regions_per_image: masked objects drawn from each training image at most.
        dice_weight: weight of the dice loss beside binary cross-entropy.
    """

    def __init__(
        self,
        reader: CropReader,
        encoder: Encoder,
        decoder: Decoder,
        predictor: MaskPredictor,
        class_weights: FixedWeights | None = None,
        jitter: Jitter | None = None,
        regions_per_image: int = 16,
        dice_weight: float = 1.0,
    ) -> None:
        super().__init__()
        assert (class_weights is not None) == predictor.needs_labels
        self.reader = reader
        self.encoder = encoder
        self.decoder = decoder
        self.predictor = predictor
        self.class_weights = class_weights
        self.jitter = jitter or Jitter()
        self.regions_per_image = regions_per_image
        self.dice_weight = dice_weight

    def parts(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder, "decoder": self.decoder, "mask_head": self.predictor}

    @property
    def has_detector(self) -> bool:
        return False

    @property
    def needs_labels(self) -> bool:
        return self.predictor.needs_labels

    @property
    def mask_size(self) -> int:
        """M, the side of a predicted mask, which covers the box and its context."""
        return self.reader.size // self.decoder.stride

    def logits(self, crops: Tensor, labels: Tensor) -> Tensor:
        """float [R, M, M] of crops [R, 4, S, S] with labels int64 [R], 0 where the class is not known."""
        # Channels last: measured a third faster on CPUs.
        maps = self.encoder(crops.contiguous(memory_format=torch.channels_last))
        features = self.decoder(maps)
        vectors = features.new_zeros((1, 0)) if self.class_weights is None else self.class_weights()
        out: Tensor = self.predictor(features, labels, vectors)
        return out

    def probabilities(self, crops: Tensor, labels: Tensor) -> Tensor:
        """float32 [R, M, M] in [0, 1] of crops [R, 4, S, S]: what inference makes of the logits."""
        found = self.logits(crops, labels).float().sigmoid()
        if self.reader.mirror:
            found = (found + self.logits(crops.flip(3), labels).float().sigmoid().flip(2)) / 2
        return found

    def forward(self, images: list[Tensor], targets: list[Target], loss: LossKind = "all") -> dict[str, Tensor]:
        """loss_mask (cross-entropy) and loss_dice of crops of objects that have a mask; both 0 for a batch without any."""
        if loss == "boxes":
            raise InputError("a box_segmenter has no box losses: set the stage's `loss` to `all` or `masks`")
        parts = [self._training_crops(i, t) for i, t in zip(images, targets, strict=True) if bool(t.has_mask.any())]
        if not parts:
            nothing = torch.stack([p.sum() * 0.0 for p in self.parameters() if p.requires_grad]).sum()
            return {"loss_mask": nothing, "loss_dice": nothing}
        crops, masks, inside, labels = (torch.cat(rows) for rows in zip(*parts, strict=True))
        entropy, dice = crop_losses(self.logits(crops, labels), masks, inside)
        return {"loss_mask": entropy, "loss_dice": self.dice_weight * dice}

    @torch.no_grad()
    def _training_crops(self, image: Tensor, target: Target) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Crops [r, 4, S, S], masks [r, M, M], inside the box [r, M, M] and labels [r] of some masked objects of one image."""
        masked = torch.where(target.has_mask)[0].cpu()
        drawn = torch.randperm(len(masked))[: self.regions_per_image]
        rows = masked[drawn].to(target.boxes.device)
        boxes = self.jitter.move_boxes(target.boxes[rows])
        regions = self.jitter.move_regions(self.reader.regions(boxes))
        crops = self.reader.read(self.reader.pyramid(image), boxes, regions)
        # `sample` takes a pixel's value at its corner, as torchvision does for mask targets; crops are read with it at the centre.
        masks = sample(target.masks, target.mask_row[rows], regions - 0.5, self.mask_size)
        labels = target.labels[rows]
        if self.needs_labels:
            hidden = torch.rand(len(labels)) < LABEL_DROPOUT
            labels = labels.masked_fill(hidden.to(labels.device), 0)
        return crops, masks, inside_box(boxes, regions, self.mask_size), labels

    def detect(self, images: list[Tensor]) -> list[Detection]:  # noqa: ARG002
        raise InputError(
            "this model segments given boxes and finds none itself: pass a detector (--detector), or boxes to `segment`"
        )

    @torch.no_grad()
    def segment(self, images: list[Tensor], boxes: list[Tensor], labels: list[Tensor] | None = None) -> list[Detection]:
        """See `SegmentationModel.segment`; `mask_probs` are spread over the box and its closest context. Label 0: not known."""
        sizes = [len(b) for b in boxes]
        if labels is None:
            labels = [torch.zeros(n, dtype=torch.int64, device=b.device) for n, b in zip(sizes, boxes, strict=True)]
        regions = [crop_regions(b, self.reader.contexts[0]) for b in boxes]
        probs = [b.new_zeros((n, self.mask_size, self.mask_size)) for n, b in zip(sizes, boxes, strict=True)]
        pyramids: dict[int, ImagePyramid] = {}
        for chunk in _chunks(sizes, CHUNK):
            # Only images of this chunk are kept in their normalised form.
            pyramids = {p.image: pyramids.get(p.image) or self.reader.pyramid(images[p.image]) for p in chunk}
            crowd = torch.cat([boxes[p.image][p.rows] for p in chunk])
            known = torch.cat([labels[p.image][p.rows] for p in chunk])
            found = self._zoomed(chunk, [pyramids[p.image] for p in chunk], crowd, known)
            for piece, rows in zip(chunk, torch.split(found, [p.rows.stop - p.rows.start for p in chunk]), strict=True):
                probs[piece.image][piece.rows] = rows
        return [self._detection(*row) for row in zip(images, boxes, labels, probs, regions, strict=True)]

    def _zoomed(self, chunk: list[_Piece], images: list[ImagePyramid], boxes: Tensor, labels: Tensor) -> Tensor:
        """float32 [r, M, M] over the closest regions of a chunk's boxes [r, 4]: the mean of what each context gives."""
        counts = [p.rows.stop - p.rows.start for p in chunk]
        closest = crop_regions(boxes, self.reader.contexts[0])
        total = boxes.new_zeros((len(boxes), self.mask_size, self.mask_size))
        for context in self.reader.contexts:
            regions = crop_regions(boxes, context)
            rows = zip(images, torch.split(boxes, counts), torch.split(regions, counts), strict=True)
            found = self.probabilities(torch.cat([self.reader.read(*row) for row in rows]), labels)
            total += found if context == self.reader.contexts[0] else resample(found, regions, closest)
        return total / len(self.reader.contexts)

    def _detection(self, image: Tensor, boxes: Tensor, labels: Tensor, probs: Tensor, regions: Tensor) -> Detection:
        height, width = int(image.shape[-2]), int(image.shape[-1])
        edges = boxes.new_tensor([width, height, width, height])
        # The mask is clipped to box and image: what lies outside says nothing about its quality.
        visible = inside_box(torch.minimum(boxes.clamp_min(0), edges), regions, self.mask_size)
        quality = expected_iou(probs * (visible > 0.5))
        return Detection(boxes, labels, boxes.new_ones(len(boxes)), probs, regions, quality, (height, width))


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
