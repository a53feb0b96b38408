"""Masks as the JSON values of a COCO annotation; each has at least one pixel."""

from __future__ import annotations

import math
from typing import NotRequired, TypedDict

import torch
from torch import Tensor

from halfmask.masks.crops import MaskCrops, encode_rle, iou
from halfmask.masks.outline import outlines
from halfmask.masks.paste import expected_iou, paste
from halfmask.structures import Detection

THRESHOLDS = (0.5, 0.3, 0.1, 0.03)
"""A mask is drawn at the first of these at which it has a pixel."""


Segmentation = dict[str, object] | list[list[float]]


class FilledMask(TypedDict):
    """A filled mask as the journal keeps it.

    Attributes:
        segmentation: COCO's.
        area: pixels of the mask.
        score: estimate of its IoU with the truth, in [0, 1].
        agreement: IoU with another model's mask.
    """

    segmentation: Segmentation
    area: int
    score: float
    agreement: NotRequired[float]


def fillings(
    drawn: Detection, tolerance: float | None = None, other: Detection | None = None
) -> list[FilledMask]:
    """Converts the masks of an image.

    A mask that is empty at 0.5 is drawn at a lower threshold, and one that is empty at
    every threshold becomes its whole box: there is an object in the box, and a reviewer
    who sorts by score sees these first.

    Args:
        drawn: n boxes and their masks.
        tolerance: polygons instead of RLE, this far from the mask's border at most, in
            pixels; see `outlines`.
        other: another model's masks for the same boxes, to compare with.
    """
    crops, scores = nonempty(drawn)
    shapes: list[Segmentation]
    if tolerance is not None:
        pairs = zip(crops.bitmaps(), crops.offsets.tolist(), strict=True)
        shapes = [outlines(bitmap.numpy(), (x, y), tolerance) for bitmap, (x, y) in pairs]
    else:
        shapes = list(encode_rle(crops))
    out: list[FilledMask] = [
        {"segmentation": shape, "area": area, "score": score}
        for shape, area, score in zip(shapes, crops.areas().tolist(), scores, strict=True)
    ]
    if other is not None:
        for filling, agreement in zip(out, iou(crops, other.crops()).tolist(), strict=True):
            filling["agreement"] = _score(agreement)
    return out


def nonempty(drawn: Detection) -> tuple[MaskCrops, list[float]]:
    """Returns the masks, each with at least one pixel, and their scores; see `fillings`."""
    crops = drawn.crops(THRESHOLDS[0])
    scores = [_score(value) for value in drawn.quality.tolist()]
    empty = torch.where(crops.areas() == 0)[0].tolist()
    if not empty:
        return crops, scores
    bitmaps, offsets = crops.bitmaps(), [(x, y) for x, y in crops.offsets.tolist()]
    for row in empty:
        bitmaps[row], offsets[row], scores[row] = _rescued(
            drawn.select(torch.tensor([row])), scores[row]
        )
    return MaskCrops.from_bitmaps(bitmaps, offsets, drawn.image_size), scores


def _rescued(one: Detection, score: float) -> tuple[Tensor, tuple[int, int], float]:
    """One mask at the first lower threshold that leaves a pixel: bitmap, (x, y), score."""
    probs, size = one.mask_probs.nan_to_num(0.0), one.image_size
    for threshold in THRESHOLDS[1:]:
        crop = paste(probs, one.regions, one.limits, image_size=size, threshold=threshold)
        if int(crop.areas()[0]) > 0:
            estimate = _score(float(expected_iou(probs, threshold)[0]))
            return *_only(crop), min(score, estimate) if score > 0 else estimate
    whole = paste(torch.ones_like(probs), one.limits, one.limits, image_size=size)
    if int(whole.areas()[0]) > 0:
        return *_only(whole), 0.0
    # A box on a pixel's border, thinner than `paste` can see: its nearest pixel.
    x, y = (
        min(max(0, math.floor(float(corner))), side - 1)
        for corner, side in zip(one.limits[0, :2], size[::-1], strict=True)
    )
    return torch.ones((1, 1), dtype=torch.uint8), (x, y), 0.0


def _only(crops: MaskCrops) -> tuple[Tensor, tuple[int, int]]:
    x, y = crops.offsets[0].tolist()
    return crops.bitmaps()[0], (x, y)


def _score(value: float) -> float:
    """In [0, 1] with four digits: more would be noise, and JSON stays short."""
    return round(min(max(value, 0.0), 1.0), 4) if math.isfinite(value) else 0.0
