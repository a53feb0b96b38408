"""The stream of batches: decided by the seed, whoever reads it and wherever it was left."""

import itertools
from collections import Counter

import pytest
import torch

from halfmask.data.augment.augment import Augment
from halfmask.data.loader import Batch, BatchStream, build_loader
from halfmask.distributed import ProcessPlace
from halfmask.errors import InputError
from halfmask.masks.crops import MaskCrops
from halfmask.structures import Target


class Numbers:
    """Images of different sizes whose objects carry the image's number."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Target]:
        h, w, n = 6 + index % 3, 8 + index % 5, index % 4
        image = torch.rand(3, h, w, generator=torch.Generator().manual_seed(index))
        boxes = torch.tensor([[1.0, 1.0, 3.0 + k, 4.0] for k in range(n)]).reshape(-1, 4)
        has_mask = torch.arange(n) % 2 == 0
        dense = image[:1].expand(int(has_mask.sum()), h, w) > 0.5
        labels = torch.full((n,), index + 1)
        loose = torch.arange(n) % 3 == 1
        return image, Target(
            boxes=boxes,
            labels=labels,
            has_mask=has_mask,
            masks=MaskCrops.from_dense(dense),
            image_id=index,
            annotation_ids=torch.arange(n),
            loose_box=loose,
        )


def same(first: Batch, second: Batch) -> bool:
    images = all(torch.equal(a, b) for a, b in zip(first[0], second[0], strict=True))
    keys = ("boxes", "labels", "has_mask", "annotation_ids", "loose_box")
    return images and all(
        all(
            torch.equal(getattr(a, k), getattr(b, k)) and getattr(a, k).dtype == getattr(b, k).dtype
            for k in keys
        )
        and torch.equal(a.masks.dense(), b.masks.dense())
        and (a.image_id, a.masks.image_size, a.draws) == (b.image_id, b.masks.image_size, b.draws)
        for a, b in zip(first[1], second[1], strict=True)
    )


def take(count: int, workers: int = 0, start: int = 0, **options: object) -> list[Batch]:
    arguments = {"batch_size": 4, "seed": 3, "augment": Augment(0.5, 0.3), **options}
    loader = build_loader(Numbers(10), workers=workers, **arguments)  # type: ignore[arg-type]
    loader.load_state_dict({"batches": start})
    return list(itertools.islice(loader, count))


def ids(batches: list[Batch]) -> list[int]:
    return [target.image_id for batch in batches for target in batch[1]]


def test_every_epoch_visits_every_image_once() -> None:
    seen = ids(take(15))
    epochs = [seen[i : i + 10] for i in range(0, 60, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6


def test_batches_are_two_lists() -> None:
    images, targets = take(1)[0]
    assert isinstance(images, list)
    assert isinstance(targets, list)
    assert len(images) == len(targets) == 4
    assert all(
        image.shape[1:] == target.masks.image_size
        for image, target in zip(images, targets, strict=True)
    )


def test_the_seed_decides() -> None:
    assert all(map(same, take(6), take(6)))
    assert ids(take(6)) != ids(take(6, seed=4))


def test_changes_differ_from_epoch_to_epoch() -> None:
    by_image: dict[int, list[torch.Tensor]] = {}
    for images, targets in take(10):
        for image, target in zip(images, targets, strict=True):
            by_image.setdefault(target.image_id, []).append(image)
    assert all(
        not torch.equal(a, b)
        for first in by_image.values()
        for a, b in itertools.combinations(first, 2)
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers: int) -> None:
    assert all(map(same, take(7, workers, draws=True), take(7, draws=True)))


@pytest.mark.parametrize(("first", "then"), [(0, 0), (2, 2), (2, 0), (0, 1)])
def test_resumes_in_the_middle_of_an_epoch_with_any_number_of_workers(
    first: int, then: int
) -> None:
    whole = take(9)
    loader = build_loader(Numbers(10), 4, first, seed=3, augment=Augment(0.5, 0.3))
    stream = iter(loader)
    for _ in range(4):
        next(stream)
    state = loader.state_dict()
    assert state == {"batches": 4}
    del stream
    resumed = build_loader(Numbers(10), 4, then, seed=3, augment=Augment(0.5, 0.3))
    resumed.load_state_dict(state)
    assert all(map(same, itertools.islice(resumed, 5), whole[4:]))
    assert resumed.state_dict() == {"batches": 9}


def test_iter_goes_on_where_it_was_left() -> None:
    loader = build_loader(Numbers(10), 4, 0, seed=3, augment=Augment(0.5, 0.3))
    parts = [*itertools.islice(loader, 3), *itertools.islice(loader, 3)]
    assert all(map(same, parts, take(6)))


def test_in_order_once_with_a_smaller_last_batch() -> None:
    loader = build_loader(Numbers(10), 4, shuffle=False)
    for _ in range(2):
        batches = list(loader)
        assert [len(images) for images, _ in batches] == [4, 4, 2]
        assert ids(batches) == list(range(10))
    assert len(loader) == 3


def test_a_batch_larger_than_the_data_set() -> None:
    loader = build_loader(Numbers(3), 7, seed=1)
    seen = ids(list(itertools.islice(loader, 3)))
    assert len(seen) == 21
    assert set(Counter(seen).values()) == {7}


@pytest.mark.parametrize("shuffle", [True, False])
def test_processes_share_each_global_batch(shuffle: bool) -> None:
    alone = BatchStream(10, 4, 3, shuffle=shuffle)
    parts = [iter(BatchStream(10, 2, 3, shuffle=shuffle, rank=rank, world=2)) for rank in range(2)]
    for batch in itertools.islice(alone, 2 if not shuffle else 8):
        assert [draw for part in parts for draw in next(part)] == batch


def test_an_image_brings_the_same_seed_to_whichever_process() -> None:
    alone = take(5, draws=True)
    parts = [
        take(5, batch_size=2, place=ProcessPlace(rank=rank, world=2), draws=True)
        for rank in range(2)
    ]
    for batch, *halves in zip(alone, *parts, strict=True):
        assert [t.draws for t in batch[1]] == [t.draws for half in halves for t in half[1]]
        assert same(batch, tuple(a + b for a, b in zip(*halves, strict=True)))  # type: ignore[arg-type]
    seeds = [target.draws for batch in alone for target in batch[1]]
    assert len(set(seeds)) == len(seeds), "another one in each epoch"
    assert all(target.draws is None for batch in take(2) for target in batch[1])


def test_many_objects_do_not_use_up_file_descriptors() -> None:
    """All that a worker sends of a batch is one shared tensor, so keeping batches costs
    one descriptor each.
    """
    from pathlib import Path

    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else None
    if before is None:
        pytest.skip("needs /proc")
    kept = take(30, workers=1)
    after = len(list(Path("/proc/self/fd").iterdir()))
    assert len(kept) == 30
    assert after - before <= 30 + 20  # and a few for the worker's queues


class Faulty(Numbers):
    def __getitem__(self, index: int) -> tuple[torch.Tensor, Target]:
        if index == 5:
            raise InputError("a.png (image id 5): cannot read it")
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_photograph_is_one_clear_line_whoever_reads_it(workers: int) -> None:
    loader = build_loader(Faulty(10), 2, workers, shuffle=False)
    stream = iter(loader)
    assert ids([next(stream), next(stream)]) == [0, 1, 2, 3]
    with pytest.raises(InputError) as caught:
        next(stream)
    assert str(caught.value) == "a.png (image id 5): cannot read it"
