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
from halfmask.coco.index.format import (
    CHECK,
    MASK_STATES,
    SPOOLED,
    USES,
    Array,
    Source,
    checksum,
    metadata,
    schema,
)
from halfmask.coco.index.images import IndexImages, read_span
from halfmask.coco.problems import Problem, ProblemKind
from halfmask.coco.reading.conventions import ConventionCheck
from halfmask.coco.reading.forms import StandardRecord, standard_record
from halfmask.coco.reading.ids import StandardIds, once
from halfmask.coco.records import (
    check_records,
    fault_of_annotation,
    fault_of_record,
    is_id,
    usable_box,
)
from halfmask.coco.scan_lists import Batch, scan_lists
from halfmask.coco.supervision import classify, provenance
from halfmask.progress import Progress
from halfmask.text import plural

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
        self._conventions = ConventionCheck()
        self._dropped = ""
        self._faulty = 0
        self._unknown_names = False
        self._constants: set[str] = set()
        self._seen: Counter[int] = Counter()
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
        if not self._parts or self._unknown_names:
            self._begin_annotations()
            for batch in self._scanned(lambda key: key == "annotations", progress):
                self._spool_annotations(batch)
        self._categories = once(self._categories, self._ids.merged, "category")
        self._categories = sorted(
            check_records(self._categories, str(self.path), "category"), key=lambda c: int(c["id"])
        )

    def _scanned(self, take: Callable[[str], bool], progress: Progress | None) -> Iterator[Batch]:
        return scan_lists(self.path, take, progress=progress, constants=self._constants)

    def _begin_annotations(self) -> None:
        """Opens the temporary files, empty, and forgets what earlier annotations said."""
        for part in self._parts:
            part.close()
        self._left_out = Counter({ProblemKind.IMAGE_RECORD: self._left_out["image_record"]})
        self._seen.clear()
        self._conventions, self._dropped, self._faulty = ConventionCheck(), "", 0
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

    def _spool_annotations(self, batch: Batch) -> None:
        items = [self._ids.annotation(item) for item in batch.items]
        both = zip(items, batch.spans, strict=True)
        sound = [
            (item, span)
            for position, (item, span) in enumerate(both, batch.first)
            if fault_of_record(item, position) is None
        ]
        self._left_out[ProblemKind.ANNOTATION_RECORD] += len(batch.items) - len(sound)
        ids = [item.get("image_id") for item, _ in sound]
        found = self._images.find([number if is_id(number) else 0 for number in ids])
        packed = np.array(
            [
                row
                for (item, span), number, image in zip(sound, ids, found, strict=True)
                if (row := self._row(item, span, image if is_id(number) else -1)) is not None
            ],
            dtype=SPOOLED,
        )
        self._seen.update(packed["category"].tolist())
        part = packed["image"] // self._images_a_part
        for k in np.unique(part).tolist():
            self._parts[k].write(packed[part == k].tobytes())

    def _row(self, item: dict[str, Any], span: tuple[int, int], row: int) -> tuple[Any, ...] | None:
        """Returns an annotation as a row of SPOOLED; None if it cannot be used."""
        table = self._images.table
        size = None if row < 0 else (int(table["height"][row]), int(table["width"][row]))
        # Whether the file has the category is known once that list has been read.
        category = item.get("category_id")
        self._unknown_names = self._unknown_names or isinstance(category, str)
        read = StandardRecord(record=item) if size is None else standard_record(item, size)
        box = usable_box(read.record, size, is_id(category))
        if box is None or size is None:
            self._left_out[fault_of_annotation(read.record, size, is_id(category))[0]] += 1
            return None
        self._conventions.add(read.record, size, form=read.form, turned=read.turned)
        self._faulty += bool(read.dropped)
        if read.dropped and not self._dropped:
            self._dropped = f"annotation {item['id']}: {read.dropped[0]}"
        noted = provenance(item) is not None
        uses = USES if noted else USES[:1]
        states = [MASK_STATES.index(classify(read.record, size, use)) for use in uses]
        states *= len(USES) // len(states)
        start, end = span
        return row, item["id"], category, box, tuple(states), noted, start, end - start

    def _repeated(self) -> Array:
        """Returns the offsets of annotations that repeat an earlier one of their image."""
        found: list[int] = []
        for k in range(len(self._parts)):
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

    def _findings(self, known: set[int]) -> dict[str, list[Any]]:
        """Returns what `CocoIndex.readings` and `suspected` return, as JSON values."""
        readings = self._ids.problems(str(self.path))
        if self._dropped:
            what = f"{plural(self._faulty, 'mask')} with unreadable parts: {self._dropped}"
            readings.append(Problem(ProblemKind.MASK_PART, (), f"{self.path}: {what}"))
        suspected = self._conventions.found(str(self.path), known)
        rows = {"readings": readings, "suspected": suspected}
        return {key: [(str(p.kind), p.ids, p.message) for p in rows[key]] for key in rows}

    def write(self, target: Path, source: Source) -> None:
        """Sorts the parts and writes one record batch for each."""
        import pyarrow as pa

        for part in self._parts:
            part.close()
        known = {c["id"] for c in self._categories}
        dropped = self._repeated()
        orphans = sum(n for category, n in self._seen.items() if category not in known)
        self._left_out[ProblemKind.ORPHAN] += orphans
        facts = {
            "left_out": self._left_out + Counter(),  # without zeros
            "categories": self._categories,
            "not_strict": bool(self._constants),
            **self._findings(known),
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
