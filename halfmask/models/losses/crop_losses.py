"""The losses of a mask on a crop of a box with context."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from halfmask.models.losses.dice import dice_loss


def crop_losses(logits: Tensor, masks: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy and dice loss, each the mean over regions.

    Cells that do not touch the box count for nothing: a mask is clipped to its box whatever is predicted there.

    Args:
        logits: float [R, M, M], R ≥ 1.
        masks: float [R, M, M] in [0, 1], the truth.
        inside: float [R, M, M] in [0, 1], share of a cell that lies in the box.
    """
    counts = inside > 0
    masks = masks * counts
    entropy = F.binary_cross_entropy_with_logits(logits.float(), masks, reduction="none") * counts
    cells = counts.sum((1, 2)).clamp_min(1)
    # A logit this low is no mask and passes no gradient.
    return (entropy.sum((1, 2)) / cells).mean(), dice_loss(logits.masked_fill(~counts, -1e4), masks)
