"""The class-agnostic MLP branch of a mask head (paper 1.4)."""

from __future__ import annotations

import itertools

import torch.nn.functional as F
from torch import Tensor, nn

from halfmask.models.class_weights import ClassVectors
from halfmask.models.heads.predictors import MaskPredictor

HIDDEN = 1024
"""Width of the hidden layers of `MlpBranch` (the authors')."""


class MlpBranch(nn.Module):
    """Fully connected layers on the whole region; their map is added to the logits.

    Args:
        channels: C of the trunk's output.
        side: M, of the trunk's output and the map.
        layers: 1 (C·M²·M² + M² parameters: 157 million for C 256, M 28), or 2 or 3,
            with hidden layers of 1024 and ReLU. Hidden layers start Gaussian with the
            fan-out deviation (Caffe2's MSRAFill), the last with deviation 0.001.
    """

    def __init__(self, channels: int, side: int, layers: int = 1) -> None:
        super().__init__()
        assert layers >= 1, layers
        self.side = side
        widths = [channels * side * side, *[HIDDEN] * (layers - 1)]
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(widths))
        self.linear = nn.Linear(widths[-1], side * side)
        for layer in self.hidden:
            assert isinstance(layer, nn.Linear)
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.linear.weight, std=0.001)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Returns logits [R, M, M] of float [R, C, M, M]."""
        seen = features.flatten(1)
        for layer in self.hidden:
            seen = F.relu(layer(seen))
        logits: Tensor = self.linear(seen)
        return logits.reshape(-1, self.side, self.side)


class MlpPredictor(MaskPredictor):
    """`MlpBranch` as the whole last layer: a class-agnostic map without convolution.

    Args:
        channels, side, layers: of the branch.
    """

    needs_labels = False

    def __init__(self, channels: int, side: int, layers: int) -> None:
        super().__init__()
        self.mlp = MlpBranch(channels, side, layers)

    def forward(self, features: Tensor, labels: Tensor, class_weights: ClassVectors) -> Tensor:
        logits: Tensor = self.mlp(features)
        return logits


class LightMlpBranch(nn.Module):
    """`MlpBranch` at half the side, in fewer channels, through a hidden layer.

    Nearly all of the paper's 157 million weights join neighbouring cells and channels
    of the same content, but the branch only adds the object's coarse extent. Pooling
    costs a quarter, narrowing an eighth. The paper's optional deeper branch also has a
    hidden layer (1024 wide).

    Args:
        channels: C of the trunk's output.
        side: M, of the trunk's output and the map; even.
        narrow: channels after the 1×1 convolution.
        hidden: width of the hidden layer. C·narrow + narrow + (narrow·M²/4 + 1)·hidden
            + (hidden + 1)·M² parameters: 912,304 for C 256 and M 28.
    """

    def __init__(self, channels: int, side: int, narrow: int = 32, *, hidden: int = 128) -> None:
        super().__init__()
        assert side % 2 == 0, side
        self.side = side
        self.narrow = nn.Conv2d(channels, narrow, 1)
        self.hidden = nn.Linear(narrow * (side // 2) ** 2, hidden)
        self.linear = nn.Linear(hidden, side * side)
        for layer in (self.narrow, self.hidden):
            # By the number of inputs, unlike the paper's layers: 6272 inputs with its
            # deviation would start with logits of order 1.
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
        # As the paper's last layer: at first the branch adds next to nothing.
        nn.init.normal_(self.linear.weight, std=0.001)
        for layer in (self.narrow, self.hidden, self.linear):
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Returns logits [R, M, M] of float [R, C, M, M]."""
        seen = self.narrow(F.avg_pool2d(features, 2)).flatten(1)
        logits: Tensor = self.linear(F.relu(self.hidden(seen)))
        return logits.reshape(-1, self.side, self.side)
