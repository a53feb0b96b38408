"""Looks whether everything that a resume point would hold is finite: once spoiled and saved, a run can only be begun anew."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn


def not_finite(model: nn.Module, *optimisers: torch.optim.Optimizer) -> str | None:
    """What is not finite, in words, None where all is: weights, buffers (BatchNorm's statistics), optimisers' state (momentum).

    The last two can be spoiled while the weights are sound: a huge activation passes through BatchNorm as 0 and leaves an infinite variance
    behind; an infinite second moment makes Adam's steps 0 for good.
    """
    named = list(_numbers(model, *optimisers))
    finite = torch.stack([torch.isfinite(value).all() for _, value in named])
    return None if bool(finite.all()) else named[int(finite.int().argmin())][0]


def _numbers(model: nn.Module, *optimisers: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    names = {}
    for name, weight in model.named_parameters():
        names[id(weight)] = name
        yield f"the weights {name}", weight.detach()
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point():
            yield f"the statistics {name}", buffer
    for optimiser in optimisers:
        for learning, state in optimiser.state.items():
            for key, value in state.items():
                # Counts of steps lie on the CPU, and are finite.
                if isinstance(value, Tensor) and value.is_floating_point() and value.shape == learning.shape:
                    yield f"the optimiser's {key} of {names.get(id(learning), 'a weight')}", value
