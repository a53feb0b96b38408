"""Writes the index of a large COCO file in one pass over the JSON.

Memory does not grow with the number of annotations. Each annotation's row goes to one
of some temporary files, chosen by its image. Each of these is small enough to be sorted
in memory, and becomes one record batch.
"""

from __future__ import annotations

import gc
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from halfmask.coco.index.batches import record_batches
from halfmask.coco.index.decode import decode_records
from halfmask.coco.index.format import CHECK, SPOOLED, Array, Source, checksum, metadata, schema
from halfmask.coco.index.images import IndexImages, read_span
from halfmask.coco.index.rows import AnnotationRows
from halfmask.coco.problems import ProblemKind
from halfmask.coco.reading.ids import StandardIds, once
from halfmask.coco.records import check_records
from halfmask.coco.scan.batch import ListBatch
from halfmask.coco.scan.lists import scan_lists
from halfmask.progress import Progress

BYTES_A_PART = 48 << 20
"""Bytes of JSON for each temporary file."""
_SPAN = ["offset", "length"]
MOST_PARTS = 512
"""Largest number of temporary files: a process cannot hold many more open."""


def write_index(
    path: Path, target: Path, source: Source, *, progress: Progress | None = None
) -> None:
    """Writes the index of `path` to `target`.

    Args:
        path: a COCO instances file of any size.
        target: the Arrow file. A folder of temporary files lies beside it meanwhile.
        source: identifies the content of `path`.
        progress: reports MiB read.
    Raises:
        InputError: `path` is no COCO file (see `scan_lists`).
        OSError: `target` cannot be written.
    """
    spool = target.with_name(f"{target.name}.d")
    try:
        spool.mkdir()
        built = _Builder(path, spool)
        with _no_collection():
            built.read(progress)
        built.write(target, source)
    finally:
        shutil.rmtree(spool, ignore_errors=True)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Pauses the garbage collector: its search for cycles takes a third of the time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


class _Builder:
    """Reads a COCO file once and writes its index."""

    def __init__(self, path: Path, spool: Path) -> None:
        self.path = path
        self._left_out: Counter[str] = Counter()
        self._spool = spool
        self._ids = StandardIds()
        self._images = IndexImages(path, self._ids)
        self._categories: list[Any] = []
        self._rows = AnnotationRows(path, self._images, self._ids)
        self._constants: set[str] = set()
        self._parts: list[Any] = []
        self._images_a_part = 1

    def read(self, progress: Progress | None) -> None:
        """Reads the file once; twice if its annotations come before what they refer to."""
        met: set[str] = set()

        def take(key: str) -> bool:
            if key == "annotations" and "images" in met:
                self._open_parts()
            met.add(key)
            return key != "annotations" or bool(self._parts)

        for batch in self._scanned(take, progress):
            if batch.key == "images":
                self._left_out[ProblemKind.IMAGE_RECORD] += self._images.add(batch, str(self.path))
            elif batch.key == "categories":
                self._categories += [
                    self._ids.categories.own(record, k, str(self.path))
                    for k, record in enumerate(batch.items, batch.first)
                ]
            else:
                self._spool_annotations(batch)
        if not self._parts or self._rows.unknown_names:
            self._begin_annotations()
            for batch in self._scanned(lambda key: key == "annotations", progress):
                self._spool_annotations(batch)
        self._categories = once(self._categories, self._ids.merged, "category")
        self._categories = sorted(
            check_records(self._categories, str(self.path), "category"), key=lambda c: int(c["id"])
        )

    def _scanned(
        self, take: Callable[[str], bool], progress: Progress | None
    ) -> Iterator[ListBatch]:
        return scan_lists(
            self.path, take, progress=progress, constants=self._constants, decode=decode_records
        )

    def _begin_annotations(self) -> None:
        """Opens the temporary files, empty, and forgets what earlier annotations said."""
        for part in self._parts:
            part.close()
        self._rows = AnnotationRows(self.path, self._images, self._ids)
        self._ids.begin_annotations()
        self._open_parts()

    def _open_parts(self) -> None:
        """Opens the temporary files; all images are known."""
        self._images.close(str(self.path))
        images = max(1, len(self._images))
        parts = min(max(1, self.path.stat().st_size // BYTES_A_PART), MOST_PARTS, images)
        self._images_a_part = -(-images // parts)
        count = -(-images // self._images_a_part)
        self._parts = [(self._spool / str(k)).open("wb") for k in range(count)]

    def _spool_annotations(self, batch: ListBatch) -> None:
        packed = self._rows.add(batch)
        part = packed["image"] // self._images_a_part
        order = np.argsort(part, kind="stable")
        bounds = np.searchsorted(part[order], np.arange(len(self._parts) + 1))
        packed = packed[order]
        for k in np.flatnonzero(np.diff(bounds)).tolist():
            self._parts[k].write(packed[bounds[k] : bounds[k + 1]].data)

    def _repeated(self) -> Array:
        """Returns the offsets of annotations that repeat an earlier one of their image."""
        found: list[int] = []
        for k in range(0 if self._rows.rising else len(self._parts)):
            rows = np.fromfile(self._spool / str(k), dtype=SPOOLED)
            rows = rows[np.lexsort((rows["offset"], rows["id"], rows["image"]))]
            same = (rows["id"][1:] == rows["id"][:-1]) & (rows["image"][1:] == rows["image"][:-1])
            first = 0
            for at in (np.flatnonzero(same) + 1).tolist():
                first = first if at >= 2 and same[at - 2] else at - 1
                one, other = (read_span(self.path, *rows[k][_SPAN]) for k in (first, at))
                found += [int(rows["offset"][at])] if one == other else []
        if found:
            self._ids.merged["annotation"] = len(found)
        return np.array(found, dtype=np.uint64)

    def write(self, target: Path, source: Source) -> None:
        """Sorts the parts and writes one record batch for each."""
        import pyarrow as pa

        for part in self._parts:
            part.close()
        known = {c["id"] for c in self._categories}
        dropped = self._repeated()
        orphans = sum(n for category, n in self._rows.seen.items() if category not in known)
        self._left_out.update(self._rows.left_out)
        self._left_out[ProblemKind.ORPHAN] += orphans
        facts = {
            "left_out": self._left_out + Counter(),  # without zeros
            "categories": self._categories,
            "not_strict": bool(self._constants),
            **self._rows.findings(known),
        }
        category_ids = np.array([c["id"] for c in self._categories], dtype=np.int64)
        with target.open("wb") as file:
            head = schema().with_metadata(metadata(source, facts))
            with pa.ipc.new_file(pa.PythonFile(file), head) as writer:
                for batch in record_batches(
                    self._images,
                    category_ids,
                    self._spool,
                    images_a_part=self._images_a_part,
                    dropped=dropped,
                ):
                    writer.write_batch(batch, custom_metadata={CHECK: checksum(batch)})
