"""A COCO file read through its index: opens at once, and processes share one copy."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from halfmask.coco.annotations import Instance, Renaming
from halfmask.coco.edit import relabel, relabel_image, strip_masks
from halfmask.coco.index.format import MASK_STATES, Array
from halfmask.coco.index.store import Part, Store
from halfmask.coco.problems import Problem, ProblemKind
from halfmask.coco.reading.forms import standard_record
from halfmask.coco.records import Record
from halfmask.coco.supervision import MaskState, Use, classify, mask_weight

_MASK, _CROWD, _MISSING = (
    MASK_STATES.index(s) for s in (MaskState.MASK, MaskState.CROWD, MaskState.MISSING)
)


class CocoIndex:
    """A COCO instances file read through its index; each member equals `CocoFile`'s.

    Boxes, classes and states come from the index. A record is read from the JSON file
    when requested.

    Attributes:
        name, categories, label_of: see `CocoFile`.
        facts: the metadata of the index: `left_out` (unusable images and annotations by
            kind), `source` and others.
    """

    def __init__(self, path: Path, index: Path) -> None:
        self.name = str(path)
        self._store = Store(path, index)
        self.facts = self._store.facts
        self._own_ids = [int(c["id"]) for c in self.facts["categories"]]  # by label
        self._rows: Array | None = None  # rows of its images; None: all
        self._keep: set[int] | None = None  # own ids of the classes that keep their masks
        self._rename(self.facts["categories"], {i: i for i in self._own_ids})

    def _rename(self, categories: Sequence[Record], id_of: dict[int, int]) -> None:
        """Sets the categories; `id_of` maps the file's own id to the new id."""
        self.categories = sorted(categories, key=lambda c: int(c["id"]))
        self.label_of: dict[int, int] = {c["id"]: k for k, c in enumerate(self.categories, 1)}
        self._id_of = id_of
        self._labels = np.array([0, *(self.label_of[id_of[i]] for i in self._own_ids)])

    @property
    def suspected(self) -> list[Problem]:
        return [Problem(ProblemKind(k), tuple(ids), m) for k, ids, m in self.facts["suspected"]]

    @property
    def readings(self) -> list[Problem]:
        return [Problem(ProblemKind(k), tuple(ids), m) for k, ids, m in self.facts["readings"]]

    @property
    def parts(self) -> list[Part]:
        """The columns of the index, for all images of the file."""
        return self._store.parts

    @property
    def images(self) -> Sequence[Record]:
        """The usable image records in file order, each read when requested."""
        is_renamed = any(own != new for own, new in self._id_of.items())
        return _ImageRecords(self._store, self._rows, self._id_of if is_renamed else None)

    @cached_property
    def image_ids(self) -> list[int]:
        ids: list[int] = (
            self._store.ids if self._rows is None else self._store.ids[self._rows]
        ).tolist()
        return ids

    @property
    def objects(self) -> int:
        return sum(
            int((chosen & (states != _CROWD)).sum())
            for _, chosen, _, states in self._scan("annotated")
        )

    def __contains__(self, image_id: object) -> bool:
        row = self._store.find(image_id)
        return row is not None and (self._chosen is None or bool(self._chosen[row]))

    def size_of(self, image_id: int) -> tuple[int, int]:
        part, k = self._place(image_id)
        return int(part.image["height"][k]), int(part.image["width"][k])

    def file_name_of(self, image_id: int) -> str:
        part, k = self._place(image_id)
        return str(part.file_name[k])

    def name_of(self, category_id: int) -> str:
        return str(self.categories[self.label_of[category_id] - 1]["name"])

    def annotations_of(self, image_id: int) -> list[Record]:
        part, k = self._place(image_id)
        rows = part.rows_of(k)
        return [self._record(part, k, row) for row in range(rows.start, rows.stop)]

    def state_of(self, annotation: Record, use: Use = "annotated") -> MaskState:
        return classify(annotation, self.size_of(annotation["image_id"]), use)

    def states_of(self, image_id: int, use: Use = "annotated") -> list[MaskState]:
        part, k = self._place(image_id)
        return [MASK_STATES[state] for state in self._states(part, part.rows_of(k), use).tolist()]

    def instances_of(self, image_id: int, use: Use = "annotated") -> list[Instance]:
        part, k = self._place(image_id)
        rows = part.rows_of(k)
        states = self._states(part, rows, use)
        own = part.annotation["label"][rows]
        # The rest is in the columns: a box without a mask needs no JSON.
        wanted = (states == _MASK) | (part.annotation["noted"][rows] > 0)
        columns = (
            part.annotation["id"][rows],
            self._labels[own],
            part.annotation["box"][rows],
            states,
            wanted,
        )
        instances = []
        for row, (number, label, box, state, read) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True), rows.start
        ):
            record = self._record(part, k, row) if read else {}
            mask = record["segmentation"] if state == _MASK else None
            instances.append(
                Instance(
                    annotation_id=number,
                    label=label,
                    box=tuple(box),
                    state=MASK_STATES[state],
                    weight=mask_weight(record),
                    segmentation=mask,
                )
            )
        return instances

    def with_masks(self, use: Use = "annotated") -> set[int]:
        found: set[int] = set()
        for part, chosen, _, states in self._scan(use):
            hits = (
                np.searchsorted(
                    part.starts, np.flatnonzero(chosen & (states == _MASK)), side="right"
                )
                - 1
            )
            found.update(part.image["id"][np.unique(hits)].tolist())
        return found

    def used_categories(self) -> set[int]:
        labels: set[int] = set()
        for _, chosen, own, _ in self._scan("annotated"):
            labels.update(np.unique(self._labels[own[chosen]]).tolist())
        return {category for category, label in self.label_of.items() if label in labels}

    def mask_counts(self, use: Use = "annotated") -> dict[int, int]:
        counts = np.zeros(len(self.categories) + 1, dtype=np.int64)
        for _, chosen, own, states in self._scan(use):
            counts += np.bincount(
                self._labels[own[chosen & (states == _MASK)]], minlength=len(counts)
            )
        return {category: int(counts[label]) for category, label in self.label_of.items()}

    def part(
        self,
        image_ids: Collection[int],
        masks_of: Collection[int] | None = None,
        renaming: Renaming | None = None,
    ) -> CocoIndex:
        view = copy(self)
        view.__dict__.pop("image_ids", None)
        view.__dict__.pop("_chosen", None)
        rows = self._store.find_all(image_ids)
        view._rows = rows if self._chosen is None else rows[self._chosen[rows]]
        if masks_of is not None:
            keep = {own for own, new in self._id_of.items() if new in masks_of}
            view._keep = keep if self._keep is None else keep & self._keep
        if renaming is not None:
            ids, categories = renaming
            view._rename(categories, {own: ids[new] for own, new in self._id_of.items()})
        return view

    @cached_property
    def _chosen(self) -> Array | None:
        """bool by row of the store: whether the image is in it; None: all are."""
        if self._rows is None:
            return None
        chosen = np.zeros(len(self._store.ids), dtype=bool)
        chosen[self._rows] = True
        return chosen

    def _place(self, image_id: int) -> tuple[Part, int]:
        row = self._store.find(image_id)
        if row is None or (self._chosen is not None and not self._chosen[row]):
            raise KeyError(image_id)
        return self._store.place(row)

    def _states(self, part: Part, rows: slice, use: Use) -> Array:
        """Returns uint8 positions in MASK_STATES; a removed mask is MISSING."""
        states = part.annotation[f"state_{use}"][rows]
        if self._keep is None:
            return states
        stripped = np.array([False, *(i not in self._keep for i in self._own_ids)])[
            part.annotation["label"][rows]
        ]
        return np.where(stripped & (states != _CROWD), np.uint8(_MISSING), states)

    def _scan(self, use: Use) -> Iterator[tuple[Part, Array, Array, Array]]:
        """Yields each part and, per annotation: image is chosen, own label, state."""
        every = slice(None)
        for part, first in zip(self._store.parts, self._store.firsts, strict=False):
            own = part.annotation["label"]
            chosen = np.ones(len(own), dtype=bool)
            if self._chosen is not None:
                images = self._chosen[first : first + len(part.starts) - 1]
                chosen = np.repeat(images, np.diff(part.starts))
            yield part, chosen, own, self._states(part, every, use)

    def _record(self, part: Part, k: int, row: int) -> Record:
        """Reads an annotation of image k of a part, with the changes that `part` makes."""
        read = self._store.record(part.annotation, "id", row)
        label = int(part.annotation["label"][row])
        read = read | {
            "image_id": int(part.image["id"][k]),
            "category_id": self._own_ids[label - 1],
        }
        document: dict[str, Any] = {"images": [], "annotations": [read]}
        if self._keep is not None:
            document = strip_masks(document, self._keep)
        if any(own != new for own, new in self._id_of.items()):
            document = relabel(document, self._id_of, self.categories)
        size = int(part.image["height"][k]), int(part.image["width"][k])
        return standard_record(document["annotations"][0], size).record


class _ImageRecords(Sequence[Record]):
    """Image records that are read when requested."""

    def __init__(self, store: Store, rows: Array | None, id_of: dict[int, int] | None) -> None:
        self._store, self._id_of = store, id_of
        self._rows = np.arange(len(store.ids)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        part, k = self._store.place(int(self._rows[index]))
        record = self._store.record(part.image, "id", k)
        return record if self._id_of is None else relabel_image(record, self._id_of)
