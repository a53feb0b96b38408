"""Pooled regions of the whole training set, computed once.

A mask head on a frozen detector then trains in seconds. Each field of the regions is a
memory-mapped file, so a data set may be larger than the memory.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from halfmask.errors import InputError
from halfmask.files.atomic import write_json
from halfmask.training.loop.batches import ImageBatch, RegionBatch

INDEX = "index.json"
SOURCE = "source"


class FeatureCache:
    """Regions in a folder.

    Args:
        template: a batch of the model's regions, whose type the cache returns.
    """

    def __init__(self, folder: Path, template: Any) -> None:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        self._count = int(index["count"])
        if self._count == 0:
            raise InputError(
                "no region of the training images has a mask to learn from: expected "
                "annotations with masks"
            )
        self._image_ids: list[list[int]] = index["image_ids"]
        self._template = template
        self._fields = {
            name: np.memmap(
                folder / f"{name}.bin", dtype=np.dtype(dtype), mode="r", shape=(self._count, *shape)
            )
            for name, (dtype, shape) in index["fields"].items()
        }

    def __len__(self) -> int:
        return self._count

    def batch(self, index: NDArray[np.int64]) -> RegionBatch:
        """Returns the regions at `index` on the CPU; floating-point fields have 16 bits."""
        rows = {
            name: torch.from_numpy(np.array(values[index])) for name, values in self._fields.items()
        }
        sources = sorted(
            {i for group in set(rows.pop(SOURCE).tolist()) for i in self._image_ids[group]}
        )
        return RegionBatch(replace(self._template, **rows), sources)


def build_cache(
    model: Any,
    batches: Iterable[ImageBatch],
    folder: Path,
    *,
    device: torch.device,
    on_batch: Callable[[int], None],
) -> FeatureCache:
    """Runs `model.mask_regions` over the batches, unless the folder is complete.

    Args:
        on_batch: called with the number of images of each finished batch.
    Raises:
        InputError: no region has a mask, or a feature is not finite.
    """
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None:
        raise InputError("the training data gives no image to pool regions from")
    template = _regions(model, first, device)
    if not _complete(folder, template):
        others = ((batch, _regions(model, batch, device)) for batch in iterator)
        _write(folder, itertools.chain([(first, template)], others), on_batch)
    return FeatureCache(folder, template)


class RegionLoader:
    """Endless shuffled batches of a cache.

    Args:
        batch_size: of all processes together; process `rank` of `world` gets its part.
    """

    def __init__(
        self, cache: FeatureCache, batch_size: int, seed: int, *, rank: int = 0, world: int = 1
    ) -> None:
        self._cache = cache
        self._rank, self._world = rank, world
        self._batch_size = min(batch_size, len(cache))
        self._seed = seed
        self._drawn = 0

    def __iter__(self) -> Iterator[RegionBatch]:
        # Batches per pass; the regions left over differ from pass to pass.
        each = len(self._cache) // self._batch_size
        while True:
            generator = np.random.default_rng((self._seed, self._drawn // each))
            order = generator.permutation(len(self._cache))
            for k in range(self._drawn % each, each):
                self._drawn += 1
                batch = order[k * self._batch_size : (k + 1) * self._batch_size]
                yield self._cache.batch(np.array_split(batch, self._world)[self._rank])

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self._drawn}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._drawn = int(state_dict["drawn"])


def _complete(folder: Path, template: Any) -> bool:
    """Returns whether the folder has all fields; an older version's cache may lack some."""
    path = folder / INDEX
    if not path.is_file():
        return False
    wanted = {f.name: list(getattr(template, f.name).shape[1:]) for f in fields(template)}
    kept = {
        name: shape
        for name, (_, shape) in json.loads(path.read_text(encoding="utf-8"))["fields"].items()
    }
    return {**wanted, SOURCE: []} == kept


def _regions(model: Any, batch: ImageBatch, device: torch.device) -> Any:
    moved = batch.to(device)
    with torch.no_grad():
        return model.mask_regions(moved.images, moved.targets)


def _write(
    folder: Path, regions: Iterable[tuple[ImageBatch, Any]], on_batch: Callable[[int], None]
) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    count = 0
    image_ids: list[list[int]] = []
    kinds: dict[str, tuple[str, list[int]]] = {}
    with ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        for batch, found in regions:
            rows = {f.name: _stored(getattr(found, f.name), f.name, batch) for f in fields(found)}
            n = len(next(iter(rows.values())))
            rows[SOURCE] = np.full(n, len(image_ids), dtype=np.int64)
            for name, values in rows.items():
                if name not in files:
                    files[name] = stack.enter_context((folder / f"{name}.bin").open("wb"))
                    kinds[name] = (values.dtype.str, list(values.shape[1:]))
                files[name].write(values.tobytes())
            count += n
            image_ids.append(batch.image_ids())
            on_batch(len(batch))
    # The index comes last: a folder with an index is complete.
    write_json(folder / INDEX, {"count": count, "image_ids": image_ids, "fields": kinds})


def _stored(tensor: Tensor, name: str, batch: ImageBatch) -> NDArray[Any]:
    if tensor.is_floating_point():
        tensor = tensor.half()
        if not bool(torch.isfinite(tensor).all()):
            ids = ", ".join(map(str, batch.image_ids()))
            raise InputError(
                f"the detector's {name} of the images with ids {ids} are not finite or beyond "
                "16 bits; train it again"
            )
    return tensor.cpu().contiguous().numpy()
