"""Keeps boxes out of mixed precision: 16 bits hold a coordinate of 1000 pixels to 4 (bfloat16), or to one half (float16)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def propose_in_full_precision(head: nn.Module) -> None:
    """Lets torchvision's RPN head answer in float32, whatever it computes in: it places its boxes in the precision of its offsets."""
    head.register_forward_hook(_as_float32)


def _as_float32(_: nn.Module, __: Any, found: tuple[list[Tensor], list[Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    scores, offsets = found
    return [s.float() for s in scores], [o.float() for o in offsets]
