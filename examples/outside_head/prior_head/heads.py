"""A mask head, a trunk, a loss and a sampler, without a line changed in halfmask."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from halfmask.models.class_weights import ClassVectors
from halfmask.models.heads.predictors import MaskPredictor


class PriorPredictor(MaskPredictor):
    """One 1×1 filter for all classes, plus one learned map for all regions."""

    needs_labels = False

    def __init__(self, channels: int, side: int, *, start: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, 1)
        self.prior = nn.Parameter(torch.full((side, side), start))

    def forward(self, features: Tensor, labels: Tensor, class_weights: ClassVectors) -> Tensor:
        """float [R, C, h, w], int64 [R], [K, D] → float [R, h, w]; R may be 0."""
        return self.conv(features)[:, 0] + self.prior


class ScaledTransfer(MaskPredictor):
    """A filter of each class from its class weights, by one layer: it knows classes."""

    needs_labels = True

    def __init__(self, channels: int, class_size: int) -> None:
        super().__init__()
        self.filters = nn.Linear(class_size, channels)

    def forward(self, features: Tensor, labels: Tensor, class_weights: ClassVectors) -> Tensor:
        """As PriorPredictor's; only the rows of the labels that occur are read."""
        present, row = torch.unique(labels, return_inverse=True)
        filters = self.filters(class_weights[present])[row]
        return torch.einsum("rchw,rc->rhw", features, filters)


class WideTrunk(nn.Module):
    """One wide convolution, then an upsampling."""

    def __init__(self, in_channels: int, width: int, *, kernel: int = 5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, kernel, padding=kernel // 2)
        self.upsample = nn.ConvTranspose2d(width, width, 2, stride=2)

    def forward(self, features: Tensor) -> Tensor:
        """float [R, in_channels, S, S] → [R, width, 2S, 2S]."""
        return F.relu(self.upsample(F.relu(self.conv(features))))


def focal_loss(
    logits: Tensor, targets: Tensor, known: Tensor | None, *, gamma: float = 2.0
) -> Tensor:
    """The mean focal loss over the cells that count."""
    plain = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    losses = (1 - torch.exp(-plain)) ** gamma * plain
    return losses.mean() if known is None else (losses * known).sum() / known.sum().clamp_min(1)


def largest(boxes: Tensor, labels: Tensor, *, most: int = 8) -> Tensor:  # noqa: ARG001
    """The rows of the largest regions of an image."""
    size = boxes[:, 2:] - boxes[:, :2]
    return size.prod(1).argsort(descending=True)[:most]
