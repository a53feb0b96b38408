"""The class-agnostic MLP mask branch (paper 1.4)."""

from __future__ import annotations

from torch import Tensor, nn


class MlpBranch(nn.Module):
    """One fully connected layer that sees the whole region: its map is added to the predictor's logits.

    Args:
        channels: C of the trunk's output.
        side: M, the trunk's output side and the map's. The layer has C·M²·M² + M² parameters (157 million for C 256, M 28).
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
