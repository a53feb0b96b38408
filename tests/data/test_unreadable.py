"""Broken photographs in the midst of a training: a few are left out and named, more
stop it; nobody else sees a difference.
"""

import itertools

import pytest
import torch

from halfmask.data.loader import build_loader
from halfmask.data.unreadable import SkipUnreadable
from halfmask.errors import InputError
from halfmask.masks.crops import MaskCrops
from halfmask.structures import Target


class Pictures:
    """Images whose value is their index; some cannot be read."""

    def __init__(self, count: int, broken: set[int]) -> None:
        self.count, self.broken = count, broken

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Target]:
        if index in self.broken:
            raise InputError(
                f"{index}.jpg (image id {index}): expected a photograph, cannot read it; "
                "replace the file"
            )
        none = torch.zeros(0, dtype=torch.int64)
        crops = MaskCrops.from_bitmaps([], [], (4, 4))
        return torch.full((3, 4, 4), index / 100), Target(
            boxes=torch.zeros(0, 4),
            labels=none,
            has_mask=none.bool(),
            masks=crops,
            image_id=index,
            annotation_ids=none,
        )


def ids(examples: SkipUnreadable, workers: int, count: int = 15) -> list[int]:
    loader = build_loader(examples, 4, workers, seed=5)
    return [target.image_id for batch in itertools.islice(loader, count) for target in batch[1]]


def test_the_next_readable_one_stands_in_for_a_broken_one_and_it_is_named_once(
    capfd: pytest.CaptureFixture[str],
) -> None:
    examples = SkipUnreadable(Pictures(20, {3, 4, 19}), 0.2)
    assert [examples[i][1].image_id for i in (2, 3, 4, 3, 19)] == [2, 5, 5, 5, 0]
    assert examples.left_out == [3, 4, 19]
    said = capfd.readouterr().err
    assert [said.count(f"image id {i})") for i in (3, 4, 19)] == [1, 1, 1]


def test_batches_do_not_depend_on_the_workers_and_their_finds_are_shared() -> None:
    runs = {}
    for workers in (0, 2):
        examples = SkipUnreadable(Pictures(20, {3, 4}), 0.1)
        runs[workers] = ids(examples, workers)
        assert examples.left_out == [3, 4], "found in other processes, known in this one"
    assert runs[0] == runs[2]
    assert not {3, 4} & set(runs[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_more_than_the_share_stop_the_training(workers: int) -> None:
    with pytest.raises(
        InputError,
        match=r"(?s)cannot read it.*\(3 of 20 photographs cannot be used, and at most 2 may be",
    ):
        ids(SkipUnreadable(Pictures(20, {3, 4, 7}), 0.1), workers)


def test_with_no_share_the_first_one_stops_it_in_its_own_words() -> None:
    with pytest.raises(
        InputError,
        match=r"^1\.jpg \(image id 1\): expected a photograph, cannot read it; replace the file$",
    ):
        SkipUnreadable(Pictures(50, {1}), 0.01)[1]


def test_nothing_readable_at_all_is_an_error() -> None:
    with pytest.raises(InputError, match="cannot be used, and at most"):
        SkipUnreadable(Pictures(3, {0, 1, 2}), 0.9)[0]
