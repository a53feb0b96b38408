"""A second look at a mask's border, in finer pixels.

A small network reads the box again, at four times the mask's resolution. It sees the
pixels, the first mask, and the maps that the first look had, and corrects the mask at
twice its resolution.

Shape letters: R boxes, M side of the first mask, G = 2 · M side of the corrected one,
2 · G side of the pixels.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from halfmask import distributed
from halfmask.masks.sample import sample
from halfmask.models.box_segmenter.clicks import in_inference
from halfmask.models.box_segmenter.crops import Boxes, ImagePyramid, crop_regions, inside_box
from halfmask.models.box_segmenter.inference import zoomed_masks
from halfmask.models.box_segmenter.losses import crop_losses, training_losses
from halfmask.models.image_rng import MASKS, image_rng, use_image_seeds
from halfmask.structures import Target

FINER = 2
"""G / M. The pixels are as much finer again."""
NARROW = 8
"""Channels to which each map of the first look is reduced."""
SURE = 1e-3
"""Probabilities of the first mask count within [SURE, 1 − SURE]."""
BORDER_WEIGHT = 2.0
"""Extra weight of cells at the true border in the loss."""
DILATIONS = 1, 2, 4

Maps = tuple[Tensor, ...]
"""Maps of the first look, float [R, C, M, M] each."""


class BorderLook(nn.Module):
    """Corrects masks. It starts as no change.

    Args:
        channels: of each of the first look's maps.
        width: channels of the network.
        blocks: its number of residual blocks, with growing dilation.
    """

    def __init__(self, channels: list[int], width: int, blocks: int) -> None:
        super().__init__()
        # Maps of networks with folded norm may have any scale, see `Decoder`.
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for c in channels)
        self.narrow = nn.ModuleList(nn.Conv2d(c, NARROW, 1) for c in channels)
        inputs = 4 * FINER**2 + 1 + NARROW * len(channels)
        self.stem = nn.Conv2d(inputs, width, 1)
        self.blocks = nn.ModuleList(
            _block(width, DILATIONS[k % len(DILATIONS)]) for k in range(blocks)
        )
        self.last = nn.Conv2d(width, 1, 1)
        nn.init.zeros_(self.last.weight)
        if self.last.bias is not None:
            nn.init.zeros_(self.last.bias)

    def forward(self, pixels: Tensor, first: Tensor, maps: Maps) -> Tensor:
        """Returns logits, float32 [R, G, G].

        Args:
            pixels: float32 [R, 4, 2·G, 2·G], RGB and the box's channel.
            first: float32 [R, M, M], probabilities over the same regions.
            maps: over the same regions.
        """
        size = pixels.shape[-1] // FINER
        sure = first.clamp(SURE, 1 - SURE)[:, None]
        logits = _resized((sure / (1 - sure)).log(), size)
        rows = zip(self.norms, self.narrow, maps, strict=True)
        sides = [_resized(narrow(norm(side)), size) for norm, narrow, side in rows]
        inputs = torch.cat([F.pixel_unshuffle(pixels, FINER), logits, *sides], 1)
        # Channels last: measured three times as fast on CPUs.
        x = self.stem(inputs.contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x = x + block(x)
        change: Tensor = self.last(F.relu(x)).float()
        return (logits + change)[:, 0]


def _block(width: int, dilation: int) -> nn.Sequential:
    """A depthwise and a pointwise convolution: a fifth of the cost of a full one."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, groups=width, bias=False),
        nn.BatchNorm2d(width),
        nn.Conv2d(width, width, 1, bias=False),
        nn.BatchNorm2d(width),
    )


def _resized(maps: Tensor, size: int) -> Tensor:
    return F.interpolate(maps.float(), size=(size, size), mode="bilinear", align_corners=False)


def fine_pixels(model: Any, image: ImagePyramid, boxes: Tensor) -> Tensor:
    """Returns the pixels of boxes with their closest context, float32 [R, 4, 2·G, 2·G]."""
    size = model.mask_size * FINER**2
    regions = crop_regions(boxes, model.reader.contexts[0])
    return torch.cat([image.read(regions, size), inside_box(boxes, regions, size)[:, None]], 1)


def first_maps(kept: list[Maps], count: int) -> Maps:
    """Returns the maps of the closest context, which `zoomed_masks` reads first.

    Args:
        kept: what `BoxSegmenter.readings` kept, in the order of the crops.
        count: R.
    """
    return tuple(torch.cat(maps)[:count] for maps in zip(*kept, strict=True))


def second_look(
    model: Any, images: list[ImagePyramid], boxes: list[Boxes], *, first: Tensor, kept: list[Maps]
) -> Tensor:
    """Returns the corrected masks of boxes of several images, float32 [R, G, G].

    Without `border` the first ones, [R, M, M].

    Args:
        model: a BoxSegmenter.
        boxes: of each image; R are read in all.
        first: float32 [R, M, M], probabilities.
        kept: the maps of the first look.
    """
    if model.border is None:
        return first
    pixels = torch.cat(
        [fine_pixels(model, image, b.every[b.own]) for image, b in zip(images, boxes, strict=True)]
    )
    corrected: Tensor = model.border(pixels, first, first_maps(kept, len(first)))
    return corrected.sigmoid()


def all_losses(model: Any, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
    """Returns the losses of the parts that learn: the first look, the border, or both."""
    parts = model.parts()
    learning = {name: any(p.requires_grad for p in m.parameters()) for name, m in parts.items()}
    border = learning.pop("border", False)
    losses = border_losses(model, images, targets) if border else {}
    return (
        losses
        if border and not any(learning.values())
        else losses | training_losses(model, images, targets)
    )


def border_losses(model: Any, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
    """Returns loss_border (cross-entropy) and loss_border_dice of masked objects.

    The first masks are those of inference. They have true errors only on photographs
    that the rest of the model has not learned from.

    Args:
        model: a BoxSegmenter with `border`.
    """
    rows: list[tuple[Tensor, ...]] = []
    with use_image_seeds(targets):
        for index, (image, target) in enumerate(zip(images, targets, strict=True)):
            with image_rng(index, MASKS):
                chosen = model.sampler.rows(target)
            chosen = chosen[target.has_mask[chosen]]
            if len(chosen):
                rows.append(_looked(model, image, target, rows=chosen))
    weights = [row[-1] for row in rows]
    scale = distributed.mean_scale(torch.cat(weights).sum() if weights else 0)
    if not rows:
        nothing = torch.stack([p.sum() * 0 for p in model.border.parameters()]).sum()
        return {"loss_border": nothing, "loss_border_dice": nothing}
    pixels, first, truth, counts, *maps, weight = (torch.cat(c) for c in zip(*rows, strict=True))
    logits = model.border(pixels, first, tuple(maps))
    entropy, dice = crop_losses(logits, truth, counts, weight=weight, boundary_weight=BORDER_WEIGHT)
    return {"loss_border": entropy * scale, "loss_border_dice": dice * scale}


@torch.no_grad()
def _looked(model: Any, image: Tensor, target: Target, *, rows: Tensor) -> tuple[Tensor, ...]:
    """Returns pixels, first masks, truth, counts, maps and weights of some objects."""
    reader, boxes = model.reader, target.boxes[rows]
    own = Boxes(boxes, torch.arange(len(rows), device=rows.device))
    pyramid = reader.pyramid(image)
    kept: list[Maps] = []
    with in_inference(model):
        first, _ = zoomed_masks(
            reader,
            partial(model.readings, kept=kept),
            [pyramid],
            boxes=[own],
            labels=target.labels[rows],
        )
    regions = crop_regions(boxes, reader.contexts[0])
    size = model.mask_size * FINER
    truth = sample(target.masks, target.mask_row[rows], regions - 0.5, size=size)
    counts = inside_box(reader.limits(boxes), regions, size) > 0
    weight = boxes.new_ones(len(rows))
    weight = weight if target.mask_weight is None else target.mask_weight[rows]
    maps = first_maps(kept, len(rows))
    return fine_pixels(model, pyramid, boxes), first, truth, counts, *maps, weight
