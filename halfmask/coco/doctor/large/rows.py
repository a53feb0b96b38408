"""Annotations of a large file as rows with all that their findings need."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from halfmask.coco.doctor.large.raster import draw_masks
from halfmask.coco.index.decode import Decoded, Form, Group
from halfmask.coco.index.format import MASK_STATES, Array
from halfmask.coco.index.images import IndexImages
from halfmask.coco.index.judge import Judged, judge_group, notes_of
from halfmask.coco.reading.forms import StandardRecord, standard_record
from halfmask.coco.reading.ids import StandardIds
from halfmask.coco.records import fault_of_record, is_id, usable_box
from halfmask.coco.scan.batch import ListBatch
from halfmask.coco.scan.keys import ListKeys
from halfmask.coco.supervision import ORIGINS, MaskState

ROW = np.dtype(
    [
        ("image", np.int32),
        ("id", np.int64),
        ("category", np.int64),
        ("place", np.uint32),  # position in the list of annotations
        ("offset", np.uint64),
        ("length", np.uint32),
        ("alone", np.uint8),  # 1: its findings come from its record; below are its boxes alone
        ("state", np.uint8),  # position in MASK_STATES
        ("form", np.uint8),  # position in FORMS
        ("origin", np.uint8),  # position in PROVENANCES
        ("box", np.float32, 4),  # xyxy, clipped to the image
        ("bbox", np.float64, 4),  # as in the file
        ("area", np.float64),  # NaN: none
        ("own", np.int32, 4),  # corners of the mask's box
        ("pixels", np.int64),  # of the mask
    ]
)
"""A usable annotation, perhaps of an unknown category, in the temporary files."""
FORMS = ("missing", "polygons", "text", "runs")
PROVENANCES = ("", "filled", *ORIGINS)
"""Origins of masks; "": it came with the file."""
_MASK = MASK_STATES.index(MaskState.MASK)


class Unusable(NamedTuple):
    """An annotation that cannot be used, whatever the categories.

    `place` is its position in the list, `start` and `end` are its first byte and last
    byte + 1, and `number`, `image` and `category` the ids that the file means.
    """

    place: int
    start: int
    end: int
    number: int
    image: Any
    category: Any


class DoctorRows:
    """Reads annotations as ROW, many at once where all is as in COCO.

    Attributes:
        unknown_names: see `RowReader`.
        rising: whether each id is greater than the one before, so that none repeats.
        count: number of annotations.
        faults: position, value of `image_id` and of `category_id`, and fault of each
            item that is no annotation.
        unusable: the annotations that cannot be used, whatever the categories.
        keys: keys that occur twice in an annotation.
    """

    def __init__(self, path: Path, images: IndexImages, ids: StandardIds) -> None:
        """Takes all images of the file, and what reads its ids."""
        self.unknown_names = False
        self.rising = True
        self.count = 0
        self.faults: list[tuple[int, Any, Any, str]] = []
        self.unusable: list[Unusable] = []
        self.keys = ListKeys(path)
        self._images, self._ids = images, ids
        self._last = -(1 << 63) - 1

    def add(self, batch: ListBatch) -> Array:
        """Returns the usable annotations of a batch, in file order."""
        self.keys.look(batch)
        if isinstance(batch.decoded, Decoded):
            packed = self._add_decoded(batch.decoded, batch.first, batch.start)
        else:
            numbered = list(enumerate(batch.items, batch.first))
            packed = self._add_each(numbered, batch.spans)[0]
            self.count = batch.first + len(numbered)
        ids = packed["id"]
        if len(ids):
            self.rising &= int(ids[0]) > self._last and bool((ids[1:] > ids[:-1]).all())
            self._last = int(ids[-1])
        return packed

    def _add_decoded(self, decoded: Decoded, first: int, start: int) -> Array:
        count = len(decoded.spans)
        packed = np.zeros(count, dtype=ROW)
        used = np.zeros(count, dtype=bool)
        for group in decoded.groups:
            judged = judge_group(group, self._images)
            packed[judged.rows], used[judged.rows] = _rows(group, judged), True
        packed["place"] = np.arange(first, first + count)
        packed["offset"] = decoded.spans[:, 0] + start
        packed["length"] = decoded.spans[:, 1] - decoded.spans[:, 0]
        slow = np.flatnonzero(~used).tolist()
        if slow:
            spans = [(a + start, b + start) for a, b in decoded.spans[slow].tolist()]
            rows, kept = self._add_each([(first + k, decoded.item(k)) for k in slow], spans)
            at = np.array(slow, dtype=np.int64)[kept]
            packed[at], used[at] = rows, True
        self.count = first + count
        return packed if used.all() else packed[used]

    def _add_each(
        self, numbered: list[tuple[int, Any]], spans: list[tuple[int, int]]
    ) -> tuple[Array, list[int]]:
        """Reads annotations one by one.

        Args:
            numbered: position in the list of annotations, and JSON value.
            spans: of each in the file.
        Returns:
            The usable ones as ROW, and which of `numbered` these are.
        """
        packed = np.zeros(len(numbered), dtype=ROW)
        kept = []
        for k, ((place, raw), span) in enumerate(zip(numbered, spans, strict=True)):
            item = self._ids.annotation(raw)
            fault = fault_of_record(item, place)
            if fault is not None:
                known = item if isinstance(item, dict) else {}
                self.faults.append((place, known.get("image_id"), known.get("category_id"), fault))
            elif self._put(packed[k : k + 1], item):
                packed["place"][k] = place
                packed["offset"][k], packed["length"][k] = span[0], span[1] - span[0]
                kept.append(k)
            else:
                ids = item["id"], item.get("image_id"), item.get("category_id")
                self.unusable.append(Unusable(place, *span, *ids))
        return packed[kept], kept

    def _put(self, row: Array, item: dict[str, Any]) -> bool:
        """Writes an annotation to a row; returns whether it can be used."""
        number, category = item.get("image_id"), item.get("category_id")
        image = -1
        if is_id(number):
            image = int(self._images.find(np.array([number], dtype=np.int64))[0])
        # Whether the file has the category is known once that list has been read.
        self.unknown_names = self.unknown_names or isinstance(category, str)
        if image < 0:
            return False
        table = self._images.table
        size = int(table["height"][image]), int(table["width"][image])
        read: StandardRecord = standard_record(item, size)
        box = usable_box(read.record, size, is_id(category))
        if box is None:
            return False
        row["image"], row["id"], row["category"], row["alone"] = image, item["id"], category, 1
        row["box"], row["bbox"] = box, [float(side) for side in read.record["bbox"]]
        return True


def _rows(group: Group, judged: Judged) -> Array:
    """Returns the usable annotations of a group as ROW, without their places."""
    at = np.searchsorted(group.rows, judged.rows)
    packed = np.zeros(len(at), dtype=ROW)
    for name in ("image", "id", "category", "box"):
        packed[name] = judged.packed[name]
    packed["bbox"], packed["state"] = judged.boxes, judged.packed["states"][:, 0]
    form = FORMS[1:].index(group.form.name.lower()) + 1
    packed["form"] = np.where(judged.masked, form, 0)
    packed["area"] = _numbers(group, "area")[at]
    crowds = group.table.column("iscrowd").combine_chunks().fill_null(0).to_numpy()[at]
    packed["alone"] = (crowds != 0) & (crowds != 1) | ~_finite(packed["area"])
    packed["origin"] = _origins(group)[at]
    masks = np.flatnonzero(packed["state"] == _MASK)
    if len(masks):
        column = group.table.column("segmentation").combine_chunks()
        own, pixels = draw_masks(column, group.form, at[masks], sizes=judged.sizes[masks])
        packed["own"][masks], packed["pixels"][masks] = own, pixels
    return packed


def _finite(areas: Array) -> Array:
    """Returns bool by row: no area, or one of a usual size; others are left to Python."""
    usual: Array = np.isnan(areas) | (np.abs(areas) < 1e15)
    return usual


def _numbers(group: Group, name: str) -> Array:
    """Returns a column of numbers, NaN where there is none."""
    column = group.table.column(name).combine_chunks()
    values: Array = column.fill_null(np.nan).to_numpy(zero_copy_only=False)
    return values


def _origins(group: Group) -> Array:
    """Returns uint8 positions in PROVENANCES, of the notes that are readable."""
    noted, texts, _ = notes_of(group.table.column("halfmask").combine_chunks())
    origins = np.zeros(len(noted), dtype=np.uint8)
    if noted.any():
        numbers = {origin: k for k, origin in enumerate(PROVENANCES)}
        origins[noted] = [numbers[str(text)] for text in texts[noted]]
    return origins


assert FORMS[1:] == tuple(form.name.lower() for form in (Form.POLYGONS, Form.TEXT, Form.RUNS))
