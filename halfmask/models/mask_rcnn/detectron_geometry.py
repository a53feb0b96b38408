"""Detectron's geometry, for weights trained in it.

In Detectron a box ends with the pixel x2, and is x2 - x1 + 1 wide. Here boxes stay
half-open: Detectron's [x1, y1, x2, y2] is [x1, y1, x2 + 1, y2 + 1]. In that form its
box coding, clipping, areas, IoU and NMS equal torchvision's, number for number. This
file holds the rest: anchors, boxes scaled without their last pixel, and regions pooled
without it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import resize_boxes

from halfmask.models.mask_rcnn.pooling import RegionPool, Sizes, level_range

MASK_SHIFT = -0.5
"""Offset of a mask from its half-open box, pixels.

Detectron rounds the corners of the widened box and includes the last pixel, so on
average its masks reach from x1 - 0.5 to x2 + 0.5.
"""
PADDING = 32
"""Images are padded to multiples of this."""


class DetectronAnchors(nn.Module):
    """Detectron's anchors in place of torchvision's AnchorGenerator.

    They are centred on the middle of a cell (torchvision: its corner), rounded to whole
    numbers at the size of the cell and then scaled up. A level's cells are its stride
    apart, whatever the size of its map.

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
        """Returns float32 [anchors, 4], the same for each image.

        The order is level after level, row after row, and the ratios of a place side by
        side.
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


class DetectronPool(nn.Module):
    """RoIAlign over levels, of half-open boxes without their last pixel.

    The whole box decides the level. The arguments are those of RegionPool.
    """

    def __init__(self, strides: list[int], size: int, sampling_ratio: int) -> None:
        super().__init__()
        self.pool = RegionPool(
            strides, size, sampling_ratio, map_levels=_LevelOfInclusive(*level_range(strides))
        )

    @property
    def output_size(self) -> tuple[int, int]:
        return self.pool.output_size

    def forward(self, features: dict[str, Tensor], boxes: list[Tensor], sizes: Sizes) -> Tensor:
        """Returns float [R, C, S, S] of boxes [r, 4] for each image."""
        pooled: Tensor = self.pool(features, [without_last_pixel(b) for b in boxes], sizes)
        return pooled


class _LevelOfInclusive:
    """The level of boxes that include the pixel x2.

    torchvision's LevelMapper adds the small number outside the logarithm.
    """

    def __init__(self, finest: int, coarsest: int) -> None:
        self.finest, self.coarsest = finest, coarsest

    def __call__(self, boxes: list[Tensor]) -> Tensor:
        rows = torch.cat(boxes)
        side = ((rows[:, 2] - rows[:, 0] + 1) * (rows[:, 3] - rows[:, 1] + 1)).sqrt()
        level = (4 + (side / 224 + 1e-6).log2()).floor().clamp(self.finest, self.coarsest)
        return level.to(torch.int64) - self.finest


def without_last_pixel(boxes: Tensor) -> Tensor:
    """Turns half-open boxes [n, 4] into Detectron's."""
    return boxes - boxes.new_tensor([0.0, 0.0, 1.0, 1.0])


def resize_detectron(boxes: Tensor, before: tuple[int, int], after: tuple[int, int]) -> Tensor:
    """Scales half-open boxes from size `before` (H, W) to `after` as Detectron does."""
    scaled: Tensor = resize_boxes(without_last_pixel(boxes), before, after)
    return scaled + boxes.new_tensor([0.0, 0.0, 1.0, 1.0])


def padded(batch: ImageList) -> ImageList:
    """Returns the batch for the RPN: Detectron clips proposals to the padded image."""
    return ImageList(
        batch.tensors, [(_up(height), _up(width)) for height, width in batch.image_sizes]
    )


def _up(side: int) -> int:
    return -(-side // PADDING) * PADDING


def _cell(stride: int, size: int, ratios: list[float]) -> Tensor:
    rows = []
    for ratio in ratios:
        width = round((stride * stride / ratio) ** 0.5)
        height = round(width * ratio)
        x, y = width * size / stride / 2, height * size / stride / 2
        rows.append([stride / 2 - x, stride / 2 - y, stride / 2 + x, stride / 2 + y])
    return torch.tensor(rows, dtype=torch.float32)
