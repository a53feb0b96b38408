"""Counts and findings of the annotations of a large file, image by image.

Rows that are as in COCO are looked at together. The others are read again and looked at
one by one, by the code for files in memory.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from halfmask.coco.doctor.checks import findings_of, same_id
from halfmask.coco.doctor.findings import ColumnBlock, Findings
from halfmask.coco.doctor.large.pairs import alike, exact_copies
from halfmask.coco.doctor.large.raster import Areas
from halfmask.coco.doctor.large.rows import FORMS, PROVENANCES
from halfmask.coco.doctor.large.texts import Texts
from halfmask.coco.index.batches import labels_of
from halfmask.coco.index.format import MASK_STATES, Array
from halfmask.coco.index.images import IndexImages
from halfmask.coco.problems import Problem, ProblemKind
from halfmask.coco.reading.conventions import ConventionCheck
from halfmask.coco.reading.forms import standard_record
from halfmask.coco.records import Record, fault_of_annotation
from halfmask.coco.supervision import MaskState, classify, provenance
from halfmask.files.regular import open_regular
from halfmask.masks.rle import area_of, box_of

_MASK, _CROWD = MASK_STATES.index(MaskState.MASK), MASK_STATES.index(MaskState.CROWD)
_SINGLE = FORMS.index("polygons")
Size = tuple[int, int]


class Survey:
    """What the annotations of a file say, part after part in the order of its images.

    Attributes:
        findings: those of usable annotations and of images.
        conventions: what the file seems to write unlike COCO.
        areas: of boxes and masks.
        states: label → state → number of annotations.
        origins: number of annotations of each of PROVENANCES.
        with_masks: number of images with a usable mask.
        categories: category id → number of annotations, also of unknown ids.
        has_rows: bool by image, an annotation has its id.
        dropped: positions of annotations that repeat an earlier one.
        orphans: position and finding of annotations of an unknown category.
        mask_parts: position and finding of masks with an unreadable part.
    """

    def __init__(self, path: Path, images: IndexImages, categories: list[Record]) -> None:
        self.findings = Findings()
        self.conventions = ConventionCheck()
        self.areas = Areas(len(images))
        self.states = np.zeros((len(categories) + 1, len(MASK_STATES)), dtype=np.int64)
        self.origins = np.zeros(len(PROVENANCES), dtype=np.int64)
        self.with_masks = 0
        self.categories: Counter[int] = Counter()
        self.has_rows = np.zeros(len(images), dtype=bool)
        self.dropped: list[int] = []
        self.orphans: list[tuple[int, Problem]] = []
        self.mask_parts: list[tuple[int, Problem]] = []
        self._numbers: list[Array] = []
        self._images, self._names = images, ["", *(str(c["name"]) for c in categories)]
        self._known = np.array([c["id"] for c in categories], dtype=np.int64)
        self._file = open_regular(path)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def add(self, rows: Array, first: int, last: int, *, may_repeat: bool) -> None:
        """Looks at the annotations of some images.

        Args:
            rows: ROW, in file order.
            first, last: their images: row of the first, and of the last + 1.
            may_repeat: whether an id may occur twice in the file.
        """
        rows = rows[np.argsort(rows["image"], kind="stable")]
        if may_repeat:
            rows = self._once(rows)
        self.has_rows[rows["image"]] = True
        ids, times = np.unique(rows["category"], return_counts=True)
        self.categories.update(dict(zip(ids.tolist(), times.tolist(), strict=True)))
        labels = labels_of(self._known, rows["category"])
        self._orphans(rows[labels == 0])
        rows, labels = rows[labels > 0], labels[labels > 0]
        if may_repeat:
            self._numbers.append(rows["id"].copy())
        texts = Texts(rows, self._images)
        self._read_alone(rows, texts)
        self._count(rows, labels, first=first, last=last)
        texts.add_fast()
        texts.put_into(self.findings)
        self._pairs(rows, labels)

    def same_ids(self) -> list[Problem]:
        """Returns the findings about annotations whose id an earlier one has."""
        numbers = np.concatenate([*self._numbers, np.zeros(0, dtype=np.int64)])
        self._numbers.clear()
        ordered = np.sort(numbers)
        twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        found: list[Problem] = []
        seen: set[int] = set()
        for number in numbers[np.isin(numbers, twice)].tolist() if len(twice) else []:
            found += [same_id(number)] if number in seen else []
            seen.add(number)
        return found

    def record(self, row: Any) -> Record:
        """Reads the annotation of a row, with whole numbers as ids."""
        text = os.pread(self._file.fileno(), int(row["length"]), int(row["offset"]))
        found: Record = json.loads(text)
        image = int(self._images.table["id"][row["image"]])
        return found | {
            "id": int(row["id"]),
            "image_id": image,
            "category_id": int(row["category"]),
        }

    def _size(self, row: Any) -> Size:
        table, image = self._images.table, int(row["image"])
        return int(table["height"][image]), int(table["width"][image])

    def _once(self, rows: Array) -> Array:
        """Returns the rows without those that repeat the first of their id and image."""
        order = np.lexsort((rows["place"], rows["id"], rows["image"]))
        image, number = rows["image"][order], rows["id"][order]
        same = (image[1:] == image[:-1]) & (number[1:] == number[:-1])
        kept = np.ones(len(rows), dtype=bool)
        first = 0
        for at in (np.flatnonzero(same) + 1).tolist():
            first = first if at >= 2 and same[at - 2] else at - 1
            one, other = rows[order[first]], rows[order[at]]
            kept[order[at]] = self.record(one) != self.record(other)
        self.dropped += rows["place"][~kept].tolist()
        return rows[kept]

    def _orphans(self, rows: Array) -> None:
        for row in rows:
            number = int(row["id"])
            record = {"category_id": int(row["category"])}
            kind, text = fault_of_annotation(record, self._size(row), known_category=False)
            problem = Problem(kind, (number,), f"annotation {number}: {text}")
            self.orphans.append((int(row["place"]), problem))

    def _read_alone(self, rows: Array, texts: Texts) -> None:
        """Reads the annotations that are not as in COCO, and the first polygons."""
        alone = rows["alone"] > 0
        first = np.flatnonzero(~alone & (rows["form"] == _SINGLE) & (rows["state"] != _CROWD))
        chosen = np.union1d(np.flatnonzero(alone), first[: max(self.conventions.wanted, 0)])
        for k in chosen.tolist():
            row, size = rows[k], self._size(rows[k])
            if alone[k]:
                self._add_alone(k, row, texts, size=size)
            elif self.conventions.wanted > 0:
                record = self.record(row)
                self.conventions.compare(record["bbox"], record["segmentation"], size)

    def _add_alone(self, k: int, row: Any, texts: Texts, *, size: Size) -> None:
        """Looks at one annotation as for a file in memory, and writes its state to its row."""
        read = standard_record(self.record(row), size)
        record, number = read.record, int(row["id"])
        state = classify(record, size)
        self.conventions.add(record, size, form=read.form, turned=read.turned)
        row["state"], row["area"] = MASK_STATES.index(state), 0
        row["origin"] = PROVENANCES.index(provenance(record) or "")
        if state == MaskState.MASK:
            row["own"] = box_of(record["segmentation"], size)
            row["pixels"] = area_of(record["segmentation"], size)
        for kind, text in findings_of(record, state, size):
            texts.add(kind, k, f"annotation {number}: {text}")
        for fault in read.dropped:
            text = f"annotation {number}: {fault}"
            problem = Problem(ProblemKind.MASK_PART, (number,), text)
            self.mask_parts.append((int(row["place"]), problem))

    def _count(self, rows: Array, labels: Array, *, first: int, last: int) -> None:
        np.add.at(self.states, (labels, rows["state"]), 1)
        self.origins += np.bincount(rows["origin"], minlength=len(self.origins))
        self.with_masks += len(np.unique(rows["image"][rows["state"] == _MASK]))
        self.areas.add(rows)
        fast = rows[rows["alone"] == 0]
        self.conventions.add_many(
            fast["bbox"],
            self._images.sizes_of(fast["image"]),
            categories=fast["category"],
            masked=fast["form"] > 0,
            crowd=fast["state"] == _CROWD,
        )
        empty = np.bincount(rows["image"] - first, minlength=last - first) == 0
        ids = self._images.table["id"][first:last][empty]
        block = ColumnBlock("image {}: no usable annotation", ids)
        self.findings.add(ProblemKind.IMAGE_EMPTY, block)

    def _pairs(self, rows: Array, labels: Array) -> None:
        image_ids = self._images.table["id"][rows["image"]]
        self.findings.add_all(exact_copies(rows, image_ids))

        def mask_of(k: int) -> Any:
            return standard_record(self.record(rows[k]), self._size(rows[k])).record["segmentation"]

        names = [self._names[label] for label in labels.tolist()]
        pairs = alike(rows, mask_of=mask_of, size_of=lambda k: self._size(rows[k]), names=names)
        self.findings.add_all(pairs)
