"""Crops of boxes with context: their places, their pixels, and the channels of boxes.

Shape letters: R regions (one a box), S side of a crop, n boxes of an image. Regions and
boxes are float32 [R, 4] xyxy in pixels of their image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from halfmask.masks.operators import roi_align
from halfmask.masks.paste import grown
from halfmask.models.box_segmenter.clicks import CHANNELS, Hints, hint_maps

MAX_LEVEL = 6


def crop_regions(boxes: Tensor, context: float, smallest: float = 1.0) -> Tensor:
    """Returns boxes [R, 4] with `context` times their side added on each side.

    They are at least `smallest` pixels wide and high, about the box's centre.
    """
    half = ((boxes[:, 2:] - boxes[:, :2]) * (0.5 + context)).clamp_min(smallest / 2)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    return torch.cat([centre - half, centre + half], 1)


def inside_box(boxes: Tensor, regions: Tensor, size: int) -> Tensor:
    """Returns the share of each cell of a region in the box, [R, size, size]."""
    sides = (regions[:, 2:] - regions[:, :2]).clamp_min(1e-6)
    low = (boxes[:, :2] - regions[:, :2]) / sides * size
    high = (boxes[:, 2:] - regions[:, :2]) / sides * size
    cells = torch.arange(size, dtype=boxes.dtype, device=boxes.device)
    # [R, 2, size]: how much of each column (x) and row (y) of cells is covered.
    cover = (
        torch.minimum(high[:, :, None], cells + 1) - torch.maximum(low[:, :, None], cells)
    ).clamp(0, 1)
    return cover[:, 1, :, None] * cover[:, 0, None, :]


@dataclass(frozen=True)
class Boxes:
    """The boxes of a photograph, and which of them is the own box of each region.

    Attributes:
        every: float32 [n, 4].
        own: int64 [R], rows of `every`; −1: none.
        hints: clicks and earlier masks of `every`, if there are any.
    """

    every: Tensor
    own: Tensor
    hints: Hints | None = None


def other_boxes(boxes: Boxes, regions: Tensor, size: int) -> Tensor:
    """Returns how the other boxes of a photograph cover each region.

    A small box inside the own one often holds something that lies on the object; a
    large box around it, something behind. So they have a map each.

    Args:
        boxes: n boxes.
        regions: float32 [R, 4].
        size: S.
    Returns:
        float32 [R, 2, S, S]: k / (1 + k) for k boxes over a cell, of those that are
            smaller than the region's own box, and of the others.
    """
    every, own = boxes.every, boxes.own
    count, spots = every.shape[0], regions.shape[0]
    sides = (regions[:, 2:] - regions[:, :2]).clamp_min(1e-6)[:, None]
    low = (every[None, :, :2] - regions[:, None, :2]) / sides * size
    high = (every[None, :, 2:] - regions[:, None, :2]) / sides * size
    cells = torch.arange(size, dtype=regions.dtype, device=regions.device)
    # [R, n, 2, S]: how much of each column (x) and row (y) of cells a box covers.
    cover = (
        torch.minimum(high[..., None], cells + 1) - torch.maximum(low[..., None], cells)
    ).clamp(0, 1)
    other = own[:, None] != torch.arange(count, device=own.device)
    areas = (every[:, 2:] - every[:, :2]).prod(1)
    smaller = areas[None].expand(spots, count) < areas[own.clamp_min(0)][:, None]
    maps = []
    for chosen in (other & smaller, other & ~smaller):
        rows = cover[:, :, 1] * chosen[..., None].to(cover.dtype)
        total = torch.matmul(rows.transpose(1, 2), cover[:, :, 0])
        maps.append(total / (1 + total))
    return torch.stack(maps, 1)


def resample(maps: Tensor, regions: Tensor, places: Tensor) -> Tensor:
    """Resamples maps that cover `regions` at the cells of `places`, float [R, M, M].

    Bilinear; beyond a region's edge its last cells are repeated.

    Args:
        maps: float [R, M, M].
        regions, places: float [R, 4] xyxy, pixels.
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
    """An image from which regions of any size are read at a bounded cost.

    RoIAlign's adaptive sampling averages all pixels of a cell, for regions of a large
    photograph hundreds of samples. So cells of four pixels and more are read from the
    image halved once, twice, …

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
        """Returns float32 [R, 3, size, size], antialiased; 0 outside the image."""
        source = self._levels[0]
        out = source.new_zeros((len(regions), source.shape[1], size, size))
        cell = (regions[:, 2:] - regions[:, :2]).amax(1) / size
        levels = (cell / 2).clamp_min(1).log2().floor().to(torch.int64).clamp_max(MAX_LEVEL)
        for level in sorted(set(levels.tolist())):
            rows = torch.where(levels == level)[0]
            image = self._level(level)
            out[rows] = roi_align(image, [regions[rows]], (size, size), 0.5**level, aligned=True)
        return out


LOOSE = 0.5
"""Height of a loose box's channel; a tight one's is 1."""


class CropReader(nn.Module):
    """Turns boxes of images into crops: normalised pixels and the box's channel.

    A tight box ends where its object does. The channel's height inside the box, 1 or
    LOOSE, shows the network which kind a box is.

    Args:
        size: S, side of a crop.
        context: share of the box's side added on each side of it.
        mean, std: of RGB in [0, 1].
        mirror, zooms: in inference, average the masks of mirrored crops and of each of
            these contexts. Empty zooms: `context` alone.
        reach: how far a mask may go beyond a loose box, share of the box's side.

    Attributes:
        neighbours: whether crops show the other boxes of the photograph too.
        clicks: whether they have channels for clicks and an earlier mask.
        loose: in inference, whether boxes are loose.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        size: int,
        context: float,
        mean: list[float],
        *,
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
        self.neighbours = False
        self.clicks = False
        self.loose = False
        # The closest one first: masks cover its regions, where their cells are finest.
        self.contexts = tuple(sorted(zooms)) or (context,)
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    @property
    def channels(self) -> int:
        """C, channels of a crop."""
        return 4 + 2 * self.neighbours + CHANNELS * self.clicks

    def pyramid(self, image: Tensor) -> ImagePyramid:
        return ImagePyramid(image, self.mean, self.std)

    def regions(self, boxes: Tensor) -> Tensor:
        return crop_regions(boxes, self.context)

    def limits(self, boxes: Tensor, loose: Tensor | None = None) -> Tensor:
        """Returns the limits of masks [R, 4]. loose: bool [R]; None: `self.loose`."""
        wide = grown(boxes, self.reach)
        if loose is None:
            return wide if self.loose else boxes
        return torch.where(loose[:, None], wide, boxes)

    def read(
        self,
        image: ImagePyramid,
        boxes: Tensor,
        regions: Tensor,
        *,
        among: Boxes | None = None,
        loose: Tensor | None = None,
    ) -> Tensor:
        """Returns crops, float32 [R, C, S, S], with C `self.channels`.

        Args:
            image: the pixels.
            boxes, regions: float32 [R, 4].
            among: the photograph's boxes, for `neighbours` and `clicks`; None: `boxes`
                are all.
            loose: bool [R]; None: `self.loose`.
        """
        if loose is None:
            loose = torch.full((len(boxes),), self.loose, device=boxes.device)
        height = torch.where(loose, LOOSE, 1.0).to(boxes)
        box = inside_box(boxes, regions, self.size) * height[:, None, None]
        parts = [image.read(regions, self.size), box[:, None]]
        among = among or Boxes(boxes, torch.arange(len(boxes), device=boxes.device))
        if self.neighbours:
            parts.append(other_boxes(among, regions, self.size))
        if self.clicks:
            parts.append(hint_maps(among.hints, among.own, regions, size=self.size))
        return torch.cat(parts, 1)

    def colours(self, crops: Tensor) -> Tensor:
        """Returns RGB in [0, 1], float32 [R, 3, S, S], of crops that `read` made."""
        return (crops[:, :3] * self.std[:, None, None] + self.mean[:, None, None]).clamp(0, 1)
