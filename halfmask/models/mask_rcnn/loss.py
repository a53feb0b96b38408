"""The loss of a mask branch on pooled regions: of masked objects, and of box-only ones
where the branch has a teacher for them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from halfmask import distributed
from halfmask.models.class_weights import ClassVectors
from halfmask.models.mask_rcnn.mask_branch import MaskBranch
from halfmask.models.mask_rcnn.regions import MaskRegions, rows_of
from halfmask.models.mask_rcnn.teacher import lesson


def region_loss(branch: MaskBranch, regions: MaskRegions, class_weights: ClassVectors) -> Tensor:
    """A scalar; 0 for no region, and then it still hangs on every parameter.

    Args:
        regions: of masked objects; with a teacher of box-only ones too.
        class_weights: float [K, D], or what makes its rows.
    """
    if branch.teacher is not None:
        return _taught(branch, regions, class_weights)
    regions, known = branch.rules.taught(regions)
    return mask_bce(branch(regions.features, regions.labels, class_weights), regions.targets, known)


def _taught(branch: MaskBranch, regions: MaskRegions, class_weights: ClassVectors) -> Tensor:
    """The mask loss, the teacher's own on the same regions without their unknown cells,
    and what it teaches of the box-only regions.
    """
    assert branch.teacher is not None
    assert regions.has_mask is not None
    assert regions.unknown is not None
    masked, known = branch.rules.taught(rows_of(regions, torch.where(regions.has_mask)[0]))
    box_only = rows_of(regions, torch.where(~regions.has_mask)[0])
    hidden = branch.trunk(torch.cat([masked.features, box_only.features]))
    logits = branch.predict(hidden, torch.cat([masked.labels, box_only.labels]), class_weights)
    maps, count = branch.teacher(hidden), len(masked.labels)
    assert masked.unknown is not None
    loss = mask_bce(logits[:count], masked.targets, known) + mask_bce(
        maps[:count], masked.targets, ~masked.unknown
    )
    return loss + mask_bce(logits[count:], *lesson(maps[count:], box_only))


def mask_bce(logits: Tensor, targets: Tensor, known: Tensor | None = None) -> Tensor:
    """Mean binary cross-entropy over all cells of all regions (paper 1.7), or over
    those that are known.

    Args:
        logits: float [R, M, M].
        targets: float [R, M, M] in [0, 1].
        known: bool [R, M, M], the cells that count; None: all.
    Returns:
        A scalar; for no cell at all a zero that still hangs on every parameter behind
        the logits, so that distributed training stays in step.
    """
    if logits.numel() == 0:
        return logits.sum() * 0 * distributed.mean_scale(0)
    precise = torch.promote_types(logits.dtype, torch.float32)
    if known is None:
        loss = F.binary_cross_entropy_with_logits(logits.to(precise), targets.to(precise))
        return loss * distributed.mean_scale(logits.numel())
    losses = F.binary_cross_entropy_with_logits(
        logits.to(precise), targets.to(precise), reduction="none"
    )
    cells = known.sum()
    return (losses * known).sum() / cells.clamp_min(1) * distributed.mean_scale(cells)
