"""Detections from the box head's logits and offsets: torchvision's, computed once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import batched_nms, clip_boxes_to_image, remove_small_boxes

Sizes = list[tuple[int, int]]

SMALLEST = 1e-2
"""Least side of a box that counts, pixels; torchvision's."""


@dataclass(frozen=True)
class DetectionRules:
    """Least score, IoU of two boxes of a class from which NMS drops one, most boxes."""

    score: float
    nms: float
    most: int


def detections(
    logits: Tensor,
    offsets: Tensor,
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
        offsets: float [R, 4K], which `coder` turns into boxes.
        proposals: float [r, 4] xyxy for each image.
        sizes: (H, W) of each image; boxes are clipped to it.
    """
    counts = [p.shape[0] for p in proposals]  # len would fix the number in a traced graph
    scores = torch.split(logits.softmax(-1), counts)
    columns = zip(scores, torch.split(offsets, counts), proposals, sizes, strict=True)
    found = [_of_image(*column, coder, rules) for column in columns]
    return [f[0] for f in found], [f[1] for f in found], [f[2] for f in found]


def _of_image(
    scores: Tensor,
    offsets: Tensor,
    proposals: Tensor,
    size: tuple[int, int],
    coder: BoxCoder,
    rules: DetectionRules,
) -> tuple[Tensor, Tensor, Tensor]:
    row, label = torch.where(scores[:, 1:] > rules.score)  # row after row, torchvision's order
    label = label + 1
    kept = scores[row, label]
    offset = offsets.view(proposals.shape[0], scores.shape[1], 4)[row, label]
    boxes = clip_boxes_to_image(coder.decode_single(offset, proposals[row]).reshape(-1, 4), size)
    large = remove_small_boxes(boxes, SMALLEST)
    boxes, kept, label = boxes[large], kept[large], label[large]
    best = batched_nms(boxes, kept, label, rules.nms)[: rules.most]
    return boxes[best], kept[best], label[best]
