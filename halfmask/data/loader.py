"""Training batches: a stream that depends on the seed alone, and resumes exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from halfmask.data.augment.augment import Augment
from halfmask.data.dataset import Examples
from halfmask.distributed import ProcessPlace
from halfmask.errors import InputError
from halfmask.masks.crops import MaskCrops
from halfmask.structures import Target

Batch = tuple[list[Tensor], list[Target]]
Draw = tuple[int, int]  # epoch, index of the image in the data set


def build_loader(
    dataset: Examples,
    batch_size: int,
    workers: int = 0,
    *,
    seed: int = 0,
    augment: Augment | None = None,
    shuffle: bool = True,
    place: ProcessPlace | None = None,
    draws: bool = False,
) -> ResumableLoader:
    """Returns a loader of a data set's batches.

    Args:
        dataset: returns image and Target by index; not empty.
        batch_size: images in a batch, for each process.
        workers: processes that read ahead; their number does not change the batches.
        seed: decides order and random changes.
        augment: the random changes; None: none.
        shuffle: an endless shuffled stream; otherwise one pass in order.
        place: this process among those that train together; None: it is alone.
        draws: whether each image carries a seed for the training step's own draws
            (`Target.draws`).
    """
    rank, world = (0, 1) if place is None else (place.rank, place.world)
    stream = BatchStream(len(dataset), batch_size, seed, shuffle=shuffle, rank=rank, world=world)
    return ResumableLoader(
        stream,
        dataset=_Augmented(dataset, augment, seed, draws=draws),
        num_workers=workers,
        collate_fn=_collate,
        persistent_workers=False,
    )


class ResumableLoader(DataLoader[Batch]):
    """Batches of (images, targets), two lists.

    Its state is the number of batches delivered so far, so it resumes within an epoch,
    with any number of workers. A loop that reads a batch ahead (Lightning's) resumes
    with the number of batches it trained on. `iter` goes on from that state; after the
    end of a stream it starts from 0. An unreadable photograph raises InputError here,
    from whichever process reads it.
    """

    def __init__(self, stream: BatchStream, **options: Any) -> None:
        super().__init__(batch_sampler=stream, **options)
        self._stream = stream
        self._delivered = 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        self._stream.start = self._delivered
        for batch in super().__iter__():
            if isinstance(batch, _Fault):
                raise InputError(batch.message)
            self._delivered += 1
            yield batch
        self._delivered = 0

    def state_dict(self) -> dict[str, Any]:
        return {"batches": self._delivered}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes effect at the next `iter`."""
        self._delivered = int(state_dict["batches"])


class BatchStream(Sampler[list[Draw]]):
    """The images of each batch.

    Shuffled, the stream never ends: one permutation of the images after another, cut
    into batches without regard to epochs. Otherwise it is one pass in order, whose last
    batch may be smaller.

    Args:
        images: how many there are.
        batch_size: for each process.
        seed: decides the permutations.
        shuffle: see above.
        rank, world: number of this process, and of all that share each global batch of
            batch_size × world images.
    """

    def __init__(
        self,
        images: int,
        batch_size: int,
        seed: int,
        *,
        shuffle: bool,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        assert images > 0, "no image to draw from"
        assert batch_size > 0, batch_size
        assert 0 <= rank < world, (rank, world)
        self.images = images
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world = world
        self.start = 0

    def __len__(self) -> int:
        """Returns the batches of one pass over the images."""
        return -(-self.images // (self.batch_size * self.world))

    def __iter__(self) -> Iterator[list[Draw]]:
        step, epoch, order = self.start, -1, np.zeros(0, dtype=np.int64)
        while self.shuffle or step < len(self):
            batch = []
            first = (step * self.world + self.rank) * self.batch_size
            for position in range(first, first + self.batch_size):
                if position >= self.images and not self.shuffle:
                    break
                if position // self.images != epoch:
                    epoch = position // self.images
                    order = self._order(epoch)
                batch.append((epoch, int(order[position % self.images])))
            if batch:
                yield batch
            step += 1

    def _order(self, epoch: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        if not self.shuffle:
            return np.arange(self.images)
        return np.random.default_rng([self.seed, epoch]).permutation(self.images)


@dataclass(frozen=True)
class _Fault:
    """An InputError on its way out of a worker.

    Raised there, it would carry the worker's traceback in its message.
    """

    message: str


class _Augmented(Dataset[Any]):
    """Examples with random changes that depend on seed, epoch and image alone."""

    def __init__(
        self, examples: Examples, augment: Augment | None, seed: int, *, draws: bool
    ) -> None:
        self.examples = examples
        self.augment = augment
        self.seed = seed
        self.draws = draws

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Target] | _Fault:
        epoch, index = draw
        try:
            return self._changed(epoch, index)
        except InputError as error:
            if get_worker_info() is None:
                raise
            return _Fault(str(error))

    def _changed(self, epoch: int, index: int) -> tuple[Tensor, Target]:
        image, target = self.examples[index]
        word, other = np.random.SeedSequence([self.seed, epoch, index]).generate_state(2, np.uint64)
        if self.augment is not None:
            # May raise too: copy-paste reads other photographs.
            generator = torch.Generator().manual_seed(int(word) >> 1)
            image, target = self.augment(image, target, generator)
        return image, replace(target, draws=int(other) >> 2) if self.draws else target


def _collate(examples: list[Any]) -> Any:
    faults = [example for example in examples if isinstance(example, _Fault)]
    if faults:
        return faults[0]
    images, targets = [image for image, _ in examples], [target for _, target in examples]
    return (images, targets) if get_worker_info() is None else _Parcel(images, targets)


class _Parcel:
    """A batch on its way out of a worker, where it becomes a plain Batch.

    Each tensor that leaves a worker takes a file descriptor, and a batch of targets has
    a hundred tensors. So the images travel as one tensor in shared memory, and the
    targets as arrays, by value.
    """

    def __init__(self, images: list[Tensor], targets: list[Target]) -> None:
        self.images = images
        self.targets = targets

    def __reduce__(self) -> tuple[Any, ...]:
        flat = torch.cat([image.reshape(-1) for image in self.images])
        shapes = [tuple(image.shape) for image in self.images]
        return _unpack, (flat, shapes, [_arrays(target) for target in self.targets])


def _arrays(target: Target) -> dict[str, Any]:
    columns = vars(target) | {"masks": None}
    fields = {k: v.numpy() if isinstance(v, Tensor) else v for k, v in columns.items()}
    masks = target.masks
    crops = [part.numpy() for part in (masks.pixels, masks.sizes, masks.offsets)]
    return fields | {"masks": (*crops, masks.image_size)}


def _unpack(flat: Tensor, shapes: list[tuple[int, ...]], packed: list[dict[str, Any]]) -> Batch:
    parts = torch.split(flat, [int(np.prod(shape)) for shape in shapes])
    images = [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
    targets = []
    for fields in packed:
        *crops, image_size = fields["masks"]
        pixels, sizes, offsets = (torch.from_numpy(part) for part in crops)
        columns: dict[str, Any] = {
            k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in fields.items()
        }
        columns["masks"] = MaskCrops(pixels, sizes, offsets, image_size)
        targets.append(Target(**columns))
    return images, targets
