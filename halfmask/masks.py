"""Pure functions on masks: sample, paste, decode, encode, box, IoU. No canvas of objects × H × W anywhere.

Shape letters as in `structures`. A *crop* is a tight bitmap and the place of its upper left pixel.
"""

from __future__ import annotations

from typing import Any

import hotcoco.mask as rle_library
import numpy as np
import torch
from torch import Tensor
from torchvision.ops import roi_align

from halfmask.structures import MaskCrops

Segmentation = list[Any] | dict[str, Any]


def sample(crops: MaskCrops, rows: Tensor, regions: Tensor, size: int) -> Tensor:
    """Draws masks on size × size cells of regions: the mask targets of training.

    Equals torchvision's `project_masks_on_boxes` on the dense masks (RoIAlign, adaptive sampling, not aligned) up to rounding.

    Args:
        crops: masks of one image.
        rows: int64 [R], the crop of each region.
        regions: float32 [R, 4] xyxy in the pixels of the crops' image. They may reach beyond the image; the mask is 0 there.
        size: M.
    Returns:
        float32 [R, M, M] in [0, 1], the share of a cell that the mask covers, on the device of `regions`.
    """
    out = torch.zeros((len(regions), size, size), dtype=torch.float32, device=regions.device)
    bitmaps, offsets = crops.bitmaps(), crops.offsets.tolist()
    height, width = crops.image_size
    buckets: dict[int, list[int]] = {}
    row_list = rows.tolist()
    for i, row in enumerate(row_list):
        longest = max(bitmaps[row].shape, default=0)
        if longest > 0:
            # Crops of like size share one call, so that padding costs at most a factor of four.
            buckets.setdefault(int(longest).bit_length(), []).append(i)
    for members in buckets.values():
        used = sorted({row_list[i] for i in members})
        place = {row: k for k, row in enumerate(used)}
        hmax = max(bitmaps[row].shape[0] for row in used) + 2
        wmax = max(bitmaps[row].shape[1] for row in used) + 2
        canvas = torch.zeros((len(used), 1, hmax, wmax), dtype=torch.float32, device=regions.device)
        for row, k in place.items():
            (x, y), bitmap = offsets[row], bitmaps[row].to(regions.device, torch.float32)
            h, w = bitmap.shape
            canvas[k, 0, 1 : 1 + h, 1 : 1 + w] = bitmap
            # RoIAlign clamps at the image's edge: repeat the last pixels there, or the border would fade out.
            if y + h == height:
                canvas[k, 0, 1 + h] = canvas[k, 0, h]
            if x + w == width:
                canvas[k, 0, :, 1 + w] = canvas[k, 0, :, w]
        shift = torch.tensor(
            [[offsets[row_list[i]][0] - 1, offsets[row_list[i]][1] - 1] * 2 for i in members],
            dtype=regions.dtype,
            device=regions.device,
        )
        index = torch.tensor(members, device=regions.device)
        slot = torch.tensor([[place[row_list[i]]] for i in members], dtype=regions.dtype, device=regions.device)
        drawn = roi_align(canvas, torch.cat([slot, regions[index] - shift], 1), (size, size), 1.0)
        out[index] = drawn[:, 0]
    return out


def _axis_weights(low: float, high: float, first: int, count: int, cells: int) -> Tensor:
    """Bilinear weights [count, cells] from cells spread over [low, high) to the pixels first … first+count−1.

    Where a pixel is larger than a cell it averages the cells below it (a triangle as wide as the pixel), so that small objects are not
    drawn from single samples. The outermost cells reach to the region's edge: that a region ends says nothing about the object (torchvision
    pads with zeros there and loses up to half a cell of every object that fills its box). Pixels that do not touch the region are 0.
    """
    cell = (high - low) / cells
    centres = (torch.arange(first, first + count, dtype=torch.float64) + 0.5 - low) / cell - 0.5
    width = max(1.0, 1.0 / cell)
    weights = (1.0 - (centres[:, None] - torch.arange(cells, dtype=torch.float64)[None]).abs() / width).clamp_min(0.0)
    weights = weights / weights.sum(1, keepdim=True).clamp_min(1e-12)
    inside = (centres > -0.5 - 0.5 / cell) & (centres < cells - 0.5 + 0.5 / cell)
    return (weights * inside[:, None]).to(torch.float32)


def grown(boxes: Tensor, share: float) -> Tensor:
    """Boxes [n, 4] xyxy with `share` of their side added on each side of them."""
    margin = (boxes[:, 2:] - boxes[:, :2]) * share
    return torch.cat([boxes[:, :2] - margin, boxes[:, 2:] + margin], 1)


def paste(
    probs: Tensor, regions: Tensor, boxes: Tensor, image_size: tuple[int, int], threshold: float = 0.5
) -> MaskCrops:
    """Masks in image pixels from probabilities on regions, clipped to the boxes and to the image.

    Args:
        probs: float32 [n, M, M].
        regions: float32 [n, 4] xyxy, where each M × M is spread.
        boxes: float32 [n, 4] xyxy; pixels whose centre lies outside are left out (a box thinner than a pixel keeps one).
        image_size: (H, W).
        threshold: a pixel belongs to the mask where its interpolated probability is at least this.
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
    """First and last + 1 of the pixels whose centre lies in [low, high), one at least, of an image that is `side` long.

    Polygons are rasterised so; to count every pixel that the box touches would make a box a pixel too large each way.
    """
    first, last = int(np.ceil(low - 0.5)), int(np.ceil(high - 0.5))
    if last <= first:
        first = int(np.floor((low + high) / 2))
        last = first + 1
    return max(0, first), min(side, last)


def encode_rle(crops: MaskCrops) -> list[dict[str, object]]:
    """COCO's compressed RLE of each crop, {"size": [H, W], "counts": str}, straight from the crop."""
    height, width = crops.image_size
    out: list[dict[str, object]] = []
    for bitmap, (x, y) in zip(crops.bitmaps(), crops.offsets.tolist(), strict=True):
        counts = _column_runs(bitmap.numpy(), x, y, height, width)
        encoded = rle_library.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        text = encoded["counts"]
        out.append({"size": [height, width], "counts": text.decode("ascii") if isinstance(text, bytes) else text})
    return out


def _column_runs(bitmap: np.ndarray[Any, Any], x: int, y: int, height: int, width: int) -> list[int]:
    """Lengths of the alternating runs of 0 and 1 down the image's columns, of a bitmap at (x, y)."""
    h, w = bitmap.shape
    if h == 0 or w == 0:
        return [height * width]
    # Column after column, each with an empty pixel above and below: there a run begins or ends wherever the value changes, in turn.
    columns = np.zeros((w, h + 2), dtype=bool)
    columns[:, 1:-1] = bitmap.T
    flat = columns.reshape(-1)
    column, row = np.divmod(np.flatnonzero(flat[1:] != flat[:-1]), h + 2)
    places = (x + column) * height + y + row
    starts, ends = places[::2], places[1::2]
    if len(starts) == 0:
        return [height * width]
    # A run that reaches the bottom goes on at the top of the next column.
    joined = starts[1:] == ends[:-1]
    starts = starts[np.concatenate([[True], ~joined])]
    ends = ends[np.concatenate([~joined, [True]])]
    bounds = np.empty(2 * len(starts) + 2, dtype=np.int64)
    bounds[0], bounds[-1] = 0, height * width
    bounds[1:-1:2], bounds[2:-1:2] = starts, ends
    counts: list[int] = np.diff(bounds).tolist()
    return counts if counts[-1] > 0 else counts[:-1]


def decode(segmentation: Segmentation, image_size: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
    """The crop (bitmap uint8 [h, w], (x, y)) of a well-formed COCO segmentation: polygons, or RLE (compressed or not).

    Rasterised exactly as pycocotools does it. What is not well-formed is refused by `halfmask.coco` before it comes here.
    """
    height, width = image_size
    if isinstance(segmentation, list):
        parts = rle_library.frPyObjects(segmentation, height, width)
        merged = parts[0] if len(parts) == 1 else rle_library.merge(parts)
    elif isinstance(segmentation["counts"], list):
        merged = rle_library.frPyObjects(segmentation, height, width)
    else:
        merged = segmentation
    x, y, w, h = (int(v) for v in np.asarray(rle_library.toBbox(merged)).reshape(-1)[:4])
    if w <= 0 or h <= 0:
        return torch.zeros((0, 0), dtype=torch.uint8), (0, 0)
    dense = np.asarray(rle_library.decode(merged))
    return torch.from_numpy(np.ascontiguousarray(dense[y : y + h, x : x + w])), (x, y)


def boxes_of(crops: MaskCrops) -> Tensor:
    """float32 [m, 4] xyxy: the tight box of each crop; zeros for a mask without pixels."""
    low = crops.offsets
    return torch.cat([low, low + crops.sizes.flip(1)], 1).to(torch.float32)


def tight(bitmap: Tensor, place: tuple[int, int]) -> tuple[Tensor, tuple[int, int]] | None:
    """The bitmap without empty margins; None where no pixel is left."""
    pixels = bitmap.numpy()  # a tenth of the time of torch's any
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    if len(rows) == 0:
        return None
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    return bitmap[top:bottom, left:right].contiguous(), (place[0] + left, place[1] + top)


def tight_box(bitmap: Tensor, place: tuple[int, int]) -> Tensor:
    """float32 [4] xyxy of a tight bitmap."""
    x, y = place
    return torch.tensor([x, y, x + bitmap.shape[1], y + bitmap.shape[0]], dtype=torch.float32)


def iou(first: MaskCrops, second: MaskCrops) -> Tensor:
    """IoU of the masks pair by pair, float32 [m]; 0 where both are without pixels."""
    assert len(first) == len(second), (len(first), len(second))
    out = torch.zeros(len(first))
    pairs = zip(first.bitmaps(), first.offsets.tolist(), second.bitmaps(), second.offsets.tolist(), strict=True)
    for i, (a, (ax, ay), b, (bx, by)) in enumerate(pairs):
        x0, y0 = max(ax, bx), max(ay, by)
        x1, y1 = min(ax + a.shape[1], bx + b.shape[1]), min(ay + a.shape[0], by + b.shape[0])
        both = 0
        if x1 > x0 and y1 > y0:
            both = int((a[y0 - ay : y1 - ay, x0 - ax : x1 - ax] & b[y0 - by : y1 - by, x0 - bx : x1 - bx]).sum())
        union = int(a.sum()) + int(b.sum()) - both
        out[i] = both / union if union else 0.0
    return out


def expected_iou(probs: Tensor, threshold: float = 0.5) -> Tensor:
    """A mask's own estimate of its IoU: expected intersection over expected union of the thresholded mask with a truth whose cells
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
    """The threshold whose mask has the greatest expected IoU with a truth whose cells are drawn from the probabilities.

    Where a model is unsure of a whole limb, that lies below one half: leaving out a part costs more than adding its surroundings. Found
    among all thresholds at once, from the sorted cells (in the spirit of Nowozin, "Optimal decisions from probabilistic models", CVPR
    2014, with the expectation of the ratio taken as the ratio of expectations, as in `expected_iou`).

    Args:
        probs: float32 [n, M, M], 0 where the mask cannot be.
    Returns:
        float32 [n]: a cell is in the mask where its probability is at least this. 0.5 for a map of zeros.
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
    """Probabilities moved so that what stood at a mask's threshold stands at 0.5, where everything else cuts.

    Args:
        probs: float32 [n, M, M].
        thresholds: float32 [n], within (0, 1).
    """
    return (probs.logit(eps=1e-6) - thresholds.logit()[:, None, None]).sigmoid()
