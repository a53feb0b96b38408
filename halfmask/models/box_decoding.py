"""Scores and offsets to detections, at a cost that does not grow with the number of classes beyond the scores themselves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import batched_nms, clip_boxes_to_image, remove_small_boxes

SMALLEST = 1e-2
"""Sides of a box that counts, pixels; torchvision's."""


@dataclass(frozen=True)
class DetectionRules:
    """score: a class's probability must exceed it; nms: IoU above which the lower score of a class goes; most: boxes kept of an image."""

    score: float
    nms: float
    most: int


def detections(
    logits: Tensor,
    offsets: Tensor,
    proposals: list[Tensor],
    sizes: list[tuple[int, int]],
    coder: BoxCoder,
    rules: DetectionRules,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """The detections of each image, best first: boxes [n, 4], scores [n], labels [n].

    The same values in the same order as torchvision's `postprocess_detections`, which decodes, clips and copies a box for every proposal
    and class; here only those above the score threshold are decoded.

    Args:
        logits: float [R, K] of the proposals of all images, one image after another.
        offsets: float [R, 4K].
        proposals: float [r, 4] xyxy for each image.
        sizes: (H, W) of each image; boxes are clipped to it.
        coder: turns offsets into boxes.
    """
    counts = [p.shape[0] for p in proposals]  # not len: a graph that is traced here has to take another number
    scores = torch.split(logits.softmax(-1), counts)
    columns = zip(scores, torch.split(offsets, counts), proposals, sizes, strict=True)
    found = [_of_image(*column, coder, rules) for column in columns]
    return [f[0] for f in found], [f[1] for f in found], [f[2] for f in found]


def _of_image(
    scores: Tensor, offsets: Tensor, proposals: Tensor, size: tuple[int, int], coder: BoxCoder, rules: DetectionRules
) -> tuple[Tensor, Tensor, Tensor]:
    row, label = torch.where(scores[:, 1:] > rules.score)  # row after row, as torchvision orders them
    label = label + 1
    kept = scores[row, label]
    offset = offsets.view(proposals.shape[0], scores.shape[1], 4)[row, label]
    boxes = clip_boxes_to_image(coder.decode_single(offset, proposals[row]).reshape(-1, 4), size)
    large = remove_small_boxes(boxes, SMALLEST)
    boxes, kept, label = boxes[large], kept[large], label[large]
    best = batched_nms(boxes, kept, label, rules.nms)[: rules.most]
    return boxes[best], kept[best], label[best]
