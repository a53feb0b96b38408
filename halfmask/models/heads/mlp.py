"""The class-agnostic MLP mask branch (paper 1.4)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class MlpBranch(nn.Module):
    """One fully connected layer that sees the whole region: its map is added to the
    predictor's logits.

    Args:
        channels: C of the trunk's output.
        side: M, the trunk's output side and the map's. The layer has C·M²·M² + M²
            parameters (157 million for C 256, M 28).
    """

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.linear = nn.Linear(channels * side * side, side * side)
        nn.init.normal_(self.linear.weight, std=0.001)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """float [R, C, M, M] → logits [R, M, M]."""
        logits: Tensor = self.linear(features.flatten(1))
        return logits.reshape(-1, self.side, self.side)


class LightMlpBranch(nn.Module):
    """Sees the whole region as `MlpBranch` does, but at half its side, in fewer
    channels, through a hidden layer with ReLU.

    Nearly all of the paper's 157 million weights join neighbouring cells and 256
    channels that say the same: the branch is to add the object's coarse extent, and the
    convolutions draw its border. Pooling costs a quarter, narrowing an eighth, and the
    hidden layer keeps the number of weights from growing with the fourth power of the
    side. The paper's optional deeper branch has a hidden layer as well (1024 wide).

    Args:
        channels: C of the trunk's output.
        side: M, the trunk's output side and the map's; even.
        narrow: channels after the 1×1 convolution.
        hidden: width of the hidden layer. C·narrow + narrow + (narrow·M²/4 + 1)·hidden
            + (hidden + 1)·M² parameters: 912,304 for C 256 and M 28.
    """

    def __init__(self, channels: int, side: int, narrow: int = 32, hidden: int = 128) -> None:
        super().__init__()
        assert side % 2 == 0, side
        self.side = side
        self.narrow = nn.Conv2d(channels, narrow, 1)
        self.hidden = nn.Linear(narrow * (side // 2) ** 2, hidden)
        self.linear = nn.Linear(hidden, side * side)
        for layer in (self.narrow, self.hidden):
            # By what goes in, unlike the paper's layers: 6272 inputs with its deviation
            # would begin with logits of order 1.
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
        # As the paper's last layer: the branch begins by adding next to nothing.
        nn.init.normal_(self.linear.weight, std=0.001)
        for layer in (self.narrow, self.hidden, self.linear):
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """float [R, C, M, M] → logits [R, M, M]."""
        seen = self.narrow(F.avg_pool2d(features, 2)).flatten(1)
        logits: Tensor = self.linear(F.relu(self.hidden(seen)))
        return logits.reshape(-1, self.side, self.side)
