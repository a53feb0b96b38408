"""Boxes as a hurried person draws them: how a model copes with corners that are off."""

from __future__ import annotations

import torch
from torch import Tensor


def loosened(boxes: Tensor, share: float, image_id: int) -> Tensor:
    """The boxes with each corner coordinate moved by up to `share` of the box's side, uniformly; the same for the same image each time.

    Args:
        boxes: float32 [n, 4] xyxy, pixels.
        share: in [0, 0.5): below a half no box turns inside out.
        image_id: decides the moves.
    """
    assert 0 <= share < 0.5, share
    generator = torch.Generator().manual_seed(image_id % 2**63)
    moves = torch.rand(boxes.shape, generator=generator).to(boxes) * 2 - 1
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return boxes + moves * share * sides
