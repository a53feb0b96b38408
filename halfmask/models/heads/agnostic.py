"""The class-agnostic baseline: one filter for every class."""

from __future__ import annotations

from torch import Tensor, nn

from halfmask.models.class_weights import ClassVectors
from halfmask.models.heads.base import MaskPredictor


class AgnosticPredictor(MaskPredictor):
    """One 1×1 convolution with bias, Gaussian start of deviation 0.001 (paper 1.6: fan-based starts can diverge)."""

    needs_labels = False

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, 1)
        nn.init.normal_(self.conv.weight, std=0.001)
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, features: Tensor, labels: Tensor, class_weights: ClassVectors) -> Tensor:  # noqa: ARG002
        logits: Tensor = self.conv(features)
        return logits[:, 0]
