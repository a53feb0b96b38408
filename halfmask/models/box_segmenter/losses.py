"""Losses of masks on crops of boxes with context, and those of a training batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from halfmask import distributed
from halfmask.models.box_segmenter.clicks import in_inference, simulate_clicks
from halfmask.models.box_segmenter.sampler import CropBatch, batch_tightness
from halfmask.models.image_rng import use_image_seeds
from halfmask.structures import Target


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


def training_losses(model: Any, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
    """Returns the losses of a batch; see `BoxSegmenter.forward`.

    Args:
        model: a BoxSegmenter.
    """
    with use_image_seeds(targets):
        batch = model.sampler.draw(images, targets, model.mask_size, hide_labels=model.needs_labels)
    if distributed.total(0 if batch is None else len(batch.labels)) == 0:
        return _no_losses(model)
    batch = batch or model.sampler.nothing(images, model.mask_size)
    if model.takes_clicks:
        batch = replace(batch, crops=clicked_crops(model, batch))
    logits = model.logits(batch.crops, batch.labels)
    losses = _mask_losses(logits, batch, model.loss_weights)
    if model.from_boxes is not None:
        rows = ~batch.has_mask
        rgb = model.reader.colours(batch.crops[rows])
        losses |= model.from_boxes(
            logits[rows], rgb, batch.true_inside[rows], batch_tightness(targets)
        )
    distillation = model.sampler.distillation
    if distillation is not None:
        losses["loss_looks"] = distillation.loss(logits, batch.looks, batch.counts)
    return losses


def clicked_crops(model: Any, batch: CropBatch) -> Tensor:
    """Returns the batch's crops with simulated clicks on the model's errors."""

    def predict(crops: Tensor, rows: Tensor) -> Tensor:
        masks: Tensor = model.logits(crops, batch.labels[rows]) >= 0
        return masks & batch.counts[rows]

    with in_inference(model):
        return simulate_clicks(
            batch.crops,
            (batch.masks >= 0.5) & batch.counts,
            clicks=batch.clicks,
            shown=batch.shown,
            predict=predict,
        )


def _mask_losses(logits: Tensor, batch: CropBatch, weights: CropLossWeights) -> dict[str, Tensor]:
    rows = batch.has_mask
    scale = distributed.mean_scale(batch.weight[rows].sum())
    if not bool(rows.any()):
        return {"loss_mask": logits.sum() * 0, "loss_dice": logits.sum() * 0}
    entropy, dice = crop_losses(
        logits[rows],
        batch.masks[rows],
        batch.counts[rows],
        weight=batch.weight[rows],
        boundary_weight=weights.boundary,
    )
    return {"loss_mask": entropy * scale, "loss_dice": weights.dice * dice * scale}


def _no_losses(model: Any) -> dict[str, Tensor]:
    """Returns zeros that depend on every parameter."""
    nothing = torch.stack([p.sum() * 0.0 for p in model.parameters() if p.requires_grad]).sum()
    names = ["loss_mask", "loss_dice"]
    names += [] if model.from_boxes is None else ["loss_projection", "loss_colour"]
    names += [] if model.sampler.distillation is None else ["loss_looks"]
    return dict.fromkeys(names, nothing)
