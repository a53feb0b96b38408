"""Settles overlapping masks of one photograph.

A pixel that two masks claim goes to the likelier one.

Shape letters: n boxes of one image, M side of a mask, K pairs of boxes that overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from halfmask.masks.crops import MaskCrops
from halfmask.models.box_segmenter.crops import inside_box, resample
from halfmask.structures import Target

SMALLER, LARGER = 0.1, 0.3
"""How much likelier the mask of a smaller, or of another, box must be to take a pixel.

A small box inside a large one often holds something that lies on the object, and its
crop shows that thing more finely. Chosen on photographs that the model had not learned
from.
"""
PAIRS = 512
"""Pairs that are compared at a time: bounds the memory."""
NESTED = 0.5
"""From this share on, masks of a data set contain each other: 0.3 in COCO, 0 in Pascal
VOC, 0.7 in street views whose walls contain their windows.
"""
WITHIN = 0.5
"""A pair counts if this share of the smaller mask's box lies in the larger one's."""
ENOUGH = 2000
"""Pairs that are measured: more hardly move the mean."""


class Settling(nn.Module):
    """Settles masks, unless the masks of the training contain each other by convention.

    Attributes:
        nested: mean share of a smaller mask that lies in a larger one; 0 before
            `learn`.
    """

    nested: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("nested", torch.zeros(()))

    @property
    def active(self) -> bool:
        return float(self.nested) < NESTED

    @torch.no_grad()
    def learn(self, targets: Iterable[Target]) -> None:
        """Measures the masks of a training; without any pair, `nested` is 0."""
        self.nested.fill_(nested_share(target.masks for target in targets) or 0.0)

    def forward(
        self, probs: Tensor, regions: Tensor, limits: Tensor, *, at_once: bool = False
    ) -> Tensor:
        """As `settled`, if active."""
        return settled(probs, regions, limits, at_once=at_once) if self.active else probs

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Loads a state dict of a model that did not settle as one that learned nothing."""
        state_dict.setdefault(prefix + "nested", torch.zeros(()))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def nested_share(images: Iterable[MaskCrops]) -> float | None:
    """Returns the mean share of a smaller mask that a larger one contains, over pairs.

    None without a pair of masks of one image of which one's box is mostly within the
    other's.
    """
    shares: list[float] = []
    for crops in images:
        shares += _shares(crops)
        if len(shares) >= ENOUGH:
            break
    return sum(shares) / len(shares) if shares else None


def _shares(crops: MaskCrops) -> Iterator[float]:
    bitmaps, places = crops.bitmaps(), crops.offsets.tolist()
    rows = sorted(range(len(bitmaps)), key=lambda row: bitmaps[row].numel())
    for k, small in enumerate(rows):
        (height, width), (x, y) = bitmaps[small].shape, places[small]
        area = int(bitmaps[small].sum())
        for large in rows[k + 1 :]:
            (other_height, other_width), (left, top) = bitmaps[large].shape, places[large]
            x0, x1 = max(x, left), min(x + width, left + other_width)
            y0, y1 = max(y, top), min(y + height, top + other_height)
            common = max(0, x1 - x0) * max(0, y1 - y0)
            if area and common and common >= WITHIN * width * height:
                one = bitmaps[small][y0 - y : y1 - y, x0 - x : x1 - x]
                other = bitmaps[large][y0 - top : y1 - top, x0 - left : x1 - left]
                yield int((one & other).sum()) / area


def settled(probs: Tensor, regions: Tensor, limits: Tensor, *, at_once: bool = False) -> Tensor:
    """Returns the masks without the cells that another mask is likelier to own.

    A cell of a mask falls below one half where another one is likelier by more than a
    margin. A mask of the same object as likely, or a box alone, changes nothing.

    Args:
        probs: float32 [n, M, M]; a cell belongs to a mask from one half on.
        regions: float32 [n, 4] xyxy, which the maps cover.
        limits: float32 [n, 4] xyxy, where masks may be.
        at_once: compares all pairs at once, for a traced graph.
    """
    own, other = overlapping(limits)
    if at_once:
        return (probs - _losses(probs, regions, limits=limits, pairs=(own, other))).clamp_min(0)
    lost = torch.zeros_like(probs)
    for pairs in zip(torch.split(own, PAIRS), torch.split(other, PAIRS), strict=True):
        lost += _losses(probs, regions, limits=limits, pairs=pairs)
    return (probs - lost).clamp_min(0)


def overlapping(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Returns all ordered pairs of boxes [n, 4] that overlap, int64 [K] each."""
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    order = torch.ones_like(boxes[:, 0], dtype=torch.int64).cumsum(0)
    width, height = (high - low).unbind(2)
    found = torch.where((width > 0) & (height > 0) & (order[:, None] != order))
    return found[0], found[1]


def _losses(
    probs: Tensor, regions: Tensor, *, limits: Tensor, pairs: tuple[Tensor, Tensor]
) -> Tensor:
    """Returns what each mask loses in these pairs, float32 [n, M, M].

    In a pair it is max(0, q − margin − ½) of the other mask's q: p less this is at
    least one half where p was and p ≥ q − margin.

    Args:
        probs, regions, limits: as in `settled`.
        pairs: int64 [K] each, the mask that loses and the one that takes.
    """
    own, other = pairs
    size = probs.shape[-1]
    seen = resample(probs[other], regions[other], regions[own])
    within = inside_box(limits[other], regions[own], size) > 0.5
    areas = (limits[:, 2] - limits[:, 0]) * (limits[:, 3] - limits[:, 1])
    margin = torch.where(areas[other] < areas[own], SMALLER, LARGER)
    lost = (seen - 0.5 - margin[:, None, None]).clamp_min(0) * within
    # A product with zeros and ones: not every runtime adds up repeated indices.
    order = torch.ones_like(limits[:, 0], dtype=torch.int64).cumsum(0) - 1
    chosen = (order[:, None] == own).to(lost.dtype)
    return (chosen @ lost.flatten(1)).reshape(probs.shape)
