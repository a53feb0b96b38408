"""A stage's batches: as many as it has steps, from a loader that may be shorter, longer or endless."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch

from halfmask.errors import InputError


class Loader(Protocol):
    """Batches that can be taken up again where they were left (torchdata's StatefulDataLoader, the feature cache's loader)."""

    def __iter__(self) -> Iterator[Any]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


class Stream:
    """`steps` batches of a loader; its end is followed by its beginning. `wrap` turns what the loader gives into a batch.

    The stream has a length, so that Lightning fetches no batch ahead of the step: the loader's state is then exactly that of the
    batches used.
    """

    def __init__(self, loader: Loader, steps: int, wrap: Callable[[Any], Any] | None = None) -> None:
        self._loader = loader
        self._steps = steps
        self._wrap = wrap

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[Any]:
        passes_without_batch = 0
        while passes_without_batch < 2:  # one may be: the rest of a pass that was left at its very end
            passes_without_batch += 1
            for batch in self._one_pass():
                passes_without_batch = 0
                yield batch if self._wrap is None else self._wrap(batch)
        raise InputError("the training data gives no batch: expected at least one image to learn from")

    def _one_pass(self) -> Iterator[Any]:
        # Loaders draw a seed for their workers when they start; a resumed run starts one more, and must not draw differently for it.
        with torch.random.fork_rng(devices=[]):
            batches = iter(self._loader)
            first = list(itertools.islice(batches, 1))
        yield from first
        yield from batches

    def state_dict(self) -> dict[str, Any]:
        return self._loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._loader.load_state_dict(state_dict)
