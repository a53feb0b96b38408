"""Writes the index of a large COCO file: one pass over the JSON, in memory that does
not grow with its annotations.

What is known of each annotation goes to one of some temporary files, by its image's
place; each of these is then small enough to be put in order in memory, and becomes one
record batch.
"""

from __future__ import annotations

import gc
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
from halfmask.coco.scan_lists import Batch, Progress, scan_lists
from halfmask.coco.supervision import classify, provenance

Array = NDArray[Any]

BYTES_A_PART = 48 << 20
MOST_PARTS = 512
"""Of the temporary files: one for so many bytes of JSON, and no more than a process may
hold open.
"""


@dataclass
class Built:
    """What an index holds, and what was left out of it, by kind."""

    images: int = 0
    annotations: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def build_index(
    path: Path, target: Path, source: Source, progress: Progress | None = None
) -> Built:
    """Writes the index of `path` to `target`, which must not exist; nothing is left
    there when it fails.

    Args:
        path: a COCO instances file of any size.
        target: the Arrow file. A folder of temporary files stands beside it meanwhile.
        source: what pins down the content of `path`.
        progress: told bytes read.
    Raises:
        InputError: no COCO file (see `scan_lists`), or a place that cannot be written.
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
    return built.built


@contextmanager
def _no_collection() -> Iterator[None]:
    """JSON makes no cycles, and looking for them among so many new objects costs a
    third of the time.
    """
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
        self.built = Built()
        self._spool = spool
        self._images: IndexImages | None = None
        self._categories: list[Any] = []
        self._constants: set[str] = set()
        self._seen: Counter[int] = Counter()
        self._parts: list[Any] = []
        self._images_a_part = 1

    def read(self, progress: Progress | None) -> None:
        """One pass; a second one over files whose annotations stand before their images."""
        early: list[str] = []
        images = IndexImages()

        def take(key: str) -> bool:
            if key == "annotations" and not self._close(images, early):
                return False
            if key == "images":
                early.append(key)
            return True

        for batch in scan_lists(self.path, take, progress, self._constants):
            if batch.key == "images":
                self.built.left_out[ProblemKind.IMAGE_RECORD] += images.add(batch, str(self.path))
            elif batch.key == "categories":
                self._categories += batch.items
            else:
                self._spool_annotations(batch)
        if self._images is None:
            self._close(images, early)
            for batch in scan_lists(
                self.path, lambda key: key == "annotations", progress, self._constants
            ):
                self._spool_annotations(batch)
        self._categories = sorted(
            check_records(self._categories, str(self.path), "category"), key=lambda c: int(c["id"])
        )

    def _close(self, images: IndexImages, seen: list[str]) -> bool:
        """Makes ready for annotations, if the images are known; whether they are."""
        if not seen:
            return False
        images.close(str(self.path))
        parts = min(
            max(1, self.path.stat().st_size // BYTES_A_PART), MOST_PARTS, max(1, len(images))
        )
        self._images_a_part = -(-max(1, len(images)) // parts)
        self._parts = [
            (self._spool / str(k)).open("wb")
            for k in range(-(-max(1, len(images)) // self._images_a_part))
        ]
        self._images = images
        return True

    def _spool_annotations(self, batch: Batch) -> None:
        assert self._images is not None
        sound = [
            (item, span)
            for position, (item, span) in enumerate(
                zip(batch.items, batch.spans, strict=True), batch.first
            )
            if fault_of_record(item, position) is None
        ]
        self.built.left_out[ProblemKind.ANNOTATION_RECORD] += len(batch.items) - len(sound)
        known = [is_id(item.get("image_id")) for item, _ in sound]
        ids = [
            item["image_id"] if fine else 0 for (item, _), fine in zip(sound, known, strict=True)
        ]
        found = [
            row if fine else -1 for row, fine in zip(self._images.find(ids), known, strict=True)
        ]
        rows = [self._row(item, span, row) for (item, span), row in zip(sound, found, strict=True)]
        packed = np.array([row for row in rows if row is not None], dtype=SPOOLED)
        self._seen.update(packed["category"].tolist())
        part = packed["image"] // self._images_a_part
        for k in np.unique(part).tolist():
            self._parts[k].write(packed[part == k].tobytes())

    def _row(self, item: dict[str, Any], span: tuple[int, int], row: int) -> tuple[Any, ...] | None:
        """An annotation as SPOOLED has it; None where it cannot be used."""
        assert self._images is not None
        table = self._images.table
        size = None if row < 0 else (int(table["height"][row]), int(table["width"][row]))
        category = item.get(
            "category_id"
        )  # whether it is in the file is known once that has been read
        box = usable_box(item, size, is_id(category))
        if box is None or size is None:
            self.built.left_out[fault_of_annotation(item, size, is_id(category))[0]] += 1
            return None
        noted = provenance(item) is not None
        states = [
            MASK_STATES.index(classify(item, size, use)) for use in (USES if noted else USES[:1])
        ]
        start, end = span
        return (
            row,
            item["id"],
            category,
            box,
            tuple(states * (1 if noted else len(USES))),
            noted,
            start,
            end - start,
        )

    def write(self, target: Path, source: Source) -> None:
        """Puts the parts in order, one record batch each."""
        import pyarrow as pa

        for part in self._parts:
            part.close()
        known = {c["id"] for c in self._categories}
        built = self.built
        built.left_out[ProblemKind.ORPHAN] += sum(
            n for category, n in self._seen.items() if category not in known
        )
        built.images = len(self._images or ())
        built.annotations = sum(n for category, n in self._seen.items() if category in known)
        built.left_out += Counter()  # drops what is 0
        facts = {
            "left_out": built.left_out,
            "categories": self._categories,
            "not_strict": bool(self._constants),
        }
        with target.open("wb") as file:
            head = schema().with_metadata(metadata(source, facts))
            with pa.ipc.new_file(pa.PythonFile(file), head) as writer:
                for batch in self._batches():
                    writer.write_batch(batch)
            file.flush()
            os.fsync(file.fileno())

    def _batches(self) -> Iterator[Any]:
        import pyarrow as pa

        assert self._images is not None
        names = pa.chunked_array(self._images.names, pa.large_string())
        category_ids = np.array([c["id"] for c in self._categories], dtype=np.int64)
        total = len(self._images)
        for first in range(0, total, self._images_a_part):
            last = min(first + self._images_a_part, total)
            rows = np.fromfile(self._spool / str(first // self._images_a_part), dtype=SPOOLED)
            labels = _labels(category_ids, rows["category"])
            rows, labels = rows[labels > 0], labels[labels > 0]
            order = np.argsort(rows["image"], kind="stable")
            rows, labels = rows[order], labels[order]
            counts = np.bincount(rows["image"] - first, minlength=last - first)
            yield self._batch(
                slice(first, last), names.slice(first, last - first), counts, rows, labels
            )

    def _batch(self, images: slice, names: Any, counts: Array, rows: Array, labels: Array) -> Any:
        import pyarrow as pa

        assert self._images is not None
        form = schema()
        item = form.field("annotations").type.value_type
        columns = {"id": rows["id"], "label": labels, "box": rows["box"], "noted": rows["noted"]}
        columns |= {f"state_{use}": rows["states"][:, k] for k, use in enumerate(USES)}
        columns |= {"offset": rows["offset"], "length": rows["length"]}
        children = [
            _arrow(columns[item.field(k).name], item.field(k).type) for k in range(item.num_fields)
        ]
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        values = pa.StructArray.from_arrays(
            children, fields=[item.field(k) for k in range(item.num_fields)]
        )
        annotations = pa.ListArray.from_arrays(
            pa.array(starts), values, type=form.field("annotations").type
        )
        own = {
            name: _arrow(column[images], form.field(name).type)
            for name, column in self._images.table.items()
        }
        arrays = own | {"file_name": names.combine_chunks(), "annotations": annotations}
        return pa.RecordBatch.from_arrays([arrays[name] for name in form.names], schema=form)


def _labels(category_ids: Array, wanted: Array) -> Array:
    """int32: place of each in the ascending `category_ids`, plus one; 0 where it is not
    among them.
    """
    if not len(category_ids):
        return np.zeros(len(wanted), dtype=np.int32)
    place = np.minimum(np.searchsorted(category_ids, wanted), len(category_ids) - 1)
    return np.where(category_ids[place] == wanted, place + 1, 0).astype(np.int32)


def _arrow(column: Array, kind: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_fixed_size_list(kind):
        flat = pa.array(np.ascontiguousarray(column).reshape(-1), kind.value_type)
        return pa.FixedSizeListArray.from_arrays(flat, type=kind)
    return pa.array(np.ascontiguousarray(column), kind)
