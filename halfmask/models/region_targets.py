"""What is known of the cells of training regions: the object's own mask, its neighbours' masks, and what nobody knows."""

from __future__ import annotations

import torch
from torch import Tensor

from halfmask.masks.sample import sample
from halfmask.structures import Target

# RoIAlign as torchvision's Mask R-CNN uses it takes a pixel's value at its corner, so masks are learnt half a pixel up and left of
# where pixels lie. Putting them back is worth 1 point of IoU on 100 px objects and 6 on 30 px ones.
HALF_PIXEL = 0.5
COVERED = 0.5
"""A cell is the object's own from this share on."""


def region_targets(target: Target, matched: Tensor, regions: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Targets and unknown cells of one image's regions.

    Args:
        target: the image's objects.
        matched: int64 [R], the object of each region.
        regions: float32 [R, 4] xyxy in pixels of the image, as `sample` takes them: HALF_PIXEL up and left of where the cells lie.
        side: M.
    Returns:
        float32 [R, M, M] in [0, 1]: the object's own mask, or, for an object without one, what masked neighbours cover of the region;
        bool [R, M, M]: cells that may be another object's that has no mask, see `unknown_cells`.
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
    return out, unknown_cells(regions + HALF_PIXEL, out, target.boxes.to(regions)[boxes_only], itself)


def _neighbours(target: Target, regions: Tensor, side: int) -> Tensor:
    """float32 [R, M, M]: the largest share of each cell that one of the image's masks covers."""
    boxes = target.boxes[target.has_mask].to(regions)
    touch = (regions[:, None, :2] < boxes[None, :, 2:]) & (boxes[None, :, :2] < regions[:, None, 2:])
    region, mask = torch.where(touch.all(-1))
    covered = sample(target.masks, mask, regions[region], side)
    out = torch.zeros((len(regions), side, side), dtype=torch.float32, device=regions.device)
    return out.scatter_reduce(0, region[:, None, None].expand_as(covered), covered, "amax")


def unknown_cells(places: Tensor, targets: Tensor, boxes_only: Tensor, itself: Tensor | None = None) -> Tensor:
    """Cells that may be a box-only neighbour's: their centre lies in the box of an object without a mask, and no mask that is drawn
    covers them.

    Args:
        places: float [R, 4] xyxy, where the cells of each region are spread in the image.
        targets: float [R, M, M], what is drawn of each region.
        boxes_only: float [n, 4] xyxy in the same frame, of the image's objects without a mask.
        itself: bool [R, n], where the box is the region's own object's and no neighbour's; None: nowhere.
    Returns:
        bool [R, M, M].
    """
    side = targets.shape[-1]
    if len(boxes_only) == 0 or len(places) == 0:
        return torch.zeros_like(targets, dtype=torch.bool)
    steps = (torch.arange(side, device=places.device) + 0.5) / side
    low, size = places[:, :2], places[:, 2:] - places[:, :2]
    centres = low[:, None] + size[:, None] * steps[None, :, None]  # [R, M, 2]
    inside = (centres[:, None] >= boxes_only[None, :, None, :2]) & (centres[:, None] < boxes_only[None, :, None, 2:])
    if itself is not None:
        inside = inside & ~itself[:, :, None, None]
    x, y = inside.float().unbind(-1)  # [R, n, M] each
    return (torch.einsum("rny,rnx->ryx", y, x) > 0) & (targets < COVERED)
