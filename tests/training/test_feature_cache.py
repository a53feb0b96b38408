"""The feature cache returns its regions in 16 bits, shuffled; its loader can resume."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from halfmask.errors import InputError
from halfmask.masks.crops import MaskCrops
from halfmask.structures import Target
from halfmask.training.loop.batches import ImageBatch
from halfmask.training.loop.feature_cache import FeatureCache, RegionLoader, build_cache

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Regions:
    features: Tensor
    labels: Tensor
    targets: Tensor


class Pooler:
    """Two regions for each even image id, none for odd ones; the id is in the features."""

    def __init__(self, value: float = 0.0) -> None:
        self.calls, self.value = 0, value

    def mask_regions(self, images: list[Tensor], targets: list[Target]) -> Regions:
        self.calls += 1
        assert not torch.is_grad_enabled()
        ids = [t.image_id for t in targets if t.image_id % 2 == 0 for _ in range(2)]
        features = (
            torch.tensor(ids, dtype=torch.float32).reshape(-1, 1, 1, 1).expand(-1, 3, 2, 2)
            + self.value
        )
        return Regions(
            features, torch.tensor(ids, dtype=torch.int64), torch.full((len(ids), 4, 4), 0.3)
        )


@pytest.fixture
def batches() -> list[ImageBatch]:
    def target(i: int) -> Target:
        nothing = torch.zeros(0, dtype=torch.int64)
        return Target(
            boxes=torch.zeros(0, 4),
            labels=nothing,
            has_mask=nothing.bool(),
            masks=MaskCrops.empty((4, 4)),
            image_id=i,
        )

    return [
        ImageBatch([torch.zeros(3, 4, 4)] * 3, [target(k + j) for j in range(3)], "masks")
        for k in range(0, 15, 3)
    ]


def no_bar(images: int) -> None: ...


def test_the_cache_returns_the_regions(batches: list[ImageBatch], tmp_path: Path) -> None:
    seen: list[int] = []
    cache = build_cache(Pooler(), batches, tmp_path / "f", device=CPU, on_batch=seen.append)
    assert len(cache) == 16  # images 0, 2, … 14
    assert seen == [3, 3, 3, 3, 3]
    batch = cache.batch(np.array([0, 15, 2]))
    assert isinstance(batch.regions, Regions)
    assert len(batch) == 3
    assert batch.regions.labels.tolist() == [0, 14, 2]
    assert batch.regions.features.dtype == torch.float16
    assert batch.regions.features[:, 0, 0, 0].tolist() == [0, 14, 2]
    assert batch.image_ids() == [0, 1, 2, 12, 13, 14]
    ready = batch.to(CPU)
    assert ready.regions.features.dtype == ready.regions.targets.dtype == torch.float32
    assert ready.regions.labels.dtype == torch.int64
    assert torch.allclose(ready.regions.targets, torch.tensor(0.3), atol=1e-3)


def test_complete_files_are_used_again_and_others_are_not(
    batches: list[ImageBatch], tmp_path: Path
) -> None:
    folder = tmp_path / "f"
    build_cache(Pooler(), batches, folder, device=CPU, on_batch=no_bar)
    again = Pooler()
    assert len(build_cache(again, batches, folder, device=CPU, on_batch=no_bar)) == 16
    assert again.calls == 1  # for the type of its regions
    (folder / "index.json").unlink()  # as if it had been cut short
    (folder / "labels.bin").write_bytes(b"rest")
    assert build_cache(Pooler(), batches, folder, device=CPU, on_batch=no_bar).batch(
        np.array([15])
    ).regions.labels.tolist() == [14]


@dataclass(frozen=True)
class MoreRegions(Regions):
    unknown: Tensor


def test_a_cache_without_a_field_is_computed_again(
    batches: list[ImageBatch], tmp_path: Path
) -> None:
    """An older version's cache, used after an interruption: regions without what the loss
    now asks for.
    """

    class Newer(Pooler):
        def mask_regions(self, images: list[Tensor], targets: list[Target]) -> Regions:
            found = super().mask_regions(images, targets)
            unknown = (found.labels % 4 == 0)[:, None, None].expand(-1, 4, 4)
            return MoreRegions(found.features, found.labels, found.targets, unknown)

    folder = tmp_path / "f"
    build_cache(Pooler(), batches, folder, device=CPU, on_batch=no_bar)
    newer = Newer()
    regions = (
        build_cache(newer, batches, folder, device=CPU, on_batch=no_bar).batch(np.arange(4)).regions
    )
    assert newer.calls == len(batches)
    assert regions.unknown.dtype == torch.bool
    assert regions.labels.tolist() == [0, 0, 2, 2]
    assert regions.unknown[:, 0, 0].tolist() == [True, True, False, False]
    build_cache(newer, batches, folder, device=CPU, on_batch=no_bar)
    assert newer.calls == len(batches) + 1


def test_an_interrupted_pass_leaves_no_index(batches: list[ImageBatch], tmp_path: Path) -> None:
    def stop(images: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_cache(Pooler(), batches, tmp_path / "f", device=CPU, on_batch=stop)
    assert not (tmp_path / "f" / "index.json").exists()


def test_no_region_is_an_error(batches: list[ImageBatch], tmp_path: Path) -> None:
    odd = [
        ImageBatch(b.images[:1], [t for t in b.targets if t.image_id % 2][:1], "masks")
        for b in batches
    ]
    with pytest.raises(InputError, match="no region of the training images has a mask"):
        build_cache(Pooler(), odd, tmp_path / "f", device=CPU, on_batch=no_bar)
    with pytest.raises(InputError, match="gives no image"):
        build_cache(Pooler(), [], tmp_path / "g", device=CPU, on_batch=no_bar)


@pytest.mark.parametrize("value", [float("nan"), 1e6])
def test_features_beyond_16_bits_are_an_error(
    batches: list[ImageBatch], tmp_path: Path, value: float
) -> None:
    with pytest.raises(
        InputError, match="features of the images with ids 0, 1, 2 are not finite or beyond 16 bits"
    ):
        build_cache(Pooler(value), batches, tmp_path / "f", device=CPU, on_batch=no_bar)


@pytest.fixture
def cache(batches: list[ImageBatch], tmp_path: Path) -> FeatureCache:
    class Numbered(Pooler):
        def mask_regions(self, images: list[Tensor], targets: list[Target]) -> Regions:
            found = super().mask_regions(images, targets)
            return Regions(
                found.features,
                found.labels * 2 + torch.arange(len(found.labels)) % 2,
                found.targets,
            )

    return build_cache(Numbered(), batches, tmp_path / "f", device=CPU, on_batch=no_bar)


def labels(batches: Iterator[Any], count: int) -> list[list[int]]:
    return [batch.regions.labels.tolist() for batch in itertools.islice(batches, count)]


def flat(rows: list[list[int]]) -> list[int]:
    return list(itertools.chain.from_iterable(rows))


def test_each_pass_sees_a_region_at_most_once_in_another_order(cache: FeatureCache) -> None:
    passes = labels(iter(RegionLoader(cache, 5, seed=1)), 9)
    for k in range(0, 9, 3):
        assert max(Counter(flat(passes[k : k + 3])).values()) == 1
    assert passes[0:3] != passes[3:6]
    assert labels(iter(RegionLoader(cache, 5, seed=1)), 9) == passes
    assert labels(iter(RegionLoader(cache, 5, seed=2)), 9) != passes
    assert len(set(flat(labels(iter(RegionLoader(cache, 5, seed=1)), 60)))) == 16, (
        "nobody sits out for ever"
    )


def test_a_batch_is_never_larger_than_the_cache(cache: FeatureCache) -> None:
    first, second = labels(iter(RegionLoader(cache, 100, seed=1)), 2)
    assert len(first) == len(set(first)) == 16
    assert sorted(first) == sorted(second)


@pytest.mark.parametrize("taken", [0, 1, 3, 4, 7])
def test_the_loader_resumes(cache: FeatureCache, taken: int, tmp_path: Path) -> None:
    make: Callable[[], RegionLoader] = lambda: RegionLoader(cache, 5, seed=1)  # noqa: E731
    whole = labels(iter(make()), 10)
    first, second = make(), make()
    assert labels(iter(first), taken) == whole[:taken]
    second.load_state_dict(first.state_dict())
    assert labels(iter(second), 10 - taken) == whole[taken:]


def test_processes_share_each_batch_of_regions(batches: list[ImageBatch], tmp_path: Path) -> None:
    cache = build_cache(Pooler(), batches, tmp_path / "f", device=CPU, on_batch=no_bar)
    alone = iter(RegionLoader(cache, 5, 3))
    parts = [iter(RegionLoader(cache, 5, 3, rank=rank, world=2)) for rank in range(2)]
    for _ in range(7):
        labels = [next(part).regions.labels for part in parts]
        assert [len(own) for own in labels] == [3, 2]
        assert torch.equal(torch.cat(labels), next(alone).regions.labels)
