"""Masks as tight crops: no array has the size of the image times the number of objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class MaskCrops:
    """The masks of some objects of one image, each a tight bitmap and its place. Never
    objects × H × W.

    Attributes:
        pixels: uint8 [P], the bitmaps (0 or 1) row by row, one after another: three
            tensors travel between processes, not hundreds.
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
        """Packs bitmaps (uint8 or bool [h, w]) whose upper left pixels lie at offsets (x, y)."""
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
        """Crops of dense masks, bool or uint8 [m, H, W]."""
        bitmaps, offsets = [], []
        for mask in masks:
            ys, xs = torch.where(mask > 0)
            if len(ys) == 0:
                bitmaps.append(mask.new_zeros((0, 0), dtype=torch.uint8))
                offsets.append((0, 0))
                continue
            y0, y1, x0, x1 = int(ys.min()), int(ys.max()) + 1, int(xs.min()), int(xs.max()) + 1
            bitmaps.append((mask[y0:y1, x0:x1] > 0).to(torch.uint8))
            offsets.append((x0, y0))
        return cls.from_bitmaps(bitmaps, offsets, (int(masks.shape[-2]), int(masks.shape[-1])))

    def __len__(self) -> int:
        return int(self.sizes.shape[0])

    def bitmaps(self) -> list[Tensor]:
        """The bitmaps, uint8 [h, w] each, views of `pixels`."""
        lengths = (self.sizes[:, 0] * self.sizes[:, 1]).tolist()
        return [
            p.reshape(h, w)
            for p, (h, w) in zip(
                torch.split(self.pixels, lengths), self.sizes.tolist(), strict=True
            )
        ]

    def select(self, index: Sequence[int] | Tensor) -> MaskCrops:
        """The crops at `index` (int64 [r] or bool [m]), in that order."""
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
        """The same masks in the mirrored image."""
        width = self.image_size[1]
        flipped = [b.flip(1) for b in self.bitmaps()]
        moved = [
            (width - x - w, y)
            for (x, y), (_, w) in zip(self.offsets.tolist(), self.sizes.tolist(), strict=True)
        ]
        return MaskCrops.from_bitmaps(flipped, moved, self.image_size)

    def areas(self) -> Tensor:
        """Pixels of each mask, int64 [m]."""
        return torch.tensor([int(b.sum()) for b in self.bitmaps()], dtype=torch.int64)

    def dense(self) -> Tensor:
        """Dense masks, bool [m, H, W]. For tests and pictures; training and inference
        have no use for it.
        """
        out = torch.zeros((len(self), *self.image_size), dtype=torch.bool)
        for i, (bitmap, (x, y)) in enumerate(
            zip(self.bitmaps(), self.offsets.tolist(), strict=True)
        ):
            out[i, y : y + bitmap.shape[0], x : x + bitmap.shape[1]] = bitmap.bool()
        return out

    def to(self, device: torch.device | str) -> MaskCrops:
        return replace(self, pixels=self.pixels.to(device))


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
    top, bottom, left, right = (
        int(rows[0]),
        int(rows[-1]) + 1,
        int(columns[0]),
        int(columns[-1]) + 1,
    )
    return bitmap[top:bottom, left:right].contiguous(), (place[0] + left, place[1] + top)


def tight_box(bitmap: Tensor, place: tuple[int, int]) -> Tensor:
    """float32 [4] xyxy of a tight bitmap."""
    x, y = place
    return torch.tensor([x, y, x + bitmap.shape[1], y + bitmap.shape[0]], dtype=torch.float32)


def iou(first: MaskCrops, second: MaskCrops) -> Tensor:
    """IoU of the masks pair by pair, float32 [m]; 0 where both are without pixels."""
    assert len(first) == len(second), (len(first), len(second))
    out = torch.zeros(len(first))
    pairs = zip(
        first.bitmaps(),
        first.offsets.tolist(),
        second.bitmaps(),
        second.offsets.tolist(),
        strict=True,
    )
    for i, (a, (ax, ay), b, (bx, by)) in enumerate(pairs):
        x0, y0 = max(ax, bx), max(ay, by)
        x1, y1 = min(ax + a.shape[1], bx + b.shape[1]), min(ay + a.shape[0], by + b.shape[0])
        both = 0
        if x1 > x0 and y1 > y0:
            both = int(
                (
                    a[y0 - ay : y1 - ay, x0 - ax : x1 - ax]
                    & b[y0 - by : y1 - by, x0 - bx : x1 - bx]
                ).sum()
            )
        union = int(a.sum()) + int(b.sum()) - both
        out[i] = both / union if union else 0.0
    return out
