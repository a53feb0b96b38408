"""Depthwise convolutions of stride 2, which a CPU computes badly in bfloat16."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class FullPrecisionDepthwise(nn.Conv2d):
    """A convolution that computes in its weights' precision, under autocast too."""

    def forward(self, input: Tensor) -> Tensor:
        """Returns the convolution of float [N, C, H, W]."""
        with torch.autocast(input.device.type, enabled=False):
            out: Tensor = super().forward(input.to(self.weight.dtype))
            return out


@contextmanager
def depthwise_in_full_precision(model: nn.Module) -> Iterator[None]:
    """Lets depthwise convolutions of stride 2 compute in float32 within the block.

    oneDNN has no bfloat16 kernel for their gradient: it multiplies matrices of one
    channel each, a third of a step of MobileNetV2 on 96 × 96. (torch 2.14, AMX.) State
    dicts and copies of the model stay as they are.
    """
    chosen = [
        m for m in model.modules() if type(m) is nn.Conv2d and m.groups > 1 and max(m.stride) > 1
    ]
    for module in chosen:
        module.__class__ = FullPrecisionDepthwise
    try:
        yield
    finally:
        for module in chosen:
            module.__class__ = nn.Conv2d
