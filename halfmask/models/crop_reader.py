"""Boxes of images to a box segmenter's input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from halfmask.masks.paste import grown
from halfmask.models.crops import ImagePyramid, crop_regions, inside_box

LOOSE = 0.5
"""Height of a loose box's channel; a tight one's is 1."""


class CropReader(nn.Module):
    """Turns boxes of images into the network's input: normalised pixels and a channel that is 1 inside the box.

    Args:
        size: S, side of a crop.
        context: share of the box's side added on each side of it.
        mean, std: of RGB in [0, 1].
        mirror: in inference each crop is read as it is and mirrored, and the two masks are averaged: twice the time.
        zooms: in inference each box is read with each of these contexts and the masks are averaged: as many times the time. Empty: with
            `context` alone.
        reach: how far beyond a loose box its mask may go, share of the box's side.

    Attributes:
        loose: in inference, whether boxes may be off. A tight box ends where its object does, and that is worth knowing; the network is
            told which kind a box is by the height of its channel, 1 or LOOSE.
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
        # The closest one first: masks are spread over its regions, where their cells are finest.
        self.contexts = tuple(sorted(zooms)) or (context,)
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    def pyramid(self, image: Tensor) -> ImagePyramid:
        return ImagePyramid(image, self.mean, self.std)

    def regions(self, boxes: Tensor) -> Tensor:
        return crop_regions(boxes, self.context)

    def limits(self, boxes: Tensor, loose: Tensor | None = None) -> Tensor:
        """float32 [R, 4]: where the masks of boxes [R, 4] may be. loose: bool [R]; None: as `self.loose` says."""
        wide = grown(boxes, self.reach)
        if loose is None:
            return wide if self.loose else boxes
        return torch.where(loose[:, None], wide, boxes)

    def read(self, image: ImagePyramid, boxes: Tensor, regions: Tensor, loose: Tensor | None = None) -> Tensor:
        """float32 [R, 4, S, S]. loose: bool [R], which boxes may be off; None: as `self.loose` says."""
        if loose is None:
            loose = torch.full((len(boxes),), self.loose, device=boxes.device)
        height = torch.where(loose, LOOSE, 1.0).to(boxes)
        box = inside_box(boxes, regions, self.size) * height[:, None, None]
        return torch.cat([image.read(regions, self.size), box[:, None]], 1)

    def colours(self, crops: Tensor) -> Tensor:
        """RGB in [0, 1], float32 [R, 3, S, S], of crops that `read` made."""
        return (crops[:, :3] * self.std[:, None, None] + self.mean[:, None, None]).clamp(0, 1)
