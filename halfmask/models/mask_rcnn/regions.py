"""Regions between the detector and the mask branch, and the targets drawn on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from halfmask import distributed
from halfmask.errors import InputError
from halfmask.masks.polygons import draw_outline
from halfmask.masks.sample import sample
from halfmask.structures import Target

HALF_PIXEL = 0.5
"""RoIAlign reads a pixel at its corner, so masks are learned half a pixel up and left.

The shift back is worth 1 point of IoU on objects of 100 px and 6 on objects of 30 px.
"""
CHUNK = 32
"""Regions in one call of the mask branch in inference: bounds the memory.

A library's kernels, and so the last bit of a mask, depend on the number of regions in a
call. An image's chunks are the same ones whether its last chunks are drawn or not.
"""
COVERED = 0.5
"""A cell belongs to an object from this share on."""


@dataclass(frozen=True, kw_only=True)
class MaskRegions:
    """The regions that the mask loss sees of a batch.

    Attributes:
        features: float32 [R, C, S, S], pooled.
        labels: int64 [R], 1…K−1.
        targets: float32 [R, M, M] in [0, 1], the object's own mask; for a box-only
            object the share of each cell that masked neighbours cover.
        unknown: bool [R, M, M], cells that may belong to a box-only neighbour; None if
            not needed.
        has_mask: bool [R], of each region's object; None: all have one.
    """

    features: Tensor
    labels: Tensor
    targets: Tensor
    unknown: Tensor | None = None
    has_mask: Tensor | None = None


@dataclass(frozen=True)
class RegionPlaces:
    """Where regions lie, a list entry for each image.

    Attributes:
        regions: float32 [r, 4] xyxy in pixels of the image, as `sample` takes them:
            HALF_PIXEL up and left of their cells.
        matched: int64 [r], row of each region's object in the image's target.
    """

    regions: list[Tensor]
    matched: list[Tensor]


@dataclass(frozen=True, kw_only=True)
class DetectedBoxes:
    """The detector's answer for one image, before masks.

    Attributes:
        boxes: float32 [n, 4] xyxy in pixels of the image.
        labels: int64 [n].
        scores: float32 [n], best first.
        features: float32 [n, C, S, S], pooled for the mask branch.
        image_size: (H, W).
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    features: Tensor
    image_size: tuple[int, int]


def count_to_draw(scores: Tensor, least: float) -> int:
    """Returns how many masks of an image are drawn; scores float [n], best first.

    All chunks with a score of at least this; see `CHUNK`.
    """
    wanted = int((scores >= least).sum())
    return min(-(-wanted // CHUNK) * CHUNK, len(scores))


@dataclass(frozen=True)
class RegionRules:
    """The recipe's `unknown`, `unknown_limit`, `regions` and `region_jitter`."""

    unknown: Literal["background", "ignore", "skip"] = "background"
    limit: float = 0.2
    source: Literal["proposals", "boxes"] = "proposals"
    jitter: float = 0.0

    def taught(self, regions: MaskRegions) -> tuple[MaskRegions, Tensor | None]:
        """Returns the regions of the loss, and their cells that count, bool [R, M, M].

        None stands for all cells. If all regions of a batch are beyond the limit, all
        stay, without unknown cells.
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
        if len(regions.labels) == 0:
            return regions.labels
        assert regions.unknown is not None, "regions were pooled without their neighbours"
        return torch.where(regions.unknown.float().mean((1, 2)) <= self.limit)[0]


def rows_of(regions: MaskRegions, index: Tensor) -> MaskRegions:
    """Returns the regions at `index`, int64 [r]."""
    unknown, has_mask = regions.unknown, regions.has_mask
    return MaskRegions(
        features=regions.features[index],
        labels=regions.labels[index],
        targets=regions.targets[index],
        unknown=None if unknown is None else unknown[index],
        has_mask=None if has_mask is None else has_mask[index],
    )


def minibatches(regions: MaskRegions, counts: list[int], size: int | None) -> list[MaskRegions]:
    """Returns the regions of each `size` images, None: of all; `counts` is of each image."""
    if size is None:
        return [regions]
    sums = [sum(counts[i : i + size]) for i in range(0, len(counts), size)]
    rows = torch.arange(sum(counts), device=regions.labels.device)
    return [rows_of(regions, part) for part in torch.split(rows, sums)]


def teaching_rows(target: Target, every: bool) -> Tensor:
    """Returns bool [n + c]: the objects with a mask, or every one; no crowd."""
    objects = torch.ones_like(target.has_mask) if every else target.has_mask
    crowds = 0 if target.crowds is None else len(target.crowds)
    return torch.cat([objects, objects.new_zeros(crowds)])


def batch_targets(
    targets: list[Target], places: RegionPlaces, side: int, *, frames: list[Tensor] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns `region_targets` of all images, and bool [R]: whose object has a mask."""
    rows = zip(targets, places.matched, places.regions, frames or places.regions, strict=True)
    drawn = [
        region_targets(target, matched, place, side=side, frame=frame)
        for target, matched, place, frame in rows
    ]
    pairs = zip(targets, places.matched, strict=True)
    has_mask = [target.has_mask.to(matched.device)[matched] for target, matched in pairs]
    cells, unknown = zip(*drawn, strict=True)
    return torch.cat(cells), torch.cat(unknown), torch.cat(has_mask)


def region_targets(
    target: Target, matched: Tensor, regions: Tensor, *, side: int, frame: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Returns targets and unknown cells of one image's regions.

    Args:
        target: the image's objects.
        matched: int64 [R], the object of each region.
        regions: float32 [R, 4] xyxy, see `RegionPlaces.regions`.
        side: M.
        frame: float32 [R, 4] xyxy, the rectangles over which an object's outlines are
            drawn, if it has some; None: `regions`.
    Returns:
        float32 [R, M, M] in [0, 1], see `MaskRegions.targets`; and bool [R, M, M], see
        `unknown_cells`.
    """
    has_mask = target.has_mask.to(matched.device)
    own = target.mask_row.to(matched.device)[matched] if len(target) else matched
    with_mask, without = torch.where(own >= 0)[0], torch.where(own < 0)[0]
    out = torch.zeros((len(regions), side, side), dtype=torch.float32, device=regions.device)
    boxes = regions if frame is None else frame
    out[with_mask] = _own_masks(
        target, own[with_mask], regions[with_mask], frame=boxes[with_mask], side=side
    )
    if len(without):
        out[without] = _neighbours(target, regions[without], side)
    boxes_only = torch.where(~has_mask)[0]
    itself = matched[:, None] == boxes_only[None]
    others = target.boxes.to(regions)[boxes_only]
    return out, unknown_cells(regions + HALF_PIXEL, out, others, itself=itself)


def _own_masks(
    target: Target, rows: Tensor, regions: Tensor, *, frame: Tensor, side: int
) -> Tensor:
    """Returns float32 [R, M, M]: the masks `rows` on regions, from outlines if read."""
    regions = regions.float()  # of masks; a model's own arithmetic may be finer
    if target.outlines is None:
        return sample(target.masks, rows, regions, size=side)
    outlines = [target.outlines[row] for row in rows.tolist()]
    pairs = zip(outlines, frame.cpu().numpy(), strict=True)
    drawn = [draw_outline(outline or (), box, side) for outline, box in pairs]
    if not drawn:
        return regions.new_zeros((0, side, side))
    out = torch.from_numpy(np.stack(drawn)).to(regions)  # one copy to the device
    bitmaps = torch.tensor([i for i, o in enumerate(outlines) if o is None], dtype=torch.int64)
    bitmaps = bitmaps.to(rows.device)
    shares = sample(target.masks, rows[bitmaps], regions[bitmaps], size=side)
    out[bitmaps] = (shares >= COVERED).to(out.dtype)
    return out


def _neighbours(target: Target, regions: Tensor, side: int) -> Tensor:
    """Returns float32 [R, M, M]: the largest share that one mask covers of a cell."""
    boxes = target.boxes[target.has_mask].to(regions)
    touch = (regions[:, None, :2] < boxes[None, :, 2:]) & (
        boxes[None, :, :2] < regions[:, None, 2:]
    )
    region, mask = torch.where(touch.all(-1))
    covered = sample(target.masks, mask, regions[region], size=side)
    out = torch.zeros((len(regions), side, side), dtype=torch.float32, device=regions.device)
    return out.scatter_reduce(0, region[:, None, None].expand_as(covered), covered, "amax")


def unknown_cells(
    places: Tensor, targets: Tensor, boxes_only: Tensor, *, itself: Tensor | None = None
) -> Tensor:
    """Returns bool [R, M, M]: the cells that may belong to a box-only neighbour.

    Their centre lies in the box of another object without a mask, and no drawn mask
    covers them.

    Args:
        places: float [R, 4] xyxy, the rectangles over which the cells are spread.
        targets: float [R, M, M], the drawn masks.
        boxes_only: float [n, 4] xyxy in the same frame, boxes of the image's objects
            without a mask.
        itself: bool [R, n], where the box belongs to the region's own object; None:
            nowhere.
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


def check_labels(classes: int, labels: Tensor) -> None:
    """Raises InputError for a label that is none of `classes`, background included."""
    low, high = (int(labels.min()), int(labels.max())) if len(labels) else (0, 0)
    if low < 0 or high >= classes:
        raise InputError(f"labels: expected 1…{classes - 1} (0 where unknown), found {low}…{high}")
