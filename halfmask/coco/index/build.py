"""Writes the index of a large COCO file in one pass over the JSON.

Memory does not grow with the number of annotations. Each annotation's row goes to one
of some temporary files, chosen by its image. Each of these is small enough to be sorted
in memory, and becomes one record batch.
"""

from __future__ import annotations

import gc
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from halfmask.coco.index.batches import record_batches
from halfmask.coco.index.format import MASK_STATES, SPOOLED, USES, Source, metadata, schema
from halfmask.coco.index.images import IndexImages
from halfmask.coco.problems import ProblemKind
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

BYTES_A_PART = 48 << 20
"""Bytes of JSON for each temporary file."""
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
    def __init__(self, path: Path, spool: Path) -> None:
        self.path = path
        self._left_out: Counter[str] = Counter()
        self._spool = spool
        self._images = IndexImages()
        self._categories: list[Any] = []
        self._constants: set[str] = set()
        self._seen: Counter[int] = Counter()
        self._parts: list[Any] = []
        self._images_a_part = 1

    def read(self, progress: Progress | None) -> None:
        """Reads the file once; twice if its annotations come before its images."""
        met: set[str] = set()

        def take(key: str) -> bool:
            if key == "annotations" and "images" in met:
                self._open_parts()
            met.add(key)
            return key != "annotations" or bool(self._parts)

        for batch in scan_lists(self.path, take, progress=progress, constants=self._constants):
            if batch.key == "images":
                self._left_out[ProblemKind.IMAGE_RECORD] += self._images.add(batch, str(self.path))
            elif batch.key == "categories":
                self._categories += batch.items
            else:
                self._spool_annotations(batch)
        if not self._parts:
            self._open_parts()
            for batch in scan_lists(
                self.path,
                lambda key: key == "annotations",
                progress=progress,
                constants=self._constants,
            ):
                self._spool_annotations(batch)
        self._categories = sorted(
            check_records(self._categories, str(self.path), "category"), key=lambda c: int(c["id"])
        )

    def _open_parts(self) -> None:
        """Opens the temporary files; all images are known."""
        self._images.close(str(self.path))
        images = max(1, len(self._images))
        parts = min(max(1, self.path.stat().st_size // BYTES_A_PART), MOST_PARTS, images)
        self._images_a_part = -(-images // parts)
        count = -(-images // self._images_a_part)
        self._parts = [(self._spool / str(k)).open("wb") for k in range(count)]

    def _spool_annotations(self, batch: Batch) -> None:
        both = zip(batch.items, batch.spans, strict=True)
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
        box = usable_box(item, size, is_id(category))
        if box is None or size is None:
            self._left_out[fault_of_annotation(item, size, is_id(category))[0]] += 1
            return None
        noted = provenance(item) is not None
        uses = USES if noted else USES[:1]
        states = [MASK_STATES.index(classify(item, size, use)) for use in uses]
        states *= len(USES) // len(states)
        start, end = span
        return row, item["id"], category, box, tuple(states), noted, start, end - start

    def write(self, target: Path, source: Source) -> None:
        """Sorts the parts and writes one record batch for each."""
        import pyarrow as pa

        for part in self._parts:
            part.close()
        known = {c["id"] for c in self._categories}
        orphans = sum(n for category, n in self._seen.items() if category not in known)
        self._left_out[ProblemKind.ORPHAN] += orphans
        facts = {
            "left_out": self._left_out + Counter(),  # without zeros
            "categories": self._categories,
            "not_strict": bool(self._constants),
        }
        category_ids = np.array([c["id"] for c in self._categories], dtype=np.int64)
        with target.open("wb") as file:
            head = schema().with_metadata(metadata(source, facts))
            with pa.ipc.new_file(pa.PythonFile(file), head) as writer:
                for batch in record_batches(
                    self._images, category_ids, self._spool, images_a_part=self._images_a_part
                ):
                    writer.write_batch(batch)
