"""The fully supervised oracle: a learnt filter for each class, as in Mask R-CNN."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from halfmask.models.class_weights import ClassVectors
from halfmask.models.heads.base import MaskPredictor


class PerClassPredictor(MaskPredictor):
    """A 1×1 convolution of K channels of which each region gets its own class's; the other K−1 maps are never computed.

    The weights have the shapes of torchvision's `mask_fcn_logits`, background channel included.
    """

    needs_labels = True

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, num_classes, 1)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, features: Tensor, labels: Tensor, class_weights: ClassVectors) -> Tensor:  # noqa: ARG002
        assert self.conv.bias is not None
        filters = self.conv.weight[labels, :, 0, 0]
        logits = torch.einsum("rchw,rc->rhw", features, filters.to(features.dtype))
        return logits + self.conv.bias[labels, None, None]
