"""Boundary IoU: how well the borders of two masks agree.

Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation",
CVPR 2021. The IoU of two large masks says little of their borders; the IoU of the bands
along the inside of both borders does.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from halfmask.masks.crops import MaskCrops, iou

SHARE = 0.02
"""Width of the band as a share of the image's diagonal, as in the paper."""

Pixels = NDArray[np.uint8]


def boundary_iou(first: MaskCrops, second: MaskCrops, share: float = SHARE) -> Tensor:
    """Returns the boundary IoU of masks pair by pair, float32 [m] in [0, 1].

    It is 0 if both masks have no pixels.

    Args:
        first, second: m masks each, of one image.
        share: Width of the band as a share of the image's diagonal.
    """
    return iou(boundaries(first, share), boundaries(second, share))


def boundaries(crops: MaskCrops, share: float = SHARE) -> MaskCrops:
    """Returns the band of each mask: its pixels close to a pixel outside.

    Close is a distance of at most `band_width`, in rows and in columns. What lies
    outside the image is outside the mask. Bands have the tight boxes of their masks,
    and nothing but the bitmap of the mask is read.
    """
    width = band_width(crops.image_size, share)
    bands = [torch.from_numpy(_band(bitmap.numpy(), width)) for bitmap in crops.bitmaps()]
    places = [(int(x), int(y)) for x, y in crops.offsets.tolist()]
    return MaskCrops.from_bitmaps(bands, places, crops.image_size)


def band_width(image_size: tuple[int, int], share: float = SHARE) -> int:
    """Returns the band's width in pixels, at least 1, for an image of size (H, W)."""
    height, width = image_size
    return max(1, round(share * math.sqrt(height**2 + width**2)))


def _band(mask: Pixels, width: int) -> Pixels:
    """The pixels of a tight bitmap, uint8 [h, w], within `width` of a pixel outside."""
    height, across = mask.shape
    band = mask.copy()
    if min(height, across) > 2 * width:
        # Erosion by the square of side 2 · width + 1. What is nearer than `width` to a
        # side of the bitmap goes anyway.
        inner = _all_of(_all_of(mask, 2 * width + 1), 2 * width + 1, across=True)
        band[width : height - width, width : across - width] ^= inner
    return band


def _all_of(mask: Pixels, length: int, *, across: bool = False) -> Pixels:
    """Where a pixel and the `length` − 1 after it, down or across, are all 1.

    The result is `length` − 1 pixels shorter. Doubling takes about log₂ `length`
    passes, whatever the shape.
    """
    found, reach = mask, 1
    while reach < length:
        step = min(reach, length - reach)
        found = found[:, :-step] & found[:, step:] if across else found[:-step] & found[step:]
        reach += step
    return found
