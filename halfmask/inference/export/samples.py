"""The user's photographs and boxes, on which an 8-bit export is calibrated and compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from halfmask.coco.images import missing_photographs
from halfmask.coco.photographs.reader import reader_of
from halfmask.coco.records import clip_box
from halfmask.errors import InputError
from halfmask.formats.source import DataSource
from halfmask.inference.images import as_tensor, images_in

T = TypeVar("T")

PHOTOGRAPHS, BOXES = 32, 12
"""More photographs hardly change the ranges of values. They are chosen evenly."""


@dataclass(frozen=True)
class Sample:
    """A photograph with boxes.

    Attributes:
        image: float32 [3, H, W] in [0, 1].
        boxes: float32 [n, 4] xyxy, n ≥ 1.
        labels: int64 [n], 0 for unknown.
    """

    image: Tensor
    boxes: Tensor
    labels: Tensor


def samples(folder: Path, data: DataSource | None = None, limit: int = PHOTOGRAPHS) -> list[Sample]:
    """Reads photographs of a folder, `limit` at most.

    Args:
        folder: of photographs like those to come.
        data: a data set with their boxes; None makes up boxes of many sizes, the same
            in each call.
    Raises:
        InputError: no such folder, no photograph in it, one that cannot be read, or no
            box in the data set.
    """
    if not folder.is_dir():
        raise InputError(f"--calibrate {folder}: no such folder of photographs")
    if data is None:
        return _made_up(folder, limit)
    found = _of_data(folder, data, limit)
    if not found:
        raise InputError(
            f"--calibrate {folder}: this folder has no photograph with a box in {data.original}"
        )
    return found


def _made_up(folder: Path, limit: int) -> list[Sample]:
    generator = torch.Generator().manual_seed(0)
    out = []
    for path in _spread(images_in(folder), limit):
        image = as_tensor(path)
        boxes = some_boxes(int(image.shape[1]), int(image.shape[2]), generator)
        out.append(Sample(image, boxes, torch.zeros(len(boxes), dtype=torch.int64)))
    return out


def some_boxes(
    height: int, width: int, generator: torch.Generator, *, count: int = BOXES
) -> Tensor:
    """Returns boxes float32 [count, 4] xyxy within an image.

    Their sides are from a twentieth of the image to all of it, evenly in the logarithm.
    """
    share = torch.exp(torch.rand((count, 2), generator=generator) * math.log(0.05)).clamp_max(1)
    sides = torch.maximum(share * torch.tensor([width, height]), torch.tensor(2.0)).minimum(
        torch.tensor([width, height])
    )
    low = torch.rand((count, 2), generator=generator) * (torch.tensor([width, height]) - sides)
    return torch.cat([low, low + sides], 1)


def _of_data(folder: Path, data: DataSource, limit: int) -> list[Sample]:
    file = data.read()
    given = []
    absent = {image["id"] for image in missing_photographs(folder, file.images)}
    for image in file.images:
        if image["id"] in absent:
            continue
        size = file.size_of(image["id"])
        clipped = [
            clip_box(a["bbox"], size)
            for a in file.annotations_of(image["id"])
            if not a.get("iscrowd")
        ]
        usable = [box for box in clipped if box is not None][:BOXES]
        if usable:
            given.append((image, size, torch.tensor(usable, dtype=torch.float32)))
    reader = reader_of(file, folder)
    return [
        Sample(as_tensor(reader.read(image, size)), rows, torch.zeros(len(rows), dtype=torch.int64))
        for image, size, rows in _spread(given, limit)
    ]


def _spread(items: Sequence[T], limit: int) -> list[T]:
    """At most `limit` of them, evenly."""
    if len(items) <= limit:
        return list(items)
    return [items[k * len(items) // limit] for k in range(limit)]
