"""Annotations as rows of an index: many at once where all is as in COCO, else one by one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from halfmask.coco.index.decode import Decoded
from halfmask.coco.index.format import MASK_STATES, SPOOLED, USES, Array
from halfmask.coco.index.images import IndexImages
from halfmask.coco.index.judge import Judged, judge_group
from halfmask.coco.problems import Problem, ProblemKind
from halfmask.coco.reading.conventions import ConventionCheck
from halfmask.coco.reading.forms import StandardRecord, standard_record
from halfmask.coco.reading.ids import StandardIds
from halfmask.coco.records import fault_of_annotation, fault_of_record, is_id, usable_box
from halfmask.coco.scan.batch import ListBatch
from halfmask.coco.supervision import classify, provenance
from halfmask.text import plural

_SPAN = tuple[int, int]


class AnnotationRows:
    """Reads the annotations of a file, in file order, and counts what is odd.

    Attributes:
        left_out: kind → number of annotations that cannot be used.
        seen: category id → number of rows.
        unknown_names: whether an annotation names its category.
        rising: whether each id is greater than the one before, so that none repeats.
    """

    def __init__(self, path: Path, images: IndexImages, ids: StandardIds) -> None:
        """Takes all images of the file, and what reads its ids."""
        self.left_out: Counter[str] = Counter()
        self.seen: Counter[int] = Counter()
        self.unknown_names = False
        self.rising = True
        self._path = path
        self._images = images
        self._ids = ids
        self._conventions = ConventionCheck()
        self._dropped = ""
        self._faulty = 0
        self._last = -(1 << 63) - 1

    def add(self, batch: ListBatch) -> Array:
        """Returns the usable annotations of a batch as SPOOLED, in file order."""
        if isinstance(batch.decoded, Decoded):
            packed = self._add_decoded(batch.decoded, batch.first, batch.start)
        else:
            numbered = enumerate(batch.items, batch.first)
            packed = self._add_each(list(numbered), batch.spans)[0]
        self.seen.update(_counted(packed["category"]))
        ids = packed["id"]
        if len(ids):
            self.rising &= int(ids[0]) > self._last and bool((ids[1:] > ids[:-1]).all())
            self._last = int(ids[-1])
        return packed

    def _add_decoded(self, decoded: Decoded, first: int, start: int) -> Array:
        judged = [judge_group(group, self._images) for group in decoded.groups]
        judged = self._compared(judged, len(decoded.spans))
        packed = np.zeros(len(decoded.spans), dtype=SPOOLED)
        used = np.zeros(len(packed), dtype=bool)
        for some in judged:
            packed[some.rows], used[some.rows] = some.packed, True
            self._conventions.add_many(
                some.boxes,
                some.sizes,
                categories=some.packed["category"],
                masked=some.masked,
                crowd=some.crowd,
            )
        packed["offset"] = decoded.spans[:, 0] + start
        packed["length"] = decoded.spans[:, 1] - decoded.spans[:, 0]
        slow = np.flatnonzero(~used).tolist()
        if slow:
            spans = [(a + start, b + start) for a, b in decoded.spans[slow].tolist()]
            rows, kept = self._add_each([(first + k, decoded.item(k)) for k in slow], spans)
            at = np.array(slow)[kept]
            packed[at], used[at] = rows, True
        return packed if used.all() else packed[used]

    def _compared(self, judged: list[Judged], count: int) -> list[Judged]:
        """Compares the first masks of the file with their boxes.

        Masks of annotations that are read one by one are compared where these are read.
        If there are such, all wanted masks are read like this, for the order counts.
        """
        wanted = self._conventions.wanted
        if wanted <= 0:
            return judged
        polygons = np.zeros(count, dtype=bool)
        for some in judged:
            polygons[some.rows] = some.polygons
        first = np.zeros(count, dtype=bool)
        first[np.flatnonzero(polygons)[:wanted]] = True
        if sum(len(some.rows) for some in judged) < count:
            return [some.only(~first[some.rows]) for some in judged]
        for some in judged:
            chosen = some.only(first[some.rows])
            self._conventions.compare_many(chosen.boxes, chosen.sizes, chosen.extent)
        return judged

    def _add_each(
        self, numbered: list[tuple[int, Any]], spans: list[_SPAN]
    ) -> tuple[Array, list[int]]:
        """Reads annotations one by one.

        Args:
            numbered: position in the list of annotations, and JSON value.
            spans: of each in the file.
        Returns:
            The usable ones, SPOOLED, and which of `numbered` these are.
        """
        items = [self._ids.annotation(item) for _, item in numbered]
        sound = [
            k
            for k, (position, _) in enumerate(numbered)
            if fault_of_record(items[k], position) is None
        ]
        self.left_out[ProblemKind.ANNOTATION_RECORD] += len(items) - len(sound)
        ids = [items[k].get("image_id") for k in sound]
        known = [number if is_id(number) else 0 for number in ids]
        found = self._images.find(np.array(known, dtype=np.int64)).tolist()
        rows, kept = [], []
        for k, number, image in zip(sound, ids, found, strict=True):
            row = self._row(items[k], spans[k], image if is_id(number) else -1)
            if row is not None:
                rows.append(row)
                kept.append(k)
        return np.array(rows, dtype=SPOOLED), kept

    def _row(self, item: dict[str, Any], span: _SPAN, row: int) -> tuple[Any, ...] | None:
        """Returns an annotation as a row of SPOOLED; None if it cannot be used."""
        table = self._images.table
        size = None if row < 0 else (int(table["height"][row]), int(table["width"][row]))
        # Whether the file has the category is known once that list has been read.
        category = item.get("category_id")
        self.unknown_names = self.unknown_names or isinstance(category, str)
        read = StandardRecord(record=item) if size is None else standard_record(item, size)
        box = usable_box(read.record, size, is_id(category))
        if box is None or size is None:
            self.left_out[fault_of_annotation(read.record, size, is_id(category))[0]] += 1
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

    def findings(self, known: set[int]) -> dict[str, list[Any]]:
        """Returns what `CocoIndex.readings` and `suspected` return, as JSON values.

        Args:
            known: ids of the file's categories.
        """
        readings = self._ids.problems(str(self._path))
        if self._dropped:
            what = f"{plural(self._faulty, 'mask')} with unreadable parts: {self._dropped}"
            readings.append(Problem(ProblemKind.MASK_PART, (), f"{self._path}: {what}"))
        suspected = self._conventions.found(str(self._path), known)
        rows = {"readings": readings, "suspected": suspected}
        return {key: [(str(p.kind), p.ids, p.message) for p in rows[key]] for key in rows}


def _counted(values: Array) -> dict[int, int]:
    found, times = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), times.tolist(), strict=True))
