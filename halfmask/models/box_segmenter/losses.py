"""Losses of a mask on a crop of a box with context."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class CropLossWeights:
    """Weights of the dice loss, and extra weight of border cells in cross-entropy."""

    dice: float = 1.0
    boundary: float = 0.0


def crop_losses(
    logits: Tensor,
    masks: Tensor,
    counts: Tensor,
    *,
    weight: Tensor | None = None,
    boundary_weight: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Returns binary cross-entropy and dice loss, each the mean over regions.

    Cells that do not touch the box should not count: a mask is clipped to its box.

    Args:
        logits: float [R, M, M], R ≥ 1.
        masks: float [R, M, M] in [0, 1], the truth.
        counts: bool [R, M, M], the cells that count.
        weight: float [R], of each region in the mean; None: all alike.
        boundary_weight: extra weight of a cell at the mask's border in cross-entropy.
    """
    masks = masks * counts
    weights = counts.to(masks.dtype)
    if boundary_weight > 0:
        weights = weights * (1 + boundary_weight * boundary(masks))
    entropy = F.binary_cross_entropy_with_logits(logits.float(), masks, reduction="none") * weights
    cells = weights.sum((1, 2)).clamp_min(1)
    # A logit this low is no mask and passes no gradient.
    dice = dice_loss(logits.masked_fill(~counts, -1e4), masks)
    return _mean(entropy.sum((1, 2)) / cells, weight), _mean(dice, weight)


def boundary(masks: Tensor) -> Tensor:
    """Returns 1 for cells within one cell of the border of masks [R, M, M], else 0."""
    highest = F.max_pool2d(masks[:, None], 3, stride=1, padding=1)
    lowest = -F.max_pool2d(-masks[:, None], 3, stride=1, padding=1)
    return ((highest >= 0.5) & (lowest < 0.5)).to(masks.dtype)[:, 0]


def _mean(losses: Tensor, weight: Tensor | None) -> Tensor:
    if weight is None:
        return losses.mean()
    return (losses * weight).sum() / weight.sum().clamp_min(1e-6)


def dice_loss(logits: Tensor, targets: Tensor, smooth: float = 1.0) -> Tensor:
    """Returns 1 − (2·Σpt + smooth) / (Σp + Σt + smooth) of each region, float [R].

    Args:
        logits: float [R, M, M].
        targets: float [R, M, M] in [0, 1].
        smooth: cells added above and below, so that an empty region has a finite loss.
    """
    probs, truth = logits.float().sigmoid().flatten(1), targets.float().flatten(1)
    overlap = 2 * (probs * truth).sum(1) + smooth
    return 1 - overlap / (probs.sum(1) + truth.sum(1) + smooth)
