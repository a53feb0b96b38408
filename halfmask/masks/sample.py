"""Mask targets of training: crops sampled on the cells of regions."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import roi_align

from halfmask.masks.crops import MaskCrops


def sample(crops: MaskCrops, rows: Tensor, regions: Tensor, size: int) -> Tensor:
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
        float32 [R, M, M] in [0, 1], the share of a cell that the mask covers, on the
            device of `regions`.
    """
    out = torch.zeros((len(regions), size, size), dtype=torch.float32, device=regions.device)
    bitmaps, offsets = crops.bitmaps(), crops.offsets.tolist()
    height, width = crops.image_size
    buckets: dict[int, list[int]] = {}
    row_list = rows.tolist()
    for i, row in enumerate(row_list):
        longest = max(bitmaps[row].shape, default=0)
        if longest > 0:
            # Crops of like size share one call, so that padding costs at most a factor
            # of four.
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
            # RoIAlign clamps at the image's edge: repeat the last pixels there, or the
            # border would fade out.
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
        slot = torch.tensor(
            [[place[row_list[i]]] for i in members], dtype=regions.dtype, device=regions.device
        )
        drawn = roi_align(canvas, torch.cat([slot, regions[index] - shift], 1), (size, size), 1.0)
        out[index] = drawn[:, 0]
    return out
