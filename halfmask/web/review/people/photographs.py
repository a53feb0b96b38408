"""One photograph of the reviewed file with its annotations, as an audit reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from halfmask.coco.file import CocoFile
from halfmask.coco.images import Pixels
from halfmask.coco.photographs.orientation import Size
from halfmask.coco.records import Record
from halfmask.errors import InputError
from halfmask.web.review.source import ReviewedFile
from halfmask.web.review.table import ORIGINS

PERSON = ORIGINS.index("person")
MOST_MASKS = 4000
"""A photograph with more annotations is left out: each is compared with all others."""
MOST_PIXELS = 25_000_000
"""Pixels of a photograph that the model sees as a whole, which takes 0.9 GB."""


@dataclass(frozen=True, kw_only=True)
class PhotographRecords:
    """The annotations of one photograph in a file of its own.

    Attributes:
        file: the photograph's row is its id, and classes have their rows as ids.
        row: of the photograph in the reviewed file.
        positions: int64 [n], positions in the review of the annotations of `file`.
    """

    file: CocoFile
    row: int
    positions: NDArray[np.int64]


class OnePhotograph:
    """Gives an audit the pixels that are in memory already."""

    def __init__(self, pixels: Pixels) -> None:
        self._pixels = pixels

    def read(self, image: Record, size: Size) -> Pixels:
        """Returns the photograph; see `ReadsPhotographs`."""
        assert self._pixels.shape[:2] == size, image["id"]
        return self._pixels


def rows_to_look_at(file: ReviewedFile) -> Iterator[tuple[int, NDArray[np.int32]]]:
    """Yields the row of each photograph with masks of people, and its annotations.

    Masks that a reviewer has decided about count no more.
    """
    index, table = file.index, file.table
    count = table.file_count
    is_open = (table.origins[:count] == PERSON) & (table.versions[:count] == 0)
    rows = index.images[index.by_image]
    for row in np.unique(index.images[is_open]).tolist():
        first, last = np.searchsorted(rows, [row, row + 1]).tolist()
        found = index.by_image[first:last]
        yield row, found[index.states[found] > 0]


def photograph_records(
    file: ReviewedFile, row: int, positions: NDArray[np.int32]
) -> PhotographRecords:
    """Reads the annotations of a photograph.

    Args:
        file: the reviewed file.
        row: of the photograph.
        positions: of its annotations that can be reviewed.
    Raises:
        InputError: the file was changed.
    """
    index = file.index
    height, width = file.size_of_image(row)
    classes = index.classes[positions].tolist()
    annotations = [
        file.annotation(position) | {"id": position, "image_id": row, "category_id": number}
        for position, number in zip(positions.tolist(), classes, strict=True)
    ]
    categories = [
        {"id": number, "name": str(index.categories[number].get("name"))}
        for number in sorted(set(classes))
    ]
    image = file.image(row) | {"id": row, "height": height, "width": width}
    document = {"images": [image], "annotations": annotations, "categories": categories}
    name = file.source.path.name
    return PhotographRecords(
        file=CocoFile.from_document(document, name), row=row, positions=positions.astype(np.int64)
    )


def whole_photograph(file: ReviewedFile, row: int) -> Pixels:
    """Reads a photograph as the page does.

    Raises:
        InputError: it cannot be read, or is too large.
        BusyError: too many requests wait for memory.
    """
    height, width = file.size_of_image(row)
    if height * width > MOST_PIXELS:
        raise InputError(f"a photograph of more than {MOST_PIXELS:,} pixels")
    return file.photo(row).pixels((0, 0, width, height), (height, width))
