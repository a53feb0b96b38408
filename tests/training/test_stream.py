"""Streams: as many batches as asked for, from any loader."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from halfmask.errors import InputError
from halfmask.training.loop.batches import Stream


class Short:
    """A loader of three batches that draws from the global generator, as torch's does;
    at its end it stays until it is begun again.
    """

    def __init__(self) -> None:
        self.at = 0

    def __iter__(self) -> Iterator[int]:
        torch.rand(1)
        while self.at < 3:
            self.at += 1
            yield self.at
        self.at = 0

    def state_dict(self) -> dict[str, Any]:
        return {"at": self.at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.at = state_dict["at"]


def test_the_stream_starts_again_at_the_end() -> None:
    stream = Stream(Short(), 8)
    assert len(stream) == 8
    assert list(itertools.islice(stream, 8)) == [1, 2, 3, 1, 2, 3, 1, 2]


def test_batches_are_wrapped() -> None:
    assert list(itertools.islice(Stream(Short(), 4, str), 4)) == ["1", "2", "3", "1"]


@pytest.mark.parametrize("taken", range(8))
def test_the_stream_resumes(taken: int) -> None:
    whole = list(itertools.islice(Stream(Short(), 9), 9))
    first = Stream(Short(), 9)
    begun = iter(first)
    assert list(itertools.islice(begun, taken)) == whole[:taken]
    second = Stream(Short(), 9)
    second.load_state_dict(first.state_dict())
    assert list(itertools.islice(second, 9 - taken)) == whole[taken:]


def test_loading_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    list(itertools.islice(Stream(Short(), 8), 8))
    assert torch.equal(torch.rand(2), expected)


def test_a_loader_without_a_batch_is_an_error() -> None:
    class Empty(Short):
        def __iter__(self) -> Iterator[int]:
            return iter(())

    with pytest.raises(InputError, match="gives no batch"):
        next(iter(Stream(Empty(), 3)))
