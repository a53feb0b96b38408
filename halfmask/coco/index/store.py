"""The index of a large COCO file as arrays on the mapped file, and the records of the
JSON file behind it.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfmask.coco.annotations import Record
from halfmask.coco.index.format import KEY
from halfmask.coco.records import is_id
from halfmask.errors import InputError

Array = NDArray[Any]


@dataclass(frozen=True)
class Part:
    """A record batch of the index; arrays are views of the mapped file.

    Attributes:
        image: columns of its images.
        file_name: Arrow texts of its images.
        starts: int32 [images + 1], where the annotations of each image begin.
        annotation: columns of its annotations.
    """

    image: dict[str, Array]
    file_name: Any
    starts: Array
    annotation: dict[str, Array]

    def rows_of(self, k: int) -> slice:
        """The annotations of its image k."""
        return slice(int(self.starts[k]), int(self.starts[k + 1]))


class Store:
    """Read by many processes at once: the mapped pages are shared, and `pread` moves no
    common place. Pickled, it is opened anew.

    Attributes:
        facts: the metadata of the index.
        ids: int64, of all images in file order.
        parts: in order.
    """

    def __init__(self, path: Path, index: Path) -> None:
        self._places = path, index
        self._json = path.open("rb", buffering=0)
        reader = open_arrow(index)
        self.facts = facts_of(reader)
        self.parts = [_part(reader.get_batch(k)) for k in range(reader.num_record_batches)]
        sizes = [len(part.image["id"]) for part in self.parts]
        self.firsts = [0, *np.cumsum(sizes, dtype=np.int64).tolist()]
        self.ids = np.concatenate(
            [*(part.image["id"] for part in self.parts), np.zeros(0, dtype=np.int64)]
        )
        rising = bool((self.ids[1:] > self.ids[:-1]).all())
        self._order = None if rising else np.argsort(self.ids, kind="stable")
        self._sorted = self.ids if self._order is None else self.ids[self._order]

    def __reduce__(self) -> tuple[type[Store], tuple[Path, Path]]:
        return Store, self._places

    def find(self, image_id: object) -> int | None:
        """Row of an image."""
        rows = self.find_all([image_id] if is_id(image_id) else [])
        return int(rows[0]) if len(rows) else None

    def find_all(self, image_ids: Iterable[Any]) -> Array:
        """Rows of the images that there are, ascending."""
        wanted = np.fromiter(image_ids, dtype=np.int64)
        if not len(self._sorted):
            return wanted[:0]
        place = np.minimum(np.searchsorted(self._sorted, wanted), len(self._sorted) - 1)
        place = place[self._sorted[place] == wanted]
        return np.unique(place if self._order is None else self._order[place])

    def place(self, row: int) -> tuple[Part, int]:
        """The part of an image's row, and its row there."""
        k = bisect_right(self.firsts, row) - 1
        return self.parts[k], row - self.firsts[k]

    def record(self, columns: dict[str, Array], number: str, k: int) -> Record:
        """The JSON object of an image or annotation.

        Args:
            columns: those of its part.
            number: name of the column of ids.
            k: its row in them.
        Raises:
            InputError: something else stands there by now.
        """
        expected = int(columns[number][k])
        text = os.pread(self._json.fileno(), int(columns["length"][k]), int(columns["offset"][k]))
        try:
            record = json.loads(text.decode("utf-8"))
        except ValueError:
            record = None
        if not isinstance(record, dict) or record.get("id") != expected:
            raise InputError(
                f"{self._places[0]}: changed while it was in use (record of id {expected}); "
                "start again"
            )
        return record


def open_arrow(index: Path) -> Any:
    """A reader of the mapped index; raises OSError or Arrow's errors (which are
    ValueErrors or OSErrors) where it is none.
    """
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(str(index)))


def facts_of(reader: Any) -> dict[str, Any]:
    """The metadata of the index."""
    facts: dict[str, Any] = json.loads((reader.schema.metadata or {}).get(KEY, b"{}"))
    return facts


def _part(batch: Any) -> Part:
    lists = batch.column("annotations")
    plain = ("id", "height", "width", "offset", "length")
    return Part(
        {name: _view(batch.column(name)) for name in plain},
        batch.column("file_name"),
        _view(lists.offsets),
        {field.name: _view(lists.values.field(field.name)) for field in lists.type.value_type},
    )


def _view(column: Any) -> Array:
    """Without a copy; [n, 4] of a list of four."""
    import pyarrow as pa

    if pa.types.is_fixed_size_list(column.type):
        flat: Array = column.values.to_numpy(zero_copy_only=True)
        return flat.reshape(-1, column.type.list_size)
    array: Array = column.to_numpy(zero_copy_only=True)
    return array
