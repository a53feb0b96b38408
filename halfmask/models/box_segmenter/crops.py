"""Crops of boxes with context: where they lie, their pixels, and the channel that says
which cells are the box's.

Shape letters: R regions (one a box), S side of a crop. Regions and boxes are float32
[R, 4] xyxy in pixels of their image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from halfmask.masks.paste import grown

MAX_LEVEL = 6
LOOSE_SHARE = 1 / 3
"""Of the boxes in training, where any are made loose."""


def crop_regions(boxes: Tensor, context: float, smallest: float = 1.0) -> Tensor:
    """The boxes with `context` times their side added on each side.

    Args:
        smallest: regions are at least this many pixels wide and high, about the box's
            centre.
    """
    half = ((boxes[:, 2:] - boxes[:, :2]) * (0.5 + context)).clamp_min(smallest / 2)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    return torch.cat([centre - half, centre + half], 1)


def inside_box(boxes: Tensor, regions: Tensor, size: int) -> Tensor:
    """float32 [R, size, size] in [0, 1]: the share of each of a region's cells that
    lies in the box.
    """
    sides = (regions[:, 2:] - regions[:, :2]).clamp_min(1e-6)
    low = (boxes[:, :2] - regions[:, :2]) / sides * size
    high = (boxes[:, 2:] - regions[:, :2]) / sides * size
    cells = torch.arange(size, dtype=boxes.dtype, device=boxes.device)
    # [R, 2, size]: how much of each column (x) and row (y) of cells is covered.
    cover = (
        torch.minimum(high[:, :, None], cells + 1) - torch.maximum(low[:, :, None], cells)
    ).clamp(0, 1)
    return cover[:, 1, :, None] * cover[:, 0, None, :]


def resample(maps: Tensor, regions: Tensor, places: Tensor) -> Tensor:
    """Maps spread over `regions`, read anew where `places` lie (bilinear; beyond a
    region's edge its last cells are repeated).

    Args:
        maps: float [R, M, M].
        regions, places: float [R, 4] xyxy, pixels.
    Returns:
        float [R, M, M].
    """
    size = maps.shape[-1]
    cells = (torch.arange(size, dtype=places.dtype, device=places.device) + 0.5) / size
    spots = (
        places[:, None, :2] + cells[:, None] * (places[:, 2:] - places[:, :2])[:, None]
    )  # [R, M, 2]
    inside = (spots - regions[:, None, :2]) / (regions[:, 2:] - regions[:, :2])[:, None].clamp_min(
        1e-6
    ) * 2 - 1
    x, y = inside[:, None, :, 0].expand(-1, size, -1), inside[:, :, None, 1].expand(-1, -1, size)
    found = F.grid_sample(
        maps[:, None],
        torch.stack([x, y], 3).to(maps.dtype),
        padding_mode="border",
        align_corners=False,
    )
    return found[:, 0]


class ImagePyramid:
    """One image that regions of any size are read from, at a cost and with memory that
    do not grow with the region.

    RoIAlign's adaptive sampling averages all pixels below a cell. For regions of a
    large photograph that is hundreds of samples for each cell, each with its own entry
    in a table; so cells of four pixels and more are read from the image halved once,
    twice, …

    Args:
        image: float32 [3, H, W], RGB in [0, 1].
        mean, std: float32 [3], to normalise with.
    """

    def __init__(self, image: Tensor, mean: Tensor, std: Tensor) -> None:
        normalised = (image - mean[:, None, None]) / std[:, None, None]
        self._levels: dict[int, Tensor] = {0: normalised[None]}

    def _level(self, level: int) -> Tensor:
        if level not in self._levels:
            self._levels[level] = F.avg_pool2d(
                self._level(level - 1), 2, ceil_mode=True, count_include_pad=False
            )
        return self._levels[level]

    def read(self, regions: Tensor, size: int) -> Tensor:
        """float32 [R, 3, size, size] of the regions, antialiased. Outside the image: 0,
        which is the mean colour.
        """
        source = self._levels[0]
        out = source.new_zeros((len(regions), source.shape[1], size, size))
        cell = (regions[:, 2:] - regions[:, :2]).amax(1) / size
        levels = (cell / 2).clamp_min(1).log2().floor().to(torch.int64).clamp_max(MAX_LEVEL)
        for level in sorted(set(levels.tolist())):
            rows = torch.where(levels == level)[0]
            image = self._level(level)
            out[rows] = roi_align(image, [regions[rows]], (size, size), 0.5**level, aligned=True)
        return out


@dataclass(frozen=True)
class Jitter:
    """Random changes of boxes and crops in training, drawn from torch's global generator.

    Attributes:
        box: the corners of some boxes move by up to this share of the box's side: loose
            boxes, which are marked as such.
        crop: place and side of the crop change by up to this share.
    """

    box: float = 0.0
    crop: float = 0.0

    def move_boxes(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes [R, 4], and bool [R]: which of them are loose now."""
        loose = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
        if self.box == 0:
            return boxes, loose
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        loose = (torch.rand(len(boxes)) < LOOSE_SHARE).to(boxes.device)
        moved = boxes + _uniform(boxes.shape, boxes) * self.box * sides
        return torch.where(loose[:, None], moved, boxes), loose

    def move_regions(self, regions: Tensor) -> Tensor:
        if self.crop == 0:
            return regions
        half = (regions[:, 2:] - regions[:, :2]) / 2
        centre = (regions[:, :2] + regions[:, 2:]) / 2 + _uniform(
            half.shape, half
        ) * self.crop * half
        half = half * torch.exp(_uniform(half.shape, half) * self.crop)
        return torch.cat([centre - half, centre + half], 1)


def _uniform(shape: torch.Size, like: Tensor) -> Tensor:
    """Uniform in [−1, 1), drawn on the CPU so that every device sees the same numbers."""
    return (torch.rand(shape) * 2 - 1).to(like.device, like.dtype)


LOOSE = 0.5
"""Height of a loose box's channel; a tight one's is 1."""


class CropReader(nn.Module):
    """Turns boxes of images into the network's input: normalised pixels and a channel
    that is 1 inside the box.

    Args:
        size: S, side of a crop.
        context: share of the box's side added on each side of it.
        mean, std: of RGB in [0, 1].
        mirror: in inference each crop is read as it is and mirrored, and the two masks
            are averaged: twice the time.
        zooms: in inference each box is read with each of these contexts and the masks
            are averaged: as many times the time. Empty: with `context` alone.
        reach: how far beyond a loose box its mask may go, share of the box's side.

    Attributes:
        loose: in inference, whether boxes may be off. A tight box ends where its object
            does, and that is worth knowing; the network is told which kind a box is by
            the height of its channel, 1 or LOOSE.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        size: int,
        context: float,
        mean: list[float],
        std: list[float],
        mirror: bool = False,
        zooms: Sequence[float] = (),
        reach: float = 0.0,
    ) -> None:
        super().__init__()
        self.size = size
        self.context = context
        self.mirror = mirror
        self.reach = reach
        self.loose = False
        # The closest one first: masks are spread over its regions, where their cells
        # are finest.
        self.contexts = tuple(sorted(zooms)) or (context,)
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    def pyramid(self, image: Tensor) -> ImagePyramid:
        return ImagePyramid(image, self.mean, self.std)

    def regions(self, boxes: Tensor) -> Tensor:
        return crop_regions(boxes, self.context)

    def limits(self, boxes: Tensor, loose: Tensor | None = None) -> Tensor:
        """float32 [R, 4]: where the masks of boxes [R, 4] may be. loose: bool [R];
        None: as `self.loose` says.
        """
        wide = grown(boxes, self.reach)
        if loose is None:
            return wide if self.loose else boxes
        return torch.where(loose[:, None], wide, boxes)

    def read(
        self, image: ImagePyramid, boxes: Tensor, regions: Tensor, loose: Tensor | None = None
    ) -> Tensor:
        """float32 [R, 4, S, S]. loose: bool [R], which boxes may be off; None: as
        `self.loose` says.
        """
        if loose is None:
            loose = torch.full((len(boxes),), self.loose, device=boxes.device)
        height = torch.where(loose, LOOSE, 1.0).to(boxes)
        box = inside_box(boxes, regions, self.size) * height[:, None, None]
        return torch.cat([image.read(regions, self.size), box[:, None]], 1)

    def colours(self, crops: Tensor) -> Tensor:
        """RGB in [0, 1], float32 [R, 3, S, S], of crops that `read` made."""
        return (crops[:, :3] * self.std[:, None, None] + self.mean[:, None, None]).clamp(0, 1)
