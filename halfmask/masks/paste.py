"""Mask probabilities to bitmaps, to expected IoU and to the best threshold."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from halfmask.masks.crops import MaskCrops, tight


def _axis_weights(low: float, high: float, first: int, *, count: int, cells: int) -> Tensor:
    """Returns bilinear weights [count, cells] from cells to pixels.

    The pixels are first … first+count−1; the cells are spread over [low, high). A pixel
    larger than a cell averages the cells below it (a triangle as wide as the pixel), so
    that small objects are not drawn from single samples. The outermost cells reach to
    the region's edge, since the end of a region says nothing about the object
    (torchvision pads with zeros there and loses up to half a cell of every object that
    fills its box). Pixels that do not touch the region are 0.
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
    """Returns boxes [n, 4] xyxy with `share` of their side added on each side."""
    margin = (boxes[:, 2:] - boxes[:, :2]) * share
    return torch.cat([boxes[:, :2] - margin, boxes[:, 2:] + margin], 1)


def paste(
    probs: Tensor,
    regions: Tensor,
    boxes: Tensor,
    *,
    image_size: tuple[int, int],
    threshold: float = 0.5,
) -> MaskCrops:
    """Returns masks in image pixels, clipped to the boxes and to the image.

    Args:
        probs: float32 [n, M, M].
        regions: float32 [n, 4] xyxy, over which each M × M map is spread.
        boxes: float32 [n, 4] xyxy; pixels whose centre lies outside are left out. A box
            thinner than a pixel keeps one.
        image_size: (H, W).
        threshold: a pixel belongs to the mask where its interpolated probability is at
            least this.
    Returns:
        n crops, without pixels where no probability reaches the threshold.
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
        rows = _axis_weights(region[1], region[3], y0, count=y1 - y0, cells=cells)
        columns = _axis_weights(region[0], region[2], x0, count=x1 - x0, cells=cells)
        found = tight((rows @ prob @ columns.T) >= threshold, (x0, y0)) or (nothing, (0, 0))
        bitmaps.append(found[0])
        offsets.append(found[1])
    return MaskCrops.from_bitmaps(bitmaps, offsets, image_size)


def _pixels_of(low: float, high: float, side: int) -> tuple[int, int]:
    """Returns the first and last + 1 of the pixels whose centre lies in [low, high).

    At least one pixel, within an image that is `side` long. Polygons are rasterised by
    the same rule. Counting every pixel that the box touches would make a box one pixel
    too large each way.
    """
    first, last = int(np.ceil(low - 0.5)), int(np.ceil(high - 0.5))
    if last <= first:
        first = int(np.floor((low + high) / 2))
        last = first + 1
    return max(0, first), min(side, last)


def expected_iou(probs: Tensor, threshold: float = 0.5) -> Tensor:
    """Estimates the IoU of each thresholded mask from its own probabilities.

    This is the expected intersection over the expected union with a truth whose cells
    are drawn from the probabilities.

    Args:
        probs: float32 [n, M, M].
    Returns:
        float32 [n] in [0, 1]; 0 for an empty mask.
    """
    flat = probs.flatten(1)
    inside = flat >= threshold
    hit = (flat * inside).sum(1)
    union = inside.sum(1) + (flat * ~inside).sum(1)
    return torch.where(union > 0, hit / union.clamp_min(1e-6), torch.zeros_like(hit))


def best_threshold(probs: Tensor) -> Tensor:
    """Returns the threshold whose mask has the greatest expected IoU (`expected_iou`).

    Where a model is unsure of a whole limb, the threshold lies below one half: leaving
    out a part costs more than adding its surroundings. All thresholds are compared at
    once, from the sorted cells (after Nowozin, "Optimal decisions from probabilistic
    models", CVPR 2014; the expectation of the ratio is taken as the ratio of the
    expectations).

    Args:
        probs: float32 [n, M, M], 0 where no mask is possible.
    Returns:
        float32 [n]: a cell is in the mask where its probability is at least this. 0.5
            for a map of zeros.
    """
    cells = probs.flatten(1).sort(1, descending=True).values
    if cells.shape[1] == 0:
        return probs.new_full((len(probs),), 0.5)
    hit = cells.cumsum(1)
    count = torch.arange(1, cells.shape[1] + 1, device=probs.device, dtype=probs.dtype)
    expected = hit / (count + hit[:, -1:] - hit)
    best = cells.gather(1, expected.argmax(1, keepdim=True))[:, 0]
    return torch.where(hit[:, -1] > 0, best, probs.new_tensor(0.5))


def recentred(probs: Tensor, thresholds: Tensor) -> Tensor:
    """Shifts probabilities so that each mask's threshold becomes 0.5, the usual cut.

    Args:
        probs: float32 [n, M, M].
        thresholds: float32 [n], within (0, 1).
    """
    return (probs.logit(eps=1e-6) - thresholds.logit()[:, None, None]).sigmoid()
