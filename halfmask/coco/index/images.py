"""Collects the images of a COCO file for its index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from halfmask.coco.index.format import Array
from halfmask.coco.reading.ids import StandardIds
from halfmask.coco.records import file_name_of, repeated_id, size_of_record
from halfmask.coco.scan.lists import Batch
from halfmask.errors import InputError


class IndexImages:
    """The usable images as columns, in file order; `find` returns their rows by id.

    Args:
        path: the COCO file.
        ids: reads their ids.
    """

    def __init__(self, path: Path, ids: StandardIds) -> None:
        self.columns: dict[str, list[Array]] = {
            name: [] for name in ("id", "height", "width", "offset", "length")
        }
        self._names: list[Any] = []
        self._every: list[Array] = []
        self._path = path
        self._ids = ids
        self._closed = False

    def add(self, batch: Batch, name: str) -> int:
        """Adds a batch; returns the number of unusable images in it."""
        import pyarrow as pa

        kept, names = [], []
        items = [
            self._ids.images.own(record, position, name)
            for position, record in enumerate(batch.items, batch.first)
        ]
        spans = [(start, end - start) for start, end in batch.spans]
        every = [(record["id"], *span) for record, span in zip(items, spans, strict=True)]
        self._every.append(np.array(every, dtype=np.int64).reshape(-1, 3))
        for record, span in zip(items, spans, strict=True):
            size = size_of_record(record)
            if size is not None:
                kept.append((record["id"], *size, *span))
                names.append(file_name_of(record))
        for column, values in zip(
            self.columns.values(), np.array(kept, dtype=np.int64).reshape(-1, 5).T, strict=True
        ):
            column.append(values.copy())
        self._names.append(pa.array(names, pa.large_string()))
        return len(batch.items) - len(kept)

    def close(self, name: str) -> None:
        """Ends the list of images; images that repeat an earlier one are left out.

        Raises:
            InputError: two different images have the same id.
        """
        if self._closed:
            return
        self._closed = True
        repeats = self._repeats(name)
        table = {
            key: np.concatenate([*parts, np.zeros(0, np.int64)])
            for key, parts in self.columns.items()
        }
        self._kept = ~np.isin(table["offset"], repeats)
        self.table = {key: column[self._kept] for key, column in table.items()}
        self.columns.clear()
        self._order = np.argsort(self.table["id"], kind="stable")
        self._sorted = self.table["id"][self._order]

    def all_names(self) -> Any:
        """Returns the file names of the images, an Arrow column."""
        import pyarrow as pa

        return pa.chunked_array(self._names, pa.large_string()).filter(pa.array(self._kept))

    def _repeats(self, name: str) -> list[int]:
        """Returns the offsets of images that repeat an earlier one in every value."""
        every = np.concatenate([*self._every, np.zeros((0, 3), dtype=np.int64)])
        self._every.clear()
        order = np.argsort(every[:, 0], kind="stable")
        again = np.flatnonzero(every[order[1:], 0] == every[order[:-1], 0])
        offsets: list[int] = []
        for at in sorted(order[again + 1].tolist()):
            first = int(np.flatnonzero(every[:, 0] == every[at, 0])[0])
            if read_span(self._path, *every[first, 1:]) != read_span(self._path, *every[at, 1:]):
                raise InputError(repeated_id(int(every[at, 0]), at, name, what="image"))
            offsets.append(int(every[at, 1]))
        if offsets:
            self._ids.merged["image"] = len(offsets)
        return offsets

    def find(self, ids: Array) -> Array:
        """Returns the row of each id, −1 if there is none.

        Args:
            ids: int64 [n].
        """
        if not len(self._sorted):
            return np.full(len(ids), -1, dtype=np.int64)
        place = np.minimum(np.searchsorted(self._sorted, ids), len(self._sorted) - 1)
        return np.where(self._sorted[place] == ids, self._order[place], -1)

    def sizes_of(self, rows: Array) -> Array:
        """Returns int64 [n, 2], H and W of each row; 0 for a row of −1."""
        sizes = np.zeros((len(rows), 2), dtype=np.int64)
        found = np.flatnonzero(rows >= 0)
        for k, side in enumerate(("height", "width")):
            sizes[found, k] = self.table[side][rows[found]]
        return sizes

    def __len__(self) -> int:
        return len(self._sorted)


def read_span(path: Path, offset: int, length: int) -> Any:
    """Returns the JSON value that lies at a place of a file."""
    with path.open("rb") as file:
        file.seek(int(offset))
        return json.loads(file.read(int(length)).decode("utf-8"))
