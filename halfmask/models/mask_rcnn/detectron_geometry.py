"""Detectron's geometry, for weights that were trained in it: there a box ends with the
pixel x2, and is x2 - x1 + 1 wide.

Here boxes stay half-open, as everywhere in the package: Detectron's [x1, y1, x2, y2] is
[x1, y1, x2 + 1, y2 + 1]. In that form its box coding, clipping, areas, IoU and NMS are
torchvision's, number for number. What is left to do is in this file: anchors, boxes
that are scaled without their last pixel, and regions that are pooled without it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import resize_boxes

from halfmask.models.mask_rcnn.pooling import RegionPool, level_range

Sizes = list[tuple[int, int]]

MASK_SHIFT = -0.5
"""Where a mask lies, in pixels from its half-open box: Detectron cuts the corners of
the widened box to whole numbers and counts the last pixel in, so in the mean its masks
reach from x1 - 0.5 to x2 + 0.5.
"""
PADDING = 32
"""Images are padded to multiples of this."""


class LegacyAnchors(nn.Module):
    """Detectron's anchors in place of torchvision's AnchorGenerator.

    They are centred on the middle of a cell (torchvision: its corner), shaped in whole
    numbers at the size of the cell and then scaled up, and a level's cells are its
    stride apart whatever the size of its map.

    Args:
        strides: of each level, fine to coarse.
        sizes: the side of a square anchor of each level, pixels.
        ratios: height / width.
    """

    def __init__(self, strides: list[int], sizes: list[int], ratios: list[float]) -> None:
        super().__init__()
        self.strides = list(strides)
        self.cells = [
            _cell(stride, size, ratios) for stride, size in zip(strides, sizes, strict=True)
        ]

    def num_anchors_per_location(self) -> list[int]:
        return [len(cell) for cell in self.cells]

    def forward(self, images: ImageList, features: list[Tensor]) -> list[Tensor]:
        """For each image the same float32 [anchors, 4]: level after level, row after
        row, the ratios of a place side by side.
        """
        levels = []
        for stride, cell, level in zip(self.strides, self.cells, features, strict=True):
            height, width = level.shape[-2:]
            y, x = torch.meshgrid(
                torch.arange(height) * stride, torch.arange(width) * stride, indexing="ij"
            )
            shifts = torch.stack([x, y, x, y], -1).reshape(-1, 1, 4)
            levels.append((shifts + cell).reshape(-1, 4))
        anchors = torch.cat(levels).to(features[0].device)
        return [anchors] * len(images.image_sizes)


class LegacyPool(nn.Module):
    """RoIAlign over levels, of half-open boxes without their last pixel; the level is
    still chosen by the whole box.

    Args: as RegionPool's.
    """

    def __init__(self, strides: list[int], size: int, sampling_ratio: int) -> None:
        super().__init__()
        self.pool = RegionPool(
            strides, size, sampling_ratio, _LevelOfInclusive(*level_range(strides))
        )

    @property
    def output_size(self) -> tuple[int, int]:
        return self.pool.output_size

    def forward(self, features: dict[str, Tensor], boxes: list[Tensor], sizes: Sizes) -> Tensor:
        """float [R, C, S, S] of boxes [r, 4] for each image."""
        pooled: Tensor = self.pool(features, [without_last_pixel(b) for b in boxes], sizes)
        return pooled


class _LevelOfInclusive:
    """The level of boxes whose last pixel is x2 (in torchvision's LevelMapper the small
    number stands outside the logarithm).
    """

    def __init__(self, finest: int, coarsest: int) -> None:
        self.finest, self.coarsest = finest, coarsest

    def __call__(self, boxes: list[Tensor]) -> Tensor:
        rows = torch.cat(boxes)
        side = ((rows[:, 2] - rows[:, 0] + 1) * (rows[:, 3] - rows[:, 1] + 1)).sqrt()
        level = (4 + (side / 224 + 1e-6).log2()).floor().clamp(self.finest, self.coarsest)
        return level.to(torch.int64) - self.finest


def without_last_pixel(boxes: Tensor) -> Tensor:
    """Half-open boxes [n, 4] to Detectron's."""
    return boxes - boxes.new_tensor([0.0, 0.0, 1.0, 1.0])


def resize_legacy(boxes: Tensor, before: tuple[int, int], after: tuple[int, int]) -> Tensor:
    """Half-open boxes [n, 4] of an image of size `before` (H, W) in the image resized
    to `after`, as Detectron scales its own.
    """
    scaled: Tensor = resize_boxes(without_last_pixel(boxes), before, after)
    return scaled + boxes.new_tensor([0.0, 0.0, 1.0, 1.0])


def padded(batch: ImageList) -> ImageList:
    """The batch for the RPN: Detectron clips proposals to the image with its padding."""
    return ImageList(
        batch.tensors, [(_up(height), _up(width)) for height, width in batch.image_sizes]
    )


def _up(side: int) -> int:
    return -(-side // PADDING) * PADDING


def _cell(stride: int, size: int, ratios: list[float]) -> Tensor:
    """float32 [ratios, 4]: the anchors of the cell at the origin."""
    rows = []
    for ratio in ratios:
        width = round((stride * stride / ratio) ** 0.5)
        height = round(width * ratio)
        x, y = width * size / stride / 2, height * size / stride / 2
        rows.append([stride / 2 - x, stride / 2 - y, stride / 2 + x, stride / 2 + y])
    return torch.tensor(rows, dtype=torch.float32)
