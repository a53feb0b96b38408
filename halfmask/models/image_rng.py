"""Random draws of a training step that belong to an image, not to the process: the same
wherever the image is learnt from.
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
"""What is drawn for an image: its size, anchors and regions of the box losses, regions
or crops of the mask losses.
"""


@contextmanager
def draws_of(targets: Sequence[Target]) -> Iterator[None]:
    """Inside, `image_draws` takes the seeds of these targets (`Target.draws`); where
    they have none, draws are the process's own.
    """
    seeds = [target.draws for target in targets if target.draws is not None]
    token = _seeds.set(seeds if seeds and len(seeds) == len(targets) else None)
    try:
        yield
    finally:
        _seeds.reset(token)


def by_image() -> bool:
    """Whether the images of the batch have draws of their own."""
    return _seeds.get() is not None


@contextmanager
def image_draws(index: int, purpose: int) -> Iterator[None]:
    """Around draws for the batch's image `index`, made from torch's default generators."""
    seeds = _seeds.get()
    if seeds is None:
        yield
        return
    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
        # Neighbouring seeds are as good as any for torch's generators; the seeds
        # themselves are hashes.
        torch.manual_seed(seeds[index] + purpose)
        yield


class ImageSampler:
    """torchvision's sampler of foreground and background, image by image where each has
    draws of its own.

    Args:
        sampler: whose numbers count.
        purpose: what is sampled.
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
        """uint8 flags [A] of foreground and of background for each image, given int or
        float [A]: −1 ignored, 0 background.
        """
        if not by_image():
            foreground, background = self._sampler(matched)
        else:
            foreground, background = [], []
            for index, rows in enumerate(matched):
                with image_draws(index, self._purpose):
                    one, other = self._sampler([rows])
                foreground += one
                background += other
        self._last = foreground + background
        return foreground, background

    @property
    def drawn(self) -> Tensor | float:
        """How many the last call drew."""
        return torch.stack([flags.sum() for flags in self._last]).sum() if self._last else 0.0
