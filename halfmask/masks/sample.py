"""Mask targets of training: masks sampled on the cells of regions."""

from __future__ import annotations

import torch
from torch import Tensor

from halfmask.masks.crops import MaskCrops
from halfmask.masks.operators import roi_align


def sample(crops: MaskCrops, rows: Tensor, regions: Tensor, *, size: int) -> Tensor:
    """Draws masks on size × size cells of regions: the mask targets of training.

    Equals torchvision's `project_masks_on_boxes` on the dense masks (RoIAlign, adaptive
    sampling, not aligned) up to rounding.

    Args:
        crops: masks of one image.
        rows: int64 [R], the crop of each region.
        regions: float32 [R, 4] xyxy in the pixels of the crops' image. They may reach
            beyond the image; the mask is 0 there.
        size: M.
    Returns:
        float32 [R, M, M] in [0, 1], the share of each cell that the mask covers, on the
            device of `regions`.
    """
    out = torch.zeros((len(regions), size, size), dtype=torch.float32, device=regions.device)
    bitmaps, row_list = crops.bitmaps(), rows.tolist()
    # Crops of similar size share one call: padding costs at most a factor of four.
    buckets: dict[int, list[int]] = {}
    for i, row in enumerate(row_list):
        longest = max(bitmaps[row].shape, default=0)
        if longest > 0:
            buckets.setdefault(int(longest).bit_length(), []).append(i)
    for members in buckets.values():
        used = sorted({row_list[i] for i in members})
        place = {row: k for k, row in enumerate(used)}
        canvas, corners = _padded(crops, bitmaps, used, device=regions.device)
        index = torch.tensor(members, device=regions.device)
        slot = torch.tensor([[place[row_list[i]]] for i in members], device=regions.device)
        shift = corners.to(regions)[slot[:, 0]]
        drawn = roi_align(
            canvas,
            torch.cat([slot.to(regions.dtype), regions[index] - shift], 1),
            (size, size),
            1.0,
        )
        out[index] = drawn[:, 0]
    return out


def _padded(
    crops: MaskCrops, bitmaps: list[Tensor], used: list[int], *, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Pads the used bitmaps by one pixel.

    Returns:
        float32 [k, 1, h, w], and the canvases' upper left corners in the image, int64
            [k, 4] as x, y, x, y.
    """
    offsets, (height, width) = crops.offsets.tolist(), crops.image_size
    hmax = max(bitmaps[row].shape[0] for row in used) + 2
    wmax = max(bitmaps[row].shape[1] for row in used) + 2
    canvas = torch.zeros((len(used), 1, hmax, wmax), dtype=torch.float32, device=device)
    for k, row in enumerate(used):
        (x, y), bitmap = offsets[row], bitmaps[row].to(device, torch.float32)
        h, w = bitmap.shape
        canvas[k, 0, 1 : 1 + h, 1 : 1 + w] = bitmap
        # RoIAlign clamps at the image's edge. Without a copy of the last pixels beyond
        # it, the border would fade out.
        if y + h == height:
            canvas[k, 0, 1 + h] = canvas[k, 0, h]
        if x + w == width:
            canvas[k, 0, :, 1 + w] = canvas[k, 0, :, w]
    return canvas, torch.tensor([[offsets[row][0] - 1, offsets[row][1] - 1] * 2 for row in used])
