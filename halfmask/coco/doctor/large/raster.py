"""The pixels and the box of the masks of many annotations, as `box_of` and `area_of` say."""

from __future__ import annotations

from typing import Any

import hotcoco.mask as library
import numpy as np
from numpy.typing import NDArray

from halfmask.coco.index.decode import Form
from halfmask.masks.rle import area_of, box_of

Array = NDArray[Any]


def draw_masks(column: Any, form: Form, rows: Array, *, sizes: Array) -> tuple[Array, Array]:
    """Draws well-formed masks, those of one size at once.

    Args:
        column: Arrow column `segmentation` of a group of annotations.
        form: how its masks are written.
        rows: int64 [n], which of them are drawn.
        sizes: int64 [n, 2], H and W of the image of each.
    Returns:
        int64 [n, 4], corners of the tight box of each, and int64 [n], its pixels.
    """
    boxes, pixels = np.zeros((len(rows), 4), dtype=np.int64), np.zeros(len(rows), dtype=np.int64)
    single = np.zeros(len(rows), dtype=bool)
    if form is Form.POLYGONS:
        single = np.diff(column.offsets.to_numpy())[rows] == 1
    elif form is Form.TEXT:
        single[:] = True
    for some in _of_one_size(np.flatnonzero(single), sizes):
        height, width = sizes[some[0]].tolist()
        if form is Form.POLYGONS:
            drawn = library.frPyObjects(_polygons(column, rows[some]), height, width)
        else:
            found = column.field(1).take(_indices(rows[some])).to_pylist()
            drawn = [{"size": [height, width], "counts": counts} for counts in found]
        x, y, w, h = library.toBbox(drawn).astype(np.int64).T
        boxes[some] = np.stack([x, y, x + w, y + h], axis=1)
        pixels[some] = library.area(drawn)
    others = np.flatnonzero(~single)
    masks = column.take(_indices(rows[others])).to_pylist() if len(others) else []
    for k, mask in zip(others.tolist(), masks, strict=True):
        size = int(sizes[k, 0]), int(sizes[k, 1])
        found = mask if form is Form.POLYGONS else {"size": mask["size"], "counts": mask["counts"]}
        box = box_of(found, size)
        assert box is not None, "a usable mask has pixels"
        boxes[k], pixels[k] = box, area_of(found, size)
    return boxes, pixels


def _of_one_size(rows: Array, sizes: Array) -> list[Array]:
    """Splits rows by the size of their images."""
    if not len(rows):
        return []
    own = sizes[rows]
    if (own == own[0]).all():
        return [rows]
    order = np.lexsort((own[:, 1], own[:, 0]))
    changes = (own[order][1:] != own[order][:-1]).any(axis=1)
    return np.split(rows[order], np.flatnonzero(changes) + 1)


def _polygons(column: Any, rows: Array) -> list[Any]:
    """Returns the only polygon of each row."""
    parts = column.values
    numbers, bounds = parts.values.to_numpy(zero_copy_only=False), parts.offsets.to_numpy()
    part = column.offsets.to_numpy()[rows]
    starts, ends = bounds[part].tolist(), bounds[part + 1].tolist()
    return [numbers[start:end] for start, end in zip(starts, ends, strict=True)]


def _indices(rows: Array) -> Any:
    import pyarrow as pa

    return pa.array(rows)
