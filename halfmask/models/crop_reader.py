"""Boxes of images to a box segmenter's input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from halfmask.masks import grown
from halfmask.models.crops import ImagePyramid, crop_regions, inside_box


class CropReader(nn.Module):
    """Turns boxes of images into the network's input: normalised pixels and a channel that is 1 inside the box.

    Args:
        size: S, side of a crop.
        context: share of the box's side added on each side of it.
        mean, std: of RGB in [0, 1].
        mirror: in inference each crop is read as it is and mirrored, and the two masks are averaged: twice the time.
        zooms: in inference each box is read with each of these contexts and the masks are averaged: as many times the time. Empty: with
            `context` alone.
        reach: how far beyond its box a mask may go, share of the box's side.
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
        # The closest one first: masks are spread over its regions, where their cells are finest.
        self.contexts = tuple(sorted(zooms)) or (context,)
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    def pyramid(self, image: Tensor) -> ImagePyramid:
        return ImagePyramid(image, self.mean, self.std)

    def regions(self, boxes: Tensor) -> Tensor:
        return crop_regions(boxes, self.context)

    def limits(self, boxes: Tensor) -> Tensor:
        """float32 [R, 4]: where the masks of boxes [R, 4] may be."""
        return grown(boxes, self.reach) if self.reach else boxes

    def read(self, image: ImagePyramid, boxes: Tensor, regions: Tensor) -> Tensor:
        """float32 [R, 4, S, S]."""
        pixels = image.read(regions, self.size)
        return torch.cat([pixels, inside_box(boxes, regions, self.size)[:, None]], 1)

    def colours(self, crops: Tensor) -> Tensor:
        """RGB in [0, 1], float32 [R, 3, S, S], of crops that `read` made."""
        return (crops[:, :3] * self.std[:, None, None] + self.mean[:, None, None]).clamp(0, 1)
