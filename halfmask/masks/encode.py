"""Crops to COCO's run lengths and back."""

from __future__ import annotations

from typing import Any

import hotcoco.mask as rle_library
import numpy as np
import torch
from torch import Tensor

from halfmask.masks.crops import MaskCrops

Segmentation = list[Any] | dict[str, Any]


def encode_rle(crops: MaskCrops) -> list[dict[str, object]]:
    """COCO's compressed RLE of each crop, {"size": [H, W], "counts": str}, straight
    from the crop.
    """
    height, width = crops.image_size
    out: list[dict[str, object]] = []
    for bitmap, (x, y) in zip(crops.bitmaps(), crops.offsets.tolist(), strict=True):
        counts = _column_runs(bitmap.numpy(), x, y, height, width)
        encoded = rle_library.frPyObjects(
            {"size": [height, width], "counts": counts}, height, width
        )
        text = encoded["counts"]
        out.append(
            {
                "size": [height, width],
                "counts": text.decode("ascii") if isinstance(text, bytes) else text,
            }
        )
    return out


def _column_runs(
    bitmap: np.ndarray[Any, Any], x: int, y: int, height: int, width: int
) -> list[int]:
    """Lengths of the alternating runs of 0 and 1 down the image's columns, of a bitmap
    at (x, y).
    """
    h, w = bitmap.shape
    if h == 0 or w == 0:
        return [height * width]
    # Column after column, each with an empty pixel above and below: there a run begins
    # or ends wherever the value changes, in turn.
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


def decode(
    segmentation: Segmentation, image_size: tuple[int, int]
) -> tuple[Tensor, tuple[int, int]]:
    """The crop (bitmap uint8 [h, w], (x, y)) of a well-formed COCO segmentation:
    polygons, or RLE (compressed or not).

    Rasterised exactly as pycocotools does it. What is not well-formed is refused by
    `halfmask.coco` before it comes here.
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
