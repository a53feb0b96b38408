"""The losses of a mask on a crop of a box with context."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from halfmask.models.losses.dice import dice_by_region


def crop_losses(logits: Tensor, masks: Tensor, counts: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy and dice loss, each the mean over regions.

    Cells that do not touch the box should not count: a mask is clipped to its box whatever is predicted there.

    Args:
        logits: float [R, M, M], R ≥ 1.
        masks: float [R, M, M] in [0, 1], the truth.
        counts: bool [R, M, M], the cells that count.
        weight: float [R], of each region in the mean; None: all alike.
    """
    masks = masks * counts
    entropy = F.binary_cross_entropy_with_logits(logits.float(), masks, reduction="none") * counts
    cells = counts.sum((1, 2)).clamp_min(1)
    # A logit this low is no mask and passes no gradient.
    dice = dice_by_region(logits.masked_fill(~counts, -1e4), masks)
    return _mean(entropy.sum((1, 2)) / cells, weight), _mean(dice, weight)


def _mean(losses: Tensor, weight: Tensor | None) -> Tensor:
    if weight is None:
        return losses.mean()
    return (losses * weight).sum() / weight.sum().clamp_min(1e-6)
