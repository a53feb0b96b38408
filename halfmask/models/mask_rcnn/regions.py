"""Regions on their way between detector and mask branch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from halfmask import distributed
from halfmask.masks.sample import sample
from halfmask.structures import Target


@dataclass(frozen=True)
class MaskRegions:
    """What the mask loss sees of a batch.

    Attributes:
        features: float32 [R, C, S, S], pooled.
        labels: int64 [R], 1…K−1.
        targets: float32 [R, M, M] in [0, 1], the object's own mask; of an object
            without one what masked neighbours cover of the region.
        unknown: bool [R, M, M], cells that may be a box-only neighbour's; None where
            nobody asks for them.
        has_mask: bool [R], of each region's object; None: all.
    """

    features: Tensor
    labels: Tensor
    targets: Tensor
    unknown: Tensor | None = None
    has_mask: Tensor | None = None


@dataclass(frozen=True)
class RegionPlaces:
    """Where regions come from, a list entry for each image.

    Attributes:
        regions: float32 [r, 4] xyxy in pixels of the image, as masks are drawn on them
            (`region_targets`).
        matched: int64 [r], row of each region's object in the image's target.
    """

    regions: list[Tensor]
    matched: list[Tensor]


@dataclass(frozen=True)
class FoundBoxes:
    """The detector's answer for one image, before masks.

    Attributes:
        boxes: float32 [n, 4] xyxy in pixels of the image; labels: int64 [n]; scores:
            float32 [n], best first.
        features: float32 [n, C, S, S], pooled for the mask branch.
        image_size: (H, W).
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    features: Tensor
    image_size: tuple[int, int]


@dataclass(frozen=True)
class RegionRules:
    """A recipe's `mask_head.unknown`, `unknown_limit`, `regions` and `region_jitter`, see there."""

    unknown: Literal["background", "ignore", "skip"] = "background"
    limit: float = 0.2
    source: Literal["proposals", "boxes"] = "proposals"
    jitter: float = 0.0

    def taught(self, regions: MaskRegions) -> tuple[MaskRegions, Tensor | None]:
        """The regions that the loss is of, and bool [R, M, M]: the cells of them that
        count; None: all do.

        A batch in which every region is beyond the limit keeps them all, without their
        unknown cells.
        """
        if self.unknown == "background":
            return regions, None
        if self.unknown == "skip":
            kept = self._within_limit(regions)
            if distributed.total(len(kept)) > 0 and len(kept) < len(regions.labels):
                regions = rows_of(regions, kept)
        if len(regions.labels) == 0:
            return regions, None
        assert regions.unknown is not None, "regions were pooled without their neighbours"
        return regions, ~regions.unknown

    def _within_limit(self, regions: MaskRegions) -> Tensor:
        """int64: the regions that have few enough unknown cells."""
        if len(regions.labels) == 0:
            return regions.labels
        assert regions.unknown is not None, "regions were pooled without their neighbours"
        return torch.where(regions.unknown.float().mean((1, 2)) <= self.limit)[0]


def rows_of(regions: MaskRegions, index: Tensor) -> MaskRegions:
    """The regions at `index`, int64 [r]."""
    unknown = None if regions.unknown is None else regions.unknown[index]
    has_mask = None if regions.has_mask is None else regions.has_mask[index]
    return MaskRegions(
        regions.features[index], regions.labels[index], regions.targets[index], unknown, has_mask
    )


# RoIAlign as torchvision's Mask R-CNN uses it takes a pixel's value at its corner, so
# masks are learnt half a pixel up and left of where pixels lie. Putting them back is
# worth 1 point of IoU on 100 px objects and 6 on 30 px ones.
HALF_PIXEL = 0.5
COVERED = 0.5
"""A cell is the object's own from this share on."""


def region_targets(
    target: Target, matched: Tensor, regions: Tensor, side: int
) -> tuple[Tensor, Tensor]:
    """Targets and unknown cells of one image's regions.

    Args:
        target: the image's objects.
        matched: int64 [R], the object of each region.
        regions: float32 [R, 4] xyxy in pixels of the image, as `sample` takes them:
            HALF_PIXEL up and left of where the cells lie.
        side: M.
    Returns:
        float32 [R, M, M] in [0, 1]: the object's own mask, or, for an object without
            one, what masked neighbours cover of the region;
        bool [R, M, M]: cells that may be another object's that has no mask, see
            `unknown_cells`.
    """
    has_mask = target.has_mask.to(matched.device)
    own = target.mask_row.to(matched.device)[matched] if len(target) else matched
    with_mask, without = torch.where(own >= 0)[0], torch.where(own < 0)[0]
    out = torch.zeros((len(regions), side, side), dtype=torch.float32, device=regions.device)
    out[with_mask] = sample(target.masks, own[with_mask], regions[with_mask], side)
    if len(without):
        out[without] = _neighbours(target, regions[without], side)
    boxes_only = torch.where(~has_mask)[0]
    itself = matched[:, None] == boxes_only[None]
    return out, unknown_cells(
        regions + HALF_PIXEL, out, target.boxes.to(regions)[boxes_only], itself
    )


def _neighbours(target: Target, regions: Tensor, side: int) -> Tensor:
    """float32 [R, M, M]: the largest share of each cell that one of the image's masks covers."""
    boxes = target.boxes[target.has_mask].to(regions)
    touch = (regions[:, None, :2] < boxes[None, :, 2:]) & (
        boxes[None, :, :2] < regions[:, None, 2:]
    )
    region, mask = torch.where(touch.all(-1))
    covered = sample(target.masks, mask, regions[region], side)
    out = torch.zeros((len(regions), side, side), dtype=torch.float32, device=regions.device)
    return out.scatter_reduce(0, region[:, None, None].expand_as(covered), covered, "amax")


def unknown_cells(
    places: Tensor, targets: Tensor, boxes_only: Tensor, itself: Tensor | None = None
) -> Tensor:
    """Cells that may be a box-only neighbour's: their centre lies in the box of an
    object without a mask, and no mask that is drawn covers them.

    Args:
        places: float [R, 4] xyxy, where the cells of each region are spread in the
            image.
        targets: float [R, M, M], what is drawn of each region.
        boxes_only: float [n, 4] xyxy in the same frame, of the image's objects without
            a mask.
        itself: bool [R, n], where the box is the region's own object's and no
            neighbour's; None: nowhere.
    Returns:
        bool [R, M, M].
    """
    side = targets.shape[-1]
    if len(boxes_only) == 0 or len(places) == 0:
        return torch.zeros_like(targets, dtype=torch.bool)
    steps = (torch.arange(side, device=places.device) + 0.5) / side
    low, size = places[:, :2], places[:, 2:] - places[:, :2]
    centres = low[:, None] + size[:, None] * steps[None, :, None]  # [R, M, 2]
    inside = (centres[:, None] >= boxes_only[None, :, None, :2]) & (
        centres[:, None] < boxes_only[None, :, None, 2:]
    )
    if itself is not None:
        inside = inside & ~itself[:, :, None, None]
    x, y = inside.float().unbind(-1)  # [R, n, M] each
    return (torch.einsum("rny,rnx->ryx", y, x) > 0) & (targets < COVERED)
