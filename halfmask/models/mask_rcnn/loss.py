"""The loss of a mask branch on pooled regions of masked and box-only objects."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from halfmask import distributed
from halfmask.models.class_weights import ClassVectors
from halfmask.models.mask_rcnn.mask_branch import MaskBranch
from halfmask.models.mask_rcnn.regions import COVERED, MaskRegions, rows_of

SURE = 0.7
"""Cells get pseudo-targets where the teacher gives at least this: at the start,
nowhere.
"""


def region_loss(branch: MaskBranch, regions: MaskRegions, class_weights: ClassVectors) -> Tensor:
    """Returns the loss, a scalar; for no region a 0 that depends on every parameter.

    Args:
        regions: of masked objects; with a teacher, of box-only objects too.
        class_weights: float [K, D], or `MaskBranch.rows`.
    """
    if branch.teacher is not None:
        return _taught(branch, regions, class_weights)
    regions, known = branch.rules.taught(regions)
    logits = branch(regions.features, regions.labels, class_weights)
    return _masked_loss(branch, logits, regions.targets, known=known)


def _masked_loss(
    branch: MaskBranch, logits: Tensor, targets: Tensor, *, known: Tensor | None
) -> Tensor:
    """Returns the branch's own loss, or `mask_bce`; of no region always the latter's 0."""
    if branch.loss is None or logits.numel() == 0:
        return mask_bce(logits, targets, known)
    cells = logits.numel() if known is None else known.sum()
    return branch.loss(logits, targets, known) * distributed.mean_scale(cells)


def _taught(branch: MaskBranch, regions: MaskRegions, class_weights: ClassVectors) -> Tensor:
    """Sums the losses of masks, of the teacher, and of its pseudo-targets."""
    assert branch.teacher is not None
    assert regions.has_mask is not None
    assert regions.unknown is not None
    masked, known = branch.rules.taught(rows_of(regions, torch.where(regions.has_mask)[0]))
    box_only = rows_of(regions, torch.where(~regions.has_mask)[0])
    hidden = branch.trunk(torch.cat([masked.features, box_only.features]))
    logits = branch.predict(hidden, torch.cat([masked.labels, box_only.labels]), class_weights)
    maps, count = branch.teacher(hidden), len(masked.labels)
    assert masked.unknown is not None
    loss = _masked_loss(branch, logits[:count], masked.targets, known=known) + mask_bce(
        maps[:count], masked.targets, ~masked.unknown
    )
    return loss + mask_bce(logits[count:], *pseudo_targets(maps[count:], box_only))


def pseudo_targets(logits: Tensor, regions: MaskRegions) -> tuple[Tensor, Tensor]:
    """Returns pseudo-targets for box-only regions.

    Args:
        logits: float [R, M, M] of the teacher; they get no gradient.
        regions: of box-only objects. Their `targets` are the shares that masked
            neighbours cover, their `unknown` the cells of other box-only objects'
            boxes.
    Returns:
        Targets, float [R, M, M] of 0 and 1; and bool [R, M, M], the cells that count:
        those of masked neighbours (not the object), and those where the teacher is sure
        and no other box-only object may lie.
    """
    assert regions.unknown is not None
    probability = logits.detach().sigmoid()
    neighbour = regions.targets >= COVERED
    sure = (probability - 0.5).abs() >= SURE - 0.5
    targets = ((probability > 0.5) & ~neighbour).to(logits.dtype)
    return targets, neighbour | (sure & ~regions.unknown)


def mask_bce(logits: Tensor, targets: Tensor, known: Tensor | None = None) -> Tensor:
    """Returns the mean binary cross-entropy over known cells (paper 1.7).

    Args:
        logits: float [R, M, M].
        targets: float [R, M, M] in [0, 1].
        known: bool [R, M, M], the cells that count; None: all.
    Returns:
        A scalar. For no cell it is 0 and still depends on every parameter behind the
        logits, so that the processes of distributed training stay in step.
    """
    if logits.numel() == 0:
        return logits.sum() * 0 * distributed.mean_scale(0)
    precise = torch.promote_types(logits.dtype, torch.float32)
    logits, targets = logits.to(precise), targets.to(precise)
    if known is None:
        loss = F.binary_cross_entropy_with_logits(logits, targets)
        return loss * distributed.mean_scale(logits.numel())
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    cells = known.sum()
    return (losses * known).sum() / cells.clamp_min(1) * distributed.mean_scale(cells)
