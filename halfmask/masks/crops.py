"""Masks as tight crops; no array has the size objects × H × W."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from halfmask.masks.operators import box_iou
from halfmask.masks.rle import Place, Segmentation, crop_of, rle_of


@dataclass(frozen=True)
class MaskCrops:
    """The masks of some objects of one image, each a tight bitmap and its place.

    Attributes:
        pixels: uint8 [P], the bitmaps (0 or 1) row by row, one after another. Processes
            then exchange three tensors, not hundreds.
        sizes: int64 [m, 2], height and width of each bitmap; 0 × 0 for a mask without
            pixels.
        offsets: int64 [m, 2], x and y of each bitmap's upper left pixel in the image.
        image_size: (H, W) of the image that offsets refer to.
    """

    pixels: Tensor
    sizes: Tensor
    offsets: Tensor
    image_size: tuple[int, int]

    @classmethod
    def empty(cls, image_size: tuple[int, int]) -> MaskCrops:
        return cls.from_bitmaps([], [], image_size)

    @classmethod
    def from_bitmaps(
        cls,
        bitmaps: Sequence[Tensor],
        offsets: Sequence[tuple[int, int]],
        image_size: tuple[int, int],
    ) -> MaskCrops:
        """Packs bitmaps, uint8 or bool [h, w]; offsets are x, y of their corners."""
        sizes = [(int(b.shape[0]), int(b.shape[1])) for b in bitmaps]
        pixels = (
            torch.cat([b.reshape(-1).to(torch.uint8) for b in bitmaps])
            if bitmaps
            else torch.zeros(0, dtype=torch.uint8)
        )
        return cls(
            pixels,
            torch.tensor(sizes, dtype=torch.int64).reshape(-1, 2),
            torch.tensor(list(offsets), dtype=torch.int64).reshape(-1, 2),
            image_size,
        )

    @classmethod
    def from_dense(cls, masks: Tensor) -> MaskCrops:
        """Cuts crops from dense masks, bool or uint8 [m, H, W]."""
        found = [tight((mask > 0).to("cpu", torch.uint8), (0, 0)) for mask in masks]
        crops = [crop or (masks.new_zeros((0, 0), dtype=torch.uint8), (0, 0)) for crop in found]
        size = int(masks.shape[-2]), int(masks.shape[-1])
        return cls.from_bitmaps([b for b, _ in crops], [place for _, place in crops], size)

    def __len__(self) -> int:
        return int(self.sizes.shape[0])

    def bitmaps(self) -> list[Tensor]:
        """Returns the bitmaps, uint8 [h, w] each; they are views of `pixels`."""
        lengths = (self.sizes[:, 0] * self.sizes[:, 1]).tolist()
        return [
            p.reshape(h, w)
            for p, (h, w) in zip(
                torch.split(self.pixels, lengths), self.sizes.tolist(), strict=True
            )
        ]

    def select(self, index: Sequence[int] | Tensor) -> MaskCrops:
        """Returns the crops at `index` (int64 [r] or bool [m]), in that order."""
        rows = torch.as_tensor(index, device="cpu")
        rows = (
            torch.where(rows)[0] if rows.dtype == torch.bool else rows.to(torch.int64).reshape(-1)
        )
        bitmaps = self.bitmaps()
        offsets = self.offsets.tolist()
        return MaskCrops.from_bitmaps(
            [bitmaps[i] for i in rows.tolist()],
            [(offsets[i][0], offsets[i][1]) for i in rows.tolist()],
            self.image_size,
        )

    def flip_horizontal(self) -> MaskCrops:
        """Returns the masks of the mirrored image."""
        width = self.image_size[1]
        flipped = [b.flip(1) for b in self.bitmaps()]
        moved = [
            (width - x - w, y)
            for (x, y), (_, w) in zip(self.offsets.tolist(), self.sizes.tolist(), strict=True)
        ]
        return MaskCrops.from_bitmaps(flipped, moved, self.image_size)

    def areas(self) -> Tensor:
        """Returns the number of pixels of each mask, int64 [m]."""
        return torch.tensor([int(b.sum()) for b in self.bitmaps()], dtype=torch.int64)

    def dense(self) -> Tensor:
        """Returns dense masks, bool [m, H, W]. For tests and pictures only."""
        out = torch.zeros((len(self), *self.image_size), dtype=torch.bool)
        for i, (bitmap, (x, y)) in enumerate(
            zip(self.bitmaps(), self.offsets.tolist(), strict=True)
        ):
            out[i, y : y + bitmap.shape[0], x : x + bitmap.shape[1]] = bitmap.bool()
        return out

    def to(self, device: torch.device | str) -> MaskCrops:
        return replace(self, pixels=self.pixels.to(device))


def encode_rle(crops: MaskCrops) -> list[dict[str, object]]:
    """Returns COCO's compressed RLE of each crop: {"size": [H, W], "counts": str}."""
    both = zip(crops.bitmaps(), crops.offsets.tolist(), strict=True)
    return [rle_of(bitmap.numpy(), (x, y), crops.image_size) for bitmap, (x, y) in both]


def decode(segmentation: Segmentation, image_size: tuple[int, int]) -> tuple[Tensor, Place]:
    """Draws a well-formed COCO segmentation exactly as pycocotools does.

    It may be polygons or RLE. `halfmask.coco` refuses malformed ones earlier.

    Returns:
        The crop: its bitmap, uint8 [h, w], and its place (x, y).
    """
    crop = crop_of(segmentation, image_size)
    if crop is None:
        return torch.zeros((0, 0), dtype=torch.uint8), (0, 0)
    return torch.from_numpy(crop[0]), crop[1]


def boxes_of(crops: MaskCrops) -> Tensor:
    """Returns the tight box of each crop, float32 [m, 4] xyxy; zeros without pixels."""
    low = crops.offsets
    return torch.cat([low, low + crops.sizes.flip(1)], 1).to(torch.float32)


def tightness(boxes: Tensor, crops: MaskCrops) -> Tensor:
    """Returns float32 [m]: IoU of boxes [m, 4] xyxy with their masks' tight boxes."""
    overlaps: Tensor = box_iou(boxes_of(crops).to(boxes), boxes)
    return overlaps.diagonal()


def tight(bitmap: Tensor, place: Place) -> tuple[Tensor, Place] | None:
    """Returns the bitmap without empty margins, and its place; None without pixels."""
    pixels = bitmap.numpy()  # ten times as fast as torch's any
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    if len(rows) == 0:
        return None
    top, bottom, left, right = int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])
    kept = bitmap[top : bottom + 1, left : right + 1].contiguous()
    return kept, (place[0] + left, place[1] + top)


def tight_box(bitmap: Tensor, place: Place) -> Tensor:
    """Returns the box of a tight bitmap, float32 [4] xyxy."""
    x, y = place
    return torch.tensor([x, y, x + bitmap.shape[1], y + bitmap.shape[0]], dtype=torch.float32)


def iou(first: MaskCrops, second: MaskCrops) -> Tensor:
    """Returns the IoU of masks pair by pair, float32 [m]; 0 if both have no pixels."""
    assert len(first) == len(second), (len(first), len(second))
    pairs = zip(_placed(first), _placed(second), strict=True)
    return torch.tensor([_pair_iou(*a, *b) for a, b in pairs], dtype=torch.float32)


def _placed(crops: MaskCrops) -> list[tuple[Tensor, list[int]]]:
    return list(zip(crops.bitmaps(), crops.offsets.tolist(), strict=True))


def _pair_iou(a: Tensor, a_place: list[int], b: Tensor, b_place: list[int]) -> float:
    (ax, ay), (bx, by) = a_place, b_place
    x0, y0 = max(ax, bx), max(ay, by)
    x1, y1 = min(ax + a.shape[1], bx + b.shape[1]), min(ay + a.shape[0], by + b.shape[0])
    both = 0
    if x1 > x0 and y1 > y0:
        own = a[y0 - ay : y1 - ay, x0 - ax : x1 - ax]
        both = int((own & b[y0 - by : y1 - by, x0 - bx : x1 - bx]).sum())
    union = int(a.sum()) + int(b.sum()) - both
    return both / union if union else 0.0
