"""Exponential moving average of a model's weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def average_of(model: nn.Module, decay: float) -> AveragedModel:
    """A copy of the model that follows it: call `update_parameters(model)` after each step, use `.module`.

    The decay of step n is min(decay, (1 + n) / (10 + n)), so that short runs do not keep their random start. BatchNorm's running
    statistics are averaged as the weights are: statistics of today do not fit weights of the last thousand steps.
    """

    @torch.no_grad()
    def update(averages: list[Tensor], values: list[Tensor], count: Any) -> None:
        if not averages[0].is_floating_point():
            torch._foreach_copy_(averages, values)
            return
        n = int(count)
        torch._foreach_lerp_(averages, values, 1 - min(decay, (1 + n) / (10 + n)))

    average = AveragedModel(model, multi_avg_fn=update, use_buffers=True)  # type: ignore[arg-type]
    average.requires_grad_(False)
    return average
