"""Mask probabilities of a region to bitmaps in image pixels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from halfmask.masks.crops import MaskCrops, tight


def _axis_weights(low: float, high: float, first: int, count: int, cells: int) -> Tensor:
    """Bilinear weights [count, cells] from cells spread over [low, high) to the pixels
    first … first+count−1.

    Where a pixel is larger than a cell it averages the cells below it (a triangle as
    wide as the pixel), so that small objects are not drawn from single samples. The
    outermost cells reach to the region's edge: that a region ends says nothing about
    the object (torchvision pads with zeros there and loses up to half a cell of every
    object that fills its box). Pixels that do not touch the region are 0.
    """
    cell = (high - low) / cells
    centres = (torch.arange(first, first + count, dtype=torch.float64) + 0.5 - low) / cell - 0.5
    width = max(1.0, 1.0 / cell)
    weights = (
        1.0 - (centres[:, None] - torch.arange(cells, dtype=torch.float64)[None]).abs() / width
    ).clamp_min(0.0)
    weights = weights / weights.sum(1, keepdim=True).clamp_min(1e-12)
    inside = (centres > -0.5 - 0.5 / cell) & (centres < cells - 0.5 + 0.5 / cell)
    return (weights * inside[:, None]).to(torch.float32)


def grown(boxes: Tensor, share: float) -> Tensor:
    """Boxes [n, 4] xyxy with `share` of their side added on each side of them."""
    margin = (boxes[:, 2:] - boxes[:, :2]) * share
    return torch.cat([boxes[:, :2] - margin, boxes[:, 2:] + margin], 1)


def paste(
    probs: Tensor,
    regions: Tensor,
    boxes: Tensor,
    image_size: tuple[int, int],
    threshold: float = 0.5,
) -> MaskCrops:
    """Masks in image pixels from probabilities on regions, clipped to the boxes and to
    the image.

    Args:
        probs: float32 [n, M, M].
        regions: float32 [n, 4] xyxy, where each M × M is spread.
        boxes: float32 [n, 4] xyxy; pixels whose centre lies outside are left out (a box
            thinner than a pixel keeps one).
        image_size: (H, W).
        threshold: a pixel belongs to the mask where its interpolated probability is at
            least this.
    Returns:
        n crops; one without pixels where nothing passes.
    """
    height, width = image_size
    cells = probs.shape[-1]
    probs = probs.detach().to("cpu", torch.float32)
    bitmaps: list[Tensor] = []
    offsets: list[tuple[int, int]] = []
    nothing = torch.zeros((0, 0), dtype=torch.uint8)
    for prob, region, box in zip(probs, regions.tolist(), boxes.tolist(), strict=True):
        (x0, x1), (y0, y1) = _pixels_of(box[0], box[2], width), _pixels_of(box[1], box[3], height)
        if x1 <= x0 or y1 <= y0 or region[2] <= region[0] or region[3] <= region[1]:
            bitmaps.append(nothing)
            offsets.append((0, 0))
            continue
        rows = _axis_weights(region[1], region[3], y0, y1 - y0, cells)
        columns = _axis_weights(region[0], region[2], x0, x1 - x0, cells)
        found = tight((rows @ prob @ columns.T) >= threshold, (x0, y0)) or (nothing, (0, 0))
        bitmaps.append(found[0])
        offsets.append(found[1])
    return MaskCrops.from_bitmaps(bitmaps, offsets, image_size)


def _pixels_of(low: float, high: float, side: int) -> tuple[int, int]:
    """First and last + 1 of the pixels whose centre lies in [low, high), one at least,
    of an image that is `side` long.

    Polygons are rasterised so; to count every pixel that the box touches would make a
    box a pixel too large each way.
    """
    first, last = int(np.ceil(low - 0.5)), int(np.ceil(high - 0.5))
    if last <= first:
        first = int(np.floor((low + high) / 2))
        last = first + 1
    return max(0, first), min(side, last)
