"""The mask loss: binary cross-entropy on the regions that have a mask."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from halfmask import team


def mask_bce(logits: Tensor, targets: Tensor, known: Tensor | None = None) -> Tensor:
    """Mean binary cross-entropy over all cells of all regions (paper 1.7), or over those that are known.

    Args:
        logits: float [R, M, M].
        targets: float [R, M, M] in [0, 1].
        known: bool [R, M, M], the cells that count; None: all.
    Returns:
        A scalar; for no cell at all a zero that still hangs on every parameter behind the logits, so that distributed training stays in
        step.
    """
    if logits.numel() == 0:
        return logits.sum() * 0 * team.share(0)
    precise = torch.promote_types(logits.dtype, torch.float32)
    if known is None:
        loss = F.binary_cross_entropy_with_logits(logits.to(precise), targets.to(precise))
        return loss * team.share(logits.numel())
    losses = F.binary_cross_entropy_with_logits(logits.to(precise), targets.to(precise), reduction="none")
    cells = known.sum()
    return (losses * known).sum() / cells.clamp_min(1) * team.share(cells)
