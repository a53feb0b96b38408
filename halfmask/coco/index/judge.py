"""Which of many annotations are surely usable, and what their masks teach.

The rules are those of `halfmask.coco.supervision` and `halfmask.coco.records`, which
decide about every annotation that this file is not sure of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from halfmask.coco.index.decode import Form, Group
from halfmask.coco.index.format import MASK_STATES, SPOOLED, USES, Array
from halfmask.coco.index.images import IndexImages
from halfmask.coco.index.polygons import PolygonMasks, polygon_masks
from halfmask.coco.index.runs import sound_rles
from halfmask.coco.supervision import ANNOTATORS, COUNTED, ORIGINS, MaskState

_LARGEST = 1e6
"""Largest number of a box, in pixels, of which single precision is surely right."""
_MASK, _MISSING, _CROWD, _FILLED, _REJECTED = (
    MASK_STATES.index(state)
    for state in (
        MaskState.MASK,
        MaskState.MISSING,
        MaskState.CROWD,
        MaskState.FILLED,
        MaskState.REJECTED,
    )
)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The surely usable annotations of a group.

    Attributes:
        rows: int64, their positions among the items.
        packed: SPOOLED by row, without offset and length.
        boxes: float64 [rows, 4], x, y, width, height as in the file.
        sizes: int64 [rows, 2], H and W of their images.
        masked: bool by row, the annotation has a mask.
        crowd: bool by row.
        extent: float64 [rows, 4], the corners of the polygons.
        polygons: bool by row, the mask is polygons and no crowd.
    """

    rows: Array
    packed: Array
    boxes: Array
    sizes: Array
    masked: Array
    crowd: Array
    extent: Array
    polygons: Array

    def only(self, chosen: Array) -> Judged:
        """Returns the chosen rows, a bool by row."""
        if chosen.all():
            return self
        return Judged(**{name: value[chosen] for name, value in vars(self).items()})


def judge_group(group: Group, images: IndexImages) -> Judged:
    """Returns the annotations of a group that are surely usable.

    Args:
        group: as `decode_records` returns it.
        images: all images of the file.
    """
    columns = {name: group.table.column(name).combine_chunks() for name in _NAMES}
    numbers = {name: columns[name].fill_null(0).to_numpy() for name in _NAMES[:4]}
    sure = np.ones(len(group.rows), dtype=bool)
    for name in _NAMES[:3]:
        if columns[name].null_count:
            sure &= np.asarray(columns[name].is_valid())
    image = images.find(numbers["image_id"])
    sure &= (image >= 0) & _upright(columns["attributes"])
    sizes = images.sizes_of(image)
    boxes, whole = _boxes(columns["bbox"])
    clipped, left = _clipped(boxes, sizes)
    sure &= whole & left
    crowd = numbers["iscrowd"] != 0
    column = columns["segmentation"]
    if group.form is Form.POLYGONS:
        masks = polygon_masks(column, sizes)
        sure &= masks.missing | (masks.sound & (crowd | masks.surely_not_box(boxes)))
    else:
        sound = sound_rles(column, sizes, is_text=group.form is Form.TEXT)
        masks = _without_polygons(sound)
        sure &= sound
    noted, origins, known = notes_of(columns["halfmask"])
    packed = np.empty(len(sure), dtype=SPOOLED)
    packed["image"], packed["box"], packed["noted"] = image, clipped, noted
    packed["id"], packed["category"] = numbers["id"], numbers["category_id"]
    packed["states"] = _states(masks.missing, crowd, noted, origins=origins)
    return Judged(
        rows=group.rows,
        packed=packed,
        boxes=boxes,
        sizes=sizes,
        masked=~masks.missing,
        crowd=crowd,
        extent=masks.extent,
        polygons=masks.sound & ~crowd & (group.form is Form.POLYGONS),
    ).only(sure & known)


_NAMES = (
    "id",
    "image_id",
    "category_id",
    "iscrowd",
    "bbox",
    "segmentation",
    "halfmask",
    "attributes",
)


def _without_polygons(sound: Array) -> PolygonMasks:
    none = np.zeros(len(sound), dtype=np.int64)
    extent = np.zeros((len(sound), 4))
    return PolygonMasks(missing=none > 0, sound=sound, extent=extent, corners=none)


def _upright(column: Any) -> Array:
    """Returns bool by row: no attribute surely turns the box."""
    rotation = column.field(0)
    if rotation.null_count == len(rotation):
        return np.ones(len(column), dtype=bool)
    turn: Array = rotation.fill_null(0).to_numpy() == 0
    return turn


def _boxes(column: Any) -> tuple[Array, Array]:
    """Returns float64 [rows, 4], and whether each is four numbers of usual size."""
    bounds = column.offsets.to_numpy()
    whole = np.diff(bounds) == 4
    numbers = column.values.to_numpy(zero_copy_only=False)  # null is NaN
    if whole.all():
        boxes = numbers.reshape(-1, 4)
    else:
        boxes = np.zeros((len(whole), 4))
        boxes[whole] = numbers[bounds[:-1][whole, None] + np.arange(4)]
    usual = np.abs(boxes) <= _LARGEST
    return boxes, whole & _both(_both(usual))


def _clipped(boxes: Array, sizes: Array) -> tuple[Array, Array]:
    """Clips boxes as `clip_box` does, equal in every bit, so also in the sign of zero.

    Returns:
        float32 [rows, 4], xyxy; and bool by row, whether the box has an area.
    """
    far = sizes[:, ::-1]
    near, end = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    first = np.where(near < 0, 0.0, near)
    first = np.where(far < first, far, first)
    last = np.where(far < end, far, end)
    last = np.where(last < 0, 0.0, last)
    clipped = np.concatenate([first, last], axis=1).astype(np.float32)
    return clipped, _both(clipped[:, 2:] > clipped[:, :2])


def _both(values: Array) -> Array:
    """Returns bool [n, k] of bool [n, 2k], or [n] of [n, 2]; `all` takes far longer."""
    half = values.shape[1] // 2
    both: Array = values[:, :half] & values[:, half:]
    return both[:, 0] if half == 1 else both


def notes_of(column: Any) -> tuple[Array, Array, Array]:
    """Returns by row: has a note of halfmask; its origin; whether the note is readable.

    Args:
        column: Arrow column of objects with `state`, or null.
    Returns:
        bool, text, bool; the texts are empty if no row has a note.
    """
    noted = np.asarray(column.is_valid())
    if not noted.any():
        return noted, np.zeros(0, dtype=object), ~noted
    texts = column.field(0)
    readable = ~noted | np.asarray(texts.is_valid())
    states = texts.to_pylist()
    noted = noted & np.array([state not in ANNOTATORS for state in states])
    origins = [origin if origin in ORIGINS else "filled" for origin in states]
    return noted, np.array(origins, dtype=object), readable


def _states(missing: Array, crowd: Array, noted: Array, *, origins: Array) -> Array:
    """Returns uint8 [rows, uses], the states of sound masks as `judge` returns them."""
    states = np.full((len(missing), len(USES)), _MASK, dtype=np.uint8)
    for k, use in enumerate(USES if noted.any() else ()):
        counted = np.array([origin in COUNTED[use] for origin in origins])
        states[noted & ~counted, k] = _FILLED
    if noted.any():
        states[noted & (origins == "rejected")] = _REJECTED
    states[missing] = _MISSING
    states[crowd] = _CROWD
    return states
