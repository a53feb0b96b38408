"""Drawn masks as the JSON values that a COCO annotation takes. No drawn mask is without pixels."""

from __future__ import annotations

import math
from typing import NotRequired, TypedDict

import torch

from halfmask.masks.crops import MaskCrops, encode_rle, iou
from halfmask.masks.outline import outlines
from halfmask.masks.paste import expected_iou, paste
from halfmask.structures import Detection

Segmentation = dict[str, object] | list[list[int]]

THRESHOLDS = (0.5, 0.3, 0.1, 0.03)
"""The first at which a mask has a pixel is the one used."""


class FilledMask(TypedDict):
    """One filled mask: COCO's segmentation, its pixels, the model's estimate of its IoU
    in [0, 1], and its IoU with another's mask.
    """

    segmentation: Segmentation
    area: int
    score: float
    agreement: NotRequired[float]


def fillings(
    drawn: Detection, polygons: bool = False, other: Detection | None = None
) -> list[FilledMask]:
    """The masks of some boxes of an image.

    A mask that is empty at 0.5 is drawn at a lower threshold, and one that is empty at
    every threshold becomes its whole box: something stands in the box, and a reviewer
    who sorts by score meets these first.

    Args:
        drawn: n boxes and their masks.
        polygons: outlines along the pixels' borders instead of RLE.
        other: what another model drew into the same boxes, to say how far the two
            agree.
    """
    crops, scores = nonempty(drawn)
    areas = crops.areas().tolist()
    if polygons:
        pairs = zip(crops.bitmaps(), crops.offsets.tolist(), strict=True)
        shapes: list[Segmentation] = [outlines(bitmap.numpy(), (x, y)) for bitmap, (x, y) in pairs]
    else:
        shapes = list(encode_rle(crops))
    out: list[FilledMask] = [
        {"segmentation": shape, "area": area, "score": score}
        for shape, area, score in zip(shapes, areas, scores, strict=True)
    ]
    if other is not None:
        for filling, agreement in zip(out, iou(crops, other.crops()).tolist(), strict=True):
            filling["agreement"] = _score(agreement)
    return out


def nonempty(drawn: Detection) -> tuple[MaskCrops, list[float]]:
    """The masks, none of them without a pixel, and their scores; see `fillings`."""
    probs = drawn.mask_probs.nan_to_num(0.0)
    crops = drawn.crops(THRESHOLDS[0])
    bitmaps, offsets = crops.bitmaps(), crops.offsets.tolist()
    scores = [_score(value) for value in drawn.quality.tolist()]
    for row in torch.where(crops.areas() == 0)[0].tolist():
        one = slice(row, row + 1)
        bitmap, place, scores[row] = _rescued(
            probs[one], drawn.regions[one], drawn.limits[one], drawn.image_size, scores[row]
        )
        bitmaps[row], offsets[row] = bitmap, place
    return MaskCrops.from_bitmaps(bitmaps, [(x, y) for x, y in offsets], drawn.image_size), scores


def _rescued(
    prob: torch.Tensor,
    region: torch.Tensor,
    box: torch.Tensor,
    image_size: tuple[int, int],
    score: float,
) -> tuple[torch.Tensor, list[int], float]:
    """One mask at the first lower threshold that leaves a pixel: bitmap, [x, y], score."""
    for threshold in THRESHOLDS[1:]:
        crop = paste(prob, region, box, image_size, threshold)
        if int(crop.areas()[0]) > 0:
            estimate = _score(float(expected_iou(prob, threshold)[0]))
            return (
                crop.bitmaps()[0],
                crop.offsets[0].tolist(),
                min(score, estimate) if score > 0 else estimate,
            )
    whole = paste(torch.ones_like(prob), box, box, image_size)
    if int(whole.areas()[0]) > 0:
        return whole.bitmaps()[0], whole.offsets[0].tolist(), 0.0
    # A box thinner than paste's tolerance on a pixel's border: its nearest pixel.
    height, width = image_size
    x, y = (
        min(max(0, math.floor(float(v))), side - 1)
        for v, side in zip(box[0, :2], (width, height), strict=True)
    )
    return torch.ones((1, 1), dtype=torch.uint8), [x, y], 0.0


def _score(value: float) -> float:
    """In [0, 1], four digits: more would be noise, and JSON stays short."""
    return round(min(max(value, 0.0), 1.0), 4) if math.isfinite(value) else 0.0
