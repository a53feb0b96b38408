"""Detections from the box head's logits and offsets: torchvision's, computed once.

Shape letters: R regions, K classes and background, D width of the box head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import batched_nms, clip_boxes_to_image, remove_small_boxes

from halfmask.models.base import precise

Sizes = list[tuple[int, int]]

SMALLEST = 1e-2
"""Least side of a box that counts, pixels; torchvision's."""


FEW = 64
"""A class's rows are read one by one for fewer pairs of region and class than one in
this many: a matrix product is that much faster a row.
"""
PAIRS = 4096
"""Pairs in one product; their rows take 64 MiB at a width of 1024."""


@dataclass(frozen=True)
class LazyOffsets:
    """Offsets of the pairs of region and class that are asked for.

    With 3000 classes, a layer that computes all of them costs as much as the rest of
    the box head, and nearly none of them is used.

    Attributes:
        hidden: float [R, D], the box head's.
        layer: D → 4 offsets a class.
        first: class of the layer's first rows.
    """

    hidden: Tensor
    layer: nn.Linear
    first: int = 0

    def __call__(self, rows: Tensor, classes: Tensor) -> Tensor:
        """Returns float32 [n, 4] of pairs, rows and classes int64 [n]."""
        place = classes - self.first
        # A traced graph has no branches; and many pairs are a product of their own.
        if torch.onnx.is_in_onnx_export() or FEW * len(rows) > self._pairs:
            every = precise(self.layer(self.hidden))
            return every.view(self.hidden.shape[0], -1, 4)[rows, place]
        parts = zip(torch.split(rows, PAIRS), torch.split(place, PAIRS), strict=True)
        return torch.cat([self._some(*part) for part in parts])

    def split(self, counts: list[int]) -> list[LazyOffsets]:
        """Returns those of each image; counts: regions of each."""
        return [LazyOffsets(h, self.layer, self.first) for h in torch.split(self.hidden, counts)]

    @property
    def _pairs(self) -> int:
        return self.hidden.shape[0] * self.layer.out_features // 4

    def _some(self, rows: Tensor, place: Tensor) -> Tensor:
        weight = self.layer.weight.view(-1, 4, self.layer.in_features)[place]
        bias = self.layer.bias.view(-1, 4)[place]
        return precise(torch.bmm(weight, self.hidden[rows, :, None])[..., 0] + bias)


@dataclass(frozen=True)
class DetectionRules:
    """Least score, IoU of two boxes of a class from which NMS drops one, most boxes."""

    score: float
    nms: float
    most: int


def detections(
    logits: Tensor,
    offsets: Tensor | LazyOffsets,
    proposals: list[Tensor],
    *,
    sizes: Sizes,
    coder: BoxCoder,
    rules: DetectionRules,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Returns boxes [n, 4], scores and labels [n] of each image, best first.

    Values and order are those of torchvision's `postprocess_detections`, but only boxes
    above the score threshold are decoded, clipped and copied.

    Args:
        logits: float [R, K] of the proposals of all images, one image after another.
        offsets: float [R, 4K] or what computes them; `coder` turns them into boxes.
        proposals: float [r, 4] xyxy for each image.
        sizes: (H, W) of each image; boxes are clipped to it.
    """
    counts = [p.shape[0] for p in proposals]  # len would fix the number in a traced graph
    scores = torch.split(logits.softmax(-1), counts)
    columns = zip(scores, offsets.split(counts), proposals, sizes, strict=True)
    found = [_of_image(*column, coder, rules) for column in columns]
    return [f[0] for f in found], [f[1] for f in found], [f[2] for f in found]


def _of_image(
    scores: Tensor,
    offsets: Tensor | LazyOffsets,
    proposals: Tensor,
    size: tuple[int, int],
    coder: BoxCoder,
    rules: DetectionRules,
) -> tuple[Tensor, Tensor, Tensor]:
    row, label = torch.where(scores[:, 1:] > rules.score)  # row after row, torchvision's order
    label = label + 1
    kept = scores[row, label]
    if isinstance(offsets, Tensor):
        offset = offsets.view(proposals.shape[0], scores.shape[1], 4)[row, label]
    else:
        offset = offsets(row, label)
    boxes = clip_boxes_to_image(coder.decode_single(offset, proposals[row]).reshape(-1, 4), size)
    large = remove_small_boxes(boxes, SMALLEST)
    boxes, kept, label = boxes[large], kept[large], label[large]
    best = batched_nms(boxes, kept, label, rules.nms)[: rules.most]
    return boxes[best], kept[best], label[best]
