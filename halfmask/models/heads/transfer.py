"""The weight transfer function T: a class's box weights become its mask filter (paper, section 3.1)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from halfmask.models.class_weights import ClassVectors
from halfmask.models.heads.base import MaskPredictor

SLOPE = 0.1


class TransferFunction(nn.Module):
    """T: class weights [n, D] → filters [n, C], 1 to 3 fully connected layers with biases and no activation after the last.

    The hidden layers are as wide as the filter. Weights start Gaussian with the fan-out deviation sqrt(2 / C), biases at 0 (Caffe2's
    MSRAFill, paper 1.1).
    """

    def __init__(
        self,
        inputs: int,
        channels: int,
        layers: int = 2,
        activation: Literal["leaky_relu", "relu", "none"] = "leaky_relu",
    ) -> None:
        super().__init__()
        assert layers >= 1, layers
        parts: list[nn.Module] = []
        for i in range(layers):
            linear = nn.Linear(inputs if i == 0 else channels, channels)
            nn.init.kaiming_normal_(linear.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(linear.bias)
            parts.append(linear)
            if i < layers - 1 and activation != "none":
                parts.append(nn.LeakyReLU(SLOPE) if activation == "leaky_relu" else nn.ReLU())
        self.layers = nn.Sequential(*parts)

    def forward(self, class_weights: Tensor) -> Tensor:
        out: Tensor = self.layers(class_weights)
        return out


class TransferPredictor(MaskPredictor):
    """Applies to each region the filter that T makes of its class's weights. No mask bias is predicted or added.

    T runs on the classes that occur, and each region meets its own filter alone: the values and gradients of the dense form (K maps,
    then the label's) at a cost that does not depend on K.
    """

    needs_labels = True

    def __init__(self, transfer: TransferFunction) -> None:
        super().__init__()
        self.transfer = transfer

    def forward(self, features: Tensor, labels: Tensor, class_weights: ClassVectors) -> Tensor:
        present, row = torch.unique(labels, return_inverse=True)
        filters = self.transfer(class_weights[present])[row]
        return torch.einsum("rchw,rc->rhw", features, filters.to(features.dtype))
