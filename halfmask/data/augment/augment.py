"""Random changes of training images: pasted objects, rotation, mirror and colour."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from halfmask.data.augment.paste import CopyPaste
from halfmask.data.augment.rotate import rotate
from halfmask.masks.polygons import mirror_outline
from halfmask.structures import Target

ROTATED = 0.5
"""Share of the examples that are turned, if any are."""


class Augment:
    """Pastes objects into an image, rotates and mirrors it, and varies its colours.

    Args:
        flip: probability of mirroring left and right.
        colour_jitter: s; brightness, contrast and saturation are each multiplied by a
            factor from [1 − s, 1 + s], never below 0. 0 keeps the colours bit for bit.
        paste: objects of other images; None: none.
        rotation: degrees; half of the examples are turned by up to this, either way.
    """

    def __init__(
        self,
        flip: float = 0.0,
        colour_jitter: float = 0.0,
        paste: CopyPaste | None = None,
        *,
        rotation: float = 0.0,
    ) -> None:
        assert 0.0 <= flip <= 1.0, flip
        assert colour_jitter >= 0.0, colour_jitter
        self.flip = flip
        self.colour_jitter = colour_jitter
        self.paste = paste
        self.rotation = rotation

    def __call__(
        self, image: Tensor, target: Target, generator: torch.Generator
    ) -> tuple[Tensor, Target]:
        """Changes one example.

        Args:
            image: float32 [3, H, W] in [0, 1].
            target: its objects.
            generator: the same state gives the same result. Turning one change off does
                not change the draws of the others.
        """
        draws = torch.rand(4, generator=generator).tolist()
        if self.paste is not None:
            image, target = self.paste(image, target, generator)
        if self.rotation > 0:
            turned, share = torch.rand(2, generator=generator).tolist()
            if turned < ROTATED:
                image, target = rotate(image, target, (2 * share - 1) * self.rotation)
        if draws[0] < self.flip:
            image, target = mirror(image, target)
        if self.colour_jitter > 0:
            low, high = max(0.0, 1.0 - self.colour_jitter), 1.0 + self.colour_jitter
            factors = [low + (high - low) * draw for draw in draws[1:]]
            image = functional.adjust_brightness(image, factors[0])
            image = functional.adjust_contrast(image, factors[1])
            image = functional.adjust_saturation(image, factors[2])
        return image, target


def mirror(image: Tensor, target: Target) -> tuple[Tensor, Target]:
    """Swaps left and right of an example."""
    width = image.shape[-1]
    outlines = target.outlines
    if outlines is not None:
        outlines = tuple(None if o is None else mirror_outline(o, width) for o in outlines)
    flipped = replace(
        target,
        boxes=_mirrored(target.boxes, width),
        masks=target.masks.flip_horizontal(),
        crowds=None if target.crowds is None else _mirrored(target.crowds, width),
        outlines=outlines,
    )
    return image.flip(-1), flipped


def _mirrored(boxes: Tensor, width: int) -> Tensor:
    x0, y0, x1, y1 = boxes.unbind(1)
    return torch.stack([width - x1, y0, width - x0, y1], 1)
