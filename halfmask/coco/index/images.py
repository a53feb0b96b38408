"""Collects the images of a COCO file for its index."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from halfmask.coco.index.decode import Decoded
from halfmask.coco.index.format import Array
from halfmask.coco.problems import Problem, ProblemKind
from halfmask.coco.reading.ids import StandardIds
from halfmask.coco.records import (
    MOST_PIXELS,
    fault_of_size,
    file_name_of,
    repeated_id,
    size_of_record,
)
from halfmask.coco.scan.batch import ListBatch
from halfmask.errors import InputError


class IndexImages:
    """The usable images as columns, in file order; `find` returns their rows by id.

    Attributes:
        faults: offset of an image that cannot be used → why.

    Args:
        path: the COCO file.
        ids: reads their ids.
    """

    def __init__(self, path: Path, ids: StandardIds) -> None:
        self.columns: dict[str, list[Array]] = {
            name: [] for name in ("id", "height", "width", "offset", "length")
        }
        self.faults: dict[int, Problem] = {}
        self._names: list[Any] = []
        self._every: list[Array] = []
        self._path = path
        self._ids = ids
        self._closed = False

    def add(self, batch: ListBatch, name: str) -> int:
        """Adds a batch; returns the number of unusable images in it."""
        if not isinstance(batch.decoded, Decoded):
            return self._add_each(batch.items, batch.spans, first=batch.first, name=name)
        if self._add_many(batch.decoded, batch.start):
            return 0
        count, (starts, ends) = len(batch.decoded.spans), (batch.decoded.spans + batch.start).T
        items = [batch.decoded.item(k) for k in range(count)]
        spans = list(zip(starts.tolist(), ends.tolist(), strict=True))
        return self._add_each(items, spans, first=batch.first, name=name)

    def _add_many(self, decoded: Decoded, start: int) -> bool:
        """Adds images as in COCO; returns False, and adds none, if one is not."""
        if decoded.others or len(decoded.groups) != 1:
            return False
        [group] = decoded.groups
        ids, height, width, names = (
            group.table.column(key).combine_chunks()
            for key in ("id", "height", "width", "file_name")
        )
        if any(column.null_count for column in (ids, height, width, names)):
            return False
        sides = np.stack([height.to_numpy(), width.to_numpy()])
        in_range = (sides > 0).all() and (sides <= MOST_PIXELS).all()
        if not in_range or (sides.prod(axis=0) > MOST_PIXELS).any():
            return False
        lengths = np.diff(np.frombuffer(names.buffers()[1], dtype=np.int64, count=len(names) + 1))
        numbers = ids.to_numpy()
        if not lengths.all() or not self._ids.images.own_many(numbers.tolist(), names.to_pylist):
            return False
        offsets = decoded.spans[:, 0] + start
        places = offsets, decoded.spans[:, 1] - decoded.spans[:, 0]
        self._every.append(np.stack([numbers, *places], axis=1))
        self._append((numbers, *sides, *places))
        self._names.append(names)
        return True

    def _append(self, columns: Iterable[Array]) -> None:
        for column, values in zip(self.columns.values(), columns, strict=True):
            column.append(values)

    def _add_each(
        self, records: list[Any], places: list[tuple[int, int]], *, first: int, name: str
    ) -> int:
        """Adds images one by one; returns the number of unusable ones."""
        import pyarrow as pa

        kept, names = [], []
        items = [
            self._ids.images.own(record, position, name)
            for position, record in enumerate(records, first)
        ]
        spans = [(start, end - start) for start, end in places]
        every = [(record["id"], *span) for record, span in zip(items, spans, strict=True)]
        self._every.append(np.array(every, dtype=np.int64).reshape(-1, 3))
        for record, span in zip(items, spans, strict=True):
            size = size_of_record(record)
            if size is None:
                text = fault_of_size(record)
                self.faults[span[0]] = Problem(ProblemKind.IMAGE_RECORD, (record["id"],), text)
                continue
            kept.append((record["id"], *size, *span))
            names.append(file_name_of(record))
        self._append(column.copy() for column in np.array(kept, np.int64).reshape(-1, 5).T)
        self._names.append(pa.array(names, pa.large_string()))
        return len(records) - len(kept)

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
        self.faults = {k: fault for k, fault in self.faults.items() if k not in set(repeats)}
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
        last = len(self._sorted) - 1
        low, high = int(self._sorted[0]), int(self._sorted[-1])
        if high - low == last:  # without gaps
            known = (ids >= low) & (ids <= high)
            return np.where(known, self._order[np.where(known, ids - low, 0)], -1)
        place = np.minimum(np.searchsorted(self._sorted, ids), last)
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
