"""Random draws of a training step that belong to an image, not to the process.

They are the same wherever the image is learned from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from halfmask.structures import Target

_seeds: ContextVar[list[int] | None] = ContextVar("_seeds", default=None)

SCALE, ANCHORS, REGIONS, MASKS = range(4)
"""Purposes of draws: image size, anchors, regions of the box losses, regions of the
mask loss.
"""


@contextmanager
def use_image_seeds(targets: Sequence[Target]) -> Iterator[None]:
    """Lets `image_rng` use the seeds of these targets (`Target.draws`).

    If a target has none, all draws come from the process's own stream.
    """
    seeds = [target.draws for target in targets if target.draws is not None]
    token = _seeds.set(seeds if seeds and len(seeds) == len(targets) else None)
    try:
        yield
    finally:
        _seeds.reset(token)


def has_image_seeds() -> bool:
    """Returns whether the images of the batch have seeds of their own."""
    return _seeds.get() is not None


@contextmanager
def image_rng(index: int, purpose: int) -> Iterator[None]:
    """Seeds torch's default generators for draws of the batch's image `index`."""
    seeds = _seeds.get()
    if seeds is None:
        yield
        return
    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
        # Neighbouring seeds are as good as any for torch's generators.
        torch.manual_seed(seeds[index] + purpose)
        yield


class ImageSampler:
    """torchvision's sampler of foreground and background, with seeds of the images.

    Args:
        sampler: supplies the numbers.
        purpose: of the draws (REGIONS, say).
    """

    def __init__(
        self, sampler: BalancedPositiveNegativeSampler | ImageSampler, purpose: int
    ) -> None:
        self.batch_size_per_image: int = sampler.batch_size_per_image
        self.positive_fraction: float = sampler.positive_fraction
        self._sampler = BalancedPositiveNegativeSampler(
            self.batch_size_per_image, self.positive_fraction
        )
        self._purpose = purpose
        self._last: list[Tensor] = []

    def __call__(self, matched: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Returns uint8 flags [A] of foreground and of background for each image.

        Args:
            matched: int or float [A] for each image: −1 ignored, 0 background.
        """
        if not has_image_seeds():
            foreground, background = self._sampler(matched)
        else:
            foreground, background = [], []
            for index, rows in enumerate(matched):
                with image_rng(index, self._purpose):
                    one, other = self._sampler([rows])
                foreground += one
                background += other
        self._last = foreground + background
        return foreground, background

    @property
    def drawn(self) -> Tensor | float:
        """How many the last call drew."""
        return torch.stack([flags.sum() for flags in self._last]).sum() if self._last else 0.0
