"""The dice loss: overlap as a whole, so that small objects in large regions count."""

from __future__ import annotations

from torch import Tensor


def dice_loss(logits: Tensor, targets: Tensor, smooth: float = 1.0) -> Tensor:
    """Mean over the regions of 1 − (2·Σpt + smooth) / (Σp + Σt + smooth).

    Args:
        logits: float [R, M, M].
        targets: float [R, M, M] in [0, 1].
        smooth: cells added above and below, so that an empty region has a finite loss.
    Returns:
        A scalar; 0 for R = 0, still hanging on the logits.
    """
    if logits.numel() == 0:
        return logits.sum() * 0
    return dice_by_region(logits, targets, smooth).mean()


def dice_by_region(logits: Tensor, targets: Tensor, smooth: float = 1.0) -> Tensor:
    """The loss of each region, float [R]; see `dice_loss`."""
    probs, truth = logits.float().sigmoid().flatten(1), targets.float().flatten(1)
    overlap = 2 * (probs * truth).sum(1) + smooth
    return 1 - overlap / (probs.sum(1) + truth.sum(1) + smooth)
