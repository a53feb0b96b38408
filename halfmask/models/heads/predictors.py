"""The interface of mask heads: features, labels, class weights → one map per region."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from halfmask.models.class_weights import ClassVectors


class MaskPredictor(nn.Module, ABC):
    """The last layer of a mask head.

    Attributes:
        needs_labels: whether the map depends on the region's class.
    """

    needs_labels: bool

    @abstractmethod
    def forward(self, features: Tensor, labels: Tensor, class_weights: ClassVectors) -> Tensor:
        """Returns one logit map for each region, float [R, h, w].

        Args:
            features: float [R, C, h, w], R may be 0.
            labels: int64 [R] in 0…K−1.
            class_weights: float [K, D], or `ClassRows`. Predictors that need labels
                take the rows of the classes that occur; others ignore it.
        """


def one_map(channels: int) -> nn.Conv2d:
    """Returns a 1×1 convolution to one map, Gaussian with deviation 0.001, bias 0."""
    conv = nn.Conv2d(channels, 1, 1)
    nn.init.normal_(conv.weight, std=0.001)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


class AgnosticPredictor(MaskPredictor):
    """One 1×1 convolution for all classes (paper 1.6: fan-based starts can diverge)."""

    needs_labels = False

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = one_map(channels)

    def forward(self, features: Tensor, labels: Tensor, class_weights: ClassVectors) -> Tensor:
        logits: Tensor = self.conv(features)
        return logits[:, 0]


class PerClassPredictor(MaskPredictor):
    """A 1×1 convolution of K channels; only each region's own class is computed.

    Weights have the shapes of torchvision's `mask_fcn_logits`, background included.
    """

    needs_labels = True

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, num_classes, 1)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, features: Tensor, labels: Tensor, class_weights: ClassVectors) -> Tensor:
        assert self.conv.bias is not None
        filters = self.conv.weight[labels, :, 0, 0]
        logits = torch.einsum("rchw,rc->rhw", features, filters.to(features.dtype))
        return logits + self.conv.bias[labels, None, None]


SLOPE = 0.1


class TransferFunction(nn.Module):
    """T: class weights [n, D] → filters [n, C], by 1 to 3 fully connected layers.

    They have biases, and no activation follows the last. Hidden layers are as wide as
    the filter. Weights start Gaussian with the fan-out deviation sqrt(2 / C), biases at
    0 (Caffe2's MSRAFill, paper 1.1).
    """

    def __init__(
        self,
        inputs: int,
        channels: int,
        layers: int = 2,
        *,
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
    """Applies to each region the filter that T predicts from its class's weights.

    No mask bias is predicted or added. T runs on the classes that occur, and each
    region is filtered once: the values and gradients of the dense form (K maps, then
    the label's), at a cost that does not depend on K.
    """

    needs_labels = True

    def __init__(self, transfer: TransferFunction) -> None:
        super().__init__()
        self.transfer = transfer

    def forward(self, features: Tensor, labels: Tensor, class_weights: ClassVectors) -> Tensor:
        present, row = torch.unique(labels, return_inverse=True)
        filters = self.transfer(class_weights[present])[row]
        return torch.einsum("rchw,rc->rhw", features, filters.to(features.dtype))
