"""Collects the images of a COCO file for its index."""

from __future__ import annotations

from typing import Any

import numpy as np

from halfmask.coco.index.format import Array
from halfmask.coco.records import check_record, file_name_of, repeated_id, size_of_record
from halfmask.coco.scan_lists import Batch
from halfmask.errors import InputError


class IndexImages:
    """The usable images as columns, in file order; `find` returns their rows by id."""

    def __init__(self) -> None:
        self.columns: dict[str, list[Array]] = {
            name: [] for name in ("id", "height", "width", "offset", "length")
        }
        self.names: list[Any] = []
        self._every: list[Array] = []

    def add(self, batch: Batch, name: str) -> int:
        """Adds a batch; returns the number of unusable images in it."""
        import pyarrow as pa

        kept, names = [], []
        for position, record in enumerate(batch.items, batch.first):
            check_record(record, position, name, what="image")
        self._every.append(np.array([record["id"] for record in batch.items], dtype=np.int64))
        for record, (start, end) in zip(batch.items, batch.spans, strict=True):
            size = size_of_record(record)
            if size is not None:
                kept.append((record["id"], *size, start, end - start))
                names.append(file_name_of(record))
        for column, values in zip(
            self.columns.values(), np.array(kept, dtype=np.int64).reshape(-1, 5).T, strict=True
        ):
            column.append(values.copy())
        self.names.append(pa.array(names, pa.large_string()))
        return len(batch.items) - len(kept)

    def close(self, name: str) -> None:
        """Ends the list of images.

        Raises:
            InputError: two images have the same id.
        """
        every = np.concatenate([*self._every, np.zeros(0, dtype=np.int64)])
        order = np.argsort(every, kind="stable")
        repeats = order[1:][every[order[1:]] == every[order[:-1]]]
        if len(repeats):
            position = int(repeats.min())
            raise InputError(repeated_id(int(every[position]), position, name, what="image"))
        self._every.clear()
        self.table = {
            key: np.concatenate([*parts, np.zeros(0, np.int64)])
            for key, parts in self.columns.items()
        }
        self.columns.clear()
        self._order = np.argsort(self.table["id"], kind="stable")
        self._sorted = self.table["id"][self._order]

    def find(self, ids: list[int]) -> list[int]:
        """Returns the row of each id, −1 if there is none."""
        wanted = np.array(ids, dtype=np.int64)
        if not len(self._sorted):
            return [-1] * len(ids)
        place = np.minimum(np.searchsorted(self._sorted, wanted), len(self._sorted) - 1)
        rows: list[int] = np.where(self._sorted[place] == wanted, self._order[place], -1).tolist()
        return rows

    def __len__(self) -> int:
        return len(self._sorted)
