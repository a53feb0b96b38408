"""Batches of a stage: one per step, from a loader of any length."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from halfmask.errors import InputError
from halfmask.structures import Target


class Loader(Protocol):
    """A resumable source of batches (torchdata's StatefulDataLoader, `RegionLoader`)."""

    def __iter__(self) -> Iterator[Any]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


class Stream:
    """`steps` batches of a loader, which starts again at its end.

    The stream has a length, so that Lightning prefetches no batch. The loader's state
    then matches the batches used.

    Args:
        wrap: turns the loader's item into a batch.
    """

    def __init__(
        self, loader: Loader, steps: int, wrap: Callable[[Any], Any] | None = None
    ) -> None:
        self._loader = loader
        self._steps = steps
        self._wrap = wrap

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[Any]:
        passes_without_batch = 0
        # One pass may be empty: a resumed one that was left at its end.
        while passes_without_batch < 2:
            passes_without_batch += 1
            for batch in self._one_pass():
                passes_without_batch = 0
                yield batch if self._wrap is None else self._wrap(batch)
        raise InputError(
            "the training data gives no batch: expected at least one image to learn from"
        )

    def _one_pass(self) -> Iterator[Any]:
        # Loaders draw a seed for their workers when they start. A resumed run starts
        # one loader more, and must draw the same numbers.
        with torch.random.fork_rng(devices=[]):
            batches = iter(self._loader)
            first = list(itertools.islice(batches, 1))
        yield from first
        yield from batches

    def state_dict(self) -> dict[str, Any]:
        return self._loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._loader.load_state_dict(state_dict)


@dataclass(frozen=True)
class ImageBatch:
    """N images and their targets, for the losses of a stage: all, boxes or masks."""

    images: list[Tensor]
    targets: list[Target]
    loss: str = "all"

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> ImageBatch:
        images = [image.to(device, non_blocking=True) for image in self.images]
        return replace(self, images=images, targets=[target.to(device) for target in self.targets])

    def losses(self, model: Any) -> dict[str, Tensor]:
        return dict(model(self.images, self.targets, self.loss))

    def image_ids(self) -> list[int]:
        return [target.image_id for target in self.targets]


@dataclass(frozen=True)
class RegionBatch:
    """R regions from the model's `mask_regions`.

    Attributes:
        regions: a dataclass of tensors [R, …].
        sources: ids of their images.
    """

    regions: Any
    sources: list[int]

    def __len__(self) -> int:
        return int(getattr(self.regions, fields(self.regions)[0].name).shape[0])

    def to(self, device: torch.device) -> RegionBatch:
        moved = {f.name: getattr(self.regions, f.name).to(device) for f in fields(self.regions)}
        # Stored in 16 bits, used in 32.
        moved = {name: t.float() if t.is_floating_point() else t for name, t in moved.items()}
        return replace(self, regions=replace(self.regions, **moved))

    def losses(self, model: Any) -> dict[str, Tensor]:
        return {"loss_mask": model.mask_loss(self.regions)}

    def image_ids(self) -> list[int]:
        return self.sources
