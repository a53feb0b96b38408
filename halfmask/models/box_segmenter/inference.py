"""Masks of boxes in inference: chunks of crops, and the mean of several readings.

Shape letters: r boxes of a chunk, S side of a crop, M side of a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from halfmask.models.box_segmenter.crops import (
    Boxes,
    CropReader,
    ImagePyramid,
    crop_regions,
    inside_box,
    resample,
)
from halfmask.models.box_segmenter.quality import agreement_of

CPU_CROPS = 24
"""Crops in one call of the network on a CPU.

Below 16, PyTorch runs 1×1 convolutions of one thread slowly; above, the maps leave the
cache.
"""

Readings = Callable[[Tensor, Tensor], list[Tensor]]
"""Crops [R, C, S, S], labels [R] → several maps of probabilities, float32 [R, M, M]."""


@dataclass(frozen=True)
class ChunkPiece:
    """The boxes `rows` of image `image`: the part of a chunk that one image has."""

    image: int
    rows: slice


def chunks(sizes: list[int], most: int) -> Iterator[list[ChunkPiece]]:
    """Cuts `sizes[i]` boxes of each image i into groups of at most `most`, in order."""
    group: list[ChunkPiece] = []
    room = most
    for image, size in enumerate(sizes):
        start = 0
        while start < size:
            stop = min(size, start + room)
            group.append(ChunkPiece(image, slice(start, stop)))
            room -= stop - start
            start = stop
            if room == 0:
                yield group
                group, room = [], most
    if group:
        yield group


def zoomed_masks(
    reader: CropReader,
    readings: Readings,
    images: list[ImagePyramid],
    *,
    boxes: list[Boxes],
    labels: Tensor,
) -> tuple[Tensor, Tensor]:
    """Averages the masks of all contexts, over the regions of the closest context.

    Args:
        readings: the network.
        images: one for each entry of `boxes`.
        boxes: all of each image, and which of them are read, r in all.
        labels: int64 [r].
    Returns:
        float32 [r, M, M], and the agreement of all readings, float32 [r, 3].
    """
    read = [some.every[some.own] for some in boxes]
    every, count = torch.cat(read), len(labels)
    closest = crop_regions(every, reader.contexts[0])
    crops = [
        reader.read(image, some, crop_regions(some, context), among=among)
        for context in reader.contexts
        for image, some, among in zip(images, read, boxes, strict=True)
    ]
    maps = _in_parts(readings, torch.cat(crops), labels.repeat(len(reader.contexts)))
    views: list[Tensor] = []
    total = torch.zeros_like(maps[0][:count])
    for k, context in enumerate(reader.contexts):
        found = [view[k * count : (k + 1) * count] for view in maps]
        if k:
            found = [resample(view, crop_regions(every, context), closest) for view in found]
        total += mean_of(found)
        views += found
    mean = total / len(reader.contexts)
    inside = inside_box(reader.limits(every), closest, mean.shape[-1]) > 0.5
    return mean, agreement_of(views, mean, inside)


def mean_of(maps: list[Tensor]) -> Tensor:
    """Returns the mean of maps of one shape."""
    return maps[0] if len(maps) == 1 else torch.stack(maps).sum(0) / len(maps)


def _in_parts(readings: Readings, crops: Tensor, labels: Tensor) -> list[Tensor]:
    """Reads all crops, on a CPU in equal parts of at most CPU_CROPS."""
    parts = 1 if crops.is_cuda else -(-len(crops) // CPU_CROPS)
    rows = zip(torch.tensor_split(crops, parts), torch.tensor_split(labels, parts), strict=True)
    return [torch.cat(maps) for maps in zip(*(readings(*row) for row in rows), strict=True)]
