"""An index as memory-mapped arrays, and the JSON records behind it."""

from __future__ import annotations

import json
import os
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from halfmask.coco.index.format import CHECK, KEY, Array, checksum, schema
from halfmask.coco.reading.ids import RecordIds, whole_number
from halfmask.coco.records import Record, is_id
from halfmask.errors import InputError


@dataclass(frozen=True)
class Part:
    """A record batch of the index; arrays are views of the mapped file.

    Attributes:
        image: columns of its images.
        file_name: Arrow strings of its images.
        starts: int32 [images + 1], first annotation of each image.
        annotation: columns of its annotations.
    """

    image: dict[str, Array]
    file_name: Any
    starts: Array
    annotation: dict[str, Array]

    def rows_of(self, k: int) -> slice:
        """Returns the rows of the annotations of image k."""
        return slice(int(self.starts[k]), int(self.starts[k + 1]))


class Store:
    """Reads an index and its JSON file; many processes can do so at once.

    Mapped pages are shared, and `pread` moves no shared file position. A pickled Store
    reopens its files.

    Attributes:
        facts: the metadata of the index.
        ids: int64, ids of all images in file order.
        parts: the record batches in order.
    """

    def __init__(self, path: Path, index: Path, *, checked: bool = False) -> None:
        """Opens the files.

        Args:
            path: the JSON file.
            index: of it.
            checked: whether this process or its parent has checked the index.
        Raises:
            OSError, ValueError: the index is damaged, or no index.
        """
        self._places = path, index
        self._json = path.open("rb", buffering=0)
        with _damage_as_value_error():
            reader = open_arrow(index)
            self.facts = facts_of(reader)
            if not checked:
                _check_all(index)
            self.parts = [_part(reader.get_batch(k)) for k in range(reader.num_record_batches)]
        sizes = [len(part.image["id"]) for part in self.parts]
        self.firsts = [0, *np.cumsum(sizes, dtype=np.int64).tolist()]
        self.ids = np.concatenate(
            [*(part.image["id"] for part in self.parts), np.zeros(0, dtype=np.int64)]
        )
        rising = bool((self.ids[1:] > self.ids[:-1]).all())
        self._order = None if rising else np.argsort(self.ids, kind="stable")
        self._sorted = self.ids if self._order is None else self.ids[self._order]

    def __reduce__(self) -> tuple[Any, tuple[Path, Path]]:
        return _checked, self._places

    def find(self, image_id: object) -> int | None:
        """Returns the row of an image; None if there is none."""
        rows = self.find_all([image_id] if is_id(image_id) else [])
        return int(rows[0]) if len(rows) else None

    def find_all(self, image_ids: Iterable[Any]) -> Array:
        """Returns the rows of the images that exist, ascending."""
        wanted = np.fromiter(image_ids, dtype=np.int64)
        if not len(self._sorted):
            return wanted[:0]
        place = np.minimum(np.searchsorted(self._sorted, wanted), len(self._sorted) - 1)
        place = place[self._sorted[place] == wanted]
        return np.unique(place if self._order is None else self._order[place])

    def place(self, row: int) -> tuple[Part, int]:
        """Returns the part that holds an image's row, and the row within it."""
        k = bisect_right(self.firsts, row) - 1
        return self.parts[k], row - self.firsts[k]

    def record(self, columns: dict[str, Array], number: str, k: int) -> Record:
        """Reads the JSON object of an image or annotation.

        Args:
            columns: the columns of its part.
            number: name of the column of ids.
            k: its row.
        Raises:
            InputError: the JSON file has changed.
        """
        expected = int(columns[number][k])
        text = os.pread(self._json.fileno(), int(columns["length"][k]), int(columns["offset"][k]))
        try:
            record = json.loads(text.decode("utf-8"))
        except ValueError:
            record = None
        own = record.get("id") if isinstance(record, dict) else None
        if own is None or whole_number(own) not in (None, expected):
            raise InputError(
                f"{self._places[0]}: changed while it was in use (record of id {expected}); "
                "start again"
            )
        return RecordIds.numbered(record, expected)


def _checked(path: Path, index: Path) -> Store:
    return Store(path, index, checked=True)


def _check_all(index: Path) -> None:
    """Checks every record batch.

    They are read, not mapped: the mapping then holds only what is used of it.
    """
    import pyarrow as pa

    with pa.OSFile(str(index)) as file:
        reader = pa.ipc.open_file(file)
        for k in range(reader.num_record_batches):
            found = reader.get_batch_with_custom_metadata(k)
            _check(found.batch, found.custom_metadata, k)


def _check(batch: Any, noted: Any, number: int) -> None:
    """Raises ValueError for a record batch that was not written like this."""
    # Offsets and lengths first: values are read by them.
    batch.validate(full=True)
    if not batch.schema.equals(schema(), check_metadata=False):
        raise ValueError(f"record batch {number} has other columns")
    if any(column.null_count for column in batch.columns):
        raise ValueError(f"record batch {number} has nulls")
    if dict(noted or {}).get(CHECK) != checksum(batch):
        raise ValueError(f"the checksum of record batch {number} differs")


@contextmanager
def _damage_as_value_error() -> Iterator[None]:
    """A damaged file can raise any of Arrow's errors."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, ArithmeticError, LookupError, MemoryError, TypeError) as error:
        raise ValueError(str(error)) from error


def open_arrow(index: Path) -> Any:
    """Returns a reader of the mapped index.

    Raises:
        OSError, ValueError: `index` is no Arrow file.
    """
    import pyarrow as pa

    with _damage_as_value_error():
        return pa.ipc.open_file(pa.memory_map(str(index)))


def facts_of(reader: Any) -> dict[str, Any]:
    """Returns the metadata of the index; none if they are damaged."""
    with _damage_as_value_error():
        found = reader.schema.metadata or {}
    text = found.get(KEY, b"{}")
    if found.get(CHECK) != b"%08x" % zlib.crc32(text):
        return {}
    facts: dict[str, Any] = json.loads(text)
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
    """Returns a column without a copy; [n, 4] if its items are lists of four."""
    import pyarrow as pa

    if pa.types.is_fixed_size_list(column.type):
        flat: Array = column.values.to_numpy(zero_copy_only=True)
        return flat.reshape(-1, column.type.list_size)
    array: Array = column.to_numpy(zero_copy_only=True)
    return array
