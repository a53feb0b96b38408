"""One module's own `training` flag, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def training_flag(module: nn.Module, training: bool) -> Iterator[None]:
    """Sets the flag of the module, not of its children: torchvision's transform and RPN choose by it what they compute."""
    before, module.training = module.training, training
    try:
        yield
    finally:
        module.training = before
