"""Batches for training: a stream that the seed alone decides, and that goes on exactly
where it was left.
"""

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
from halfmask.errors import InputError
from halfmask.masks.crops import MaskCrops
from halfmask.structures import Target

Batch = tuple[list[Tensor], list[Target]]
Draw = tuple[int, int]  # epoch, index of the image in the data set


class ResumableLoader(DataLoader[Batch]):
    """Batches of (images, targets), two lists.

    Its state is one number, the batches delivered so far, so that it resumes in the
    middle of an epoch, with any number of workers. (A loop that runs ahead of training,
    as Lightning's does by a batch, resumes with the number of batches trained on.)
    `iter` goes on from that state; once a stream has ended, it starts anew. A
    photograph that cannot be used is an InputError here as it is in the data set,
    whichever process met it.
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
    """Which images make up each batch.

    Shuffled, it never ends: one permutation of the images after another, cut into
    batches without regard to where an epoch ends. Otherwise the images once, in order,
    the last batch perhaps smaller.

    Args:
        images: how many there are.
        batch_size: for each process.
        seed: decides the permutations.
        shuffle: see above.
        rank, world: this process and how many there are; they share every global batch
            of batch_size × world images.
    """

    def __init__(
        self, images: int, batch_size: int, seed: int, shuffle: bool, rank: int = 0, world: int = 1
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
        """Batches of one pass over the images."""
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
    """An InputError on its way out of a worker. Raised there, it would arrive with the
    worker's traceback in its message.
    """

    message: str


class _Augmented(Dataset[Any]):
    """The examples of a data set, changed at random: by seed, epoch and image, so that
    it does not matter who does it, and when.
    """

    def __init__(self, examples: Examples, augment: Augment | None, seed: int, draws: bool) -> None:
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
            # The change may read other photographs (copy-paste), which can be as broken
            # as this one.
            image, target = self.augment(
                image, target, torch.Generator().manual_seed(int(word) >> 1)
            )
        return image, replace(target, draws=int(other) >> 2) if self.draws else target


def build_loader(
    dataset: Examples,
    batch_size: int,
    workers: int = 0,
    seed: int = 0,
    augment: Augment | None = None,
    shuffle: bool = True,
    rank: int = 0,
    world: int = 1,
    draws: bool = False,
) -> ResumableLoader:
    """A loader of a data set's batches.

    Args:
        dataset: gives image and Target by index, and is not empty.
        batch_size: images in a batch, for each process.
        workers: processes that read ahead; the batches are the same whatever their
            number.
        seed: decides order and random changes.
        augment: the random changes; None: none.
        shuffle: an endless shuffled stream; otherwise one pass in order.
        rank, world: this process among those that train together.
        draws: whether each image brings a seed for the training step's own draws
            (`Target.draws`).
    """
    stream = BatchStream(len(dataset), batch_size, seed, shuffle, rank, world)
    return ResumableLoader(
        stream,
        dataset=_Augmented(dataset, augment, seed, draws),
        num_workers=workers,
        collate_fn=_collate,
        persistent_workers=False,
    )


def _collate(examples: list[Any]) -> Any:
    faults = [example for example in examples if isinstance(example, _Fault)]
    if faults:
        return faults[0]
    images, targets = [image for image, _ in examples], [target for _, target in examples]
    return (images, targets) if get_worker_info() is None else _Parcel(images, targets)


class _Parcel:
    """A batch on its way out of a worker; what arrives is a plain Batch.

    A tensor that travels by itself takes a file descriptor, and a batch of targets has
    a hundred. So the images travel as one tensor in shared memory, and what is known of
    them as arrays, by value.
    """

    def __init__(self, images: list[Tensor], targets: list[Target]) -> None:
        self.images = images
        self.targets = targets

    def __reduce__(self) -> tuple[Any, ...]:
        flat = torch.cat([image.reshape(-1) for image in self.images])
        return _unpack, (
            flat,
            [tuple(image.shape) for image in self.images],
            [_arrays(target) for target in self.targets],
        )


def _arrays(target: Target) -> tuple[Any, ...]:
    rows = (target.boxes, target.labels, target.has_mask, target.annotation_ids)
    masks = (target.masks.pixels, target.masks.sizes, target.masks.offsets)
    optional = [None if t is None else t.numpy() for t in (target.mask_weight, target.loose_box)]
    names = (target.masks.image_size, target.image_id, target.draws)
    return [r.numpy() for r in rows], [m.numpy() for m in masks], names, optional


def _unpack(flat: Tensor, shapes: list[tuple[int, ...]], packed: list[tuple[Any, ...]]) -> Batch:
    parts = torch.split(flat, [int(np.prod(shape)) for shape in shapes])
    images = [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
    targets = []
    for rows, masks, (image_size, image_id, draws), optional in packed:
        boxes, labels, has_mask, annotation_ids = (torch.from_numpy(r) for r in rows)
        pixels, sizes, offsets = (torch.from_numpy(m) for m in masks)
        crops = MaskCrops(pixels, sizes, offsets, image_size)
        weight, loose = (
            None if values is None else torch.from_numpy(values) for values in optional
        )
        targets.append(
            Target(boxes, labels, has_mask, crops, image_id, annotation_ids, weight, loose, draws)
        )
    return images, targets
