"""The pixels, boxes and areas of the masks of many annotations, and how well boxes fit."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfmask.coco.doctor.sizes import size_table
from halfmask.coco.index.decode import Form
from halfmask.coco.index.format import MASK_STATES
from halfmask.coco.supervision import MaskState
from halfmask.coco.tightness import ENOUGH, SMALLEST
from halfmask.masks.rle import area_of, box_of, drawn_extents

Array = NDArray[Any]

_MASK, _CROWD = MASK_STATES.index(MaskState.MASK), MASK_STATES.index(MaskState.CROWD)


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
        polygons = form is Form.POLYGONS
        masks = (
            _polygons(column, rows[some])
            if polygons
            else column.field(1).take(_indices(rows[some])).to_pylist()
        )
        size = int(sizes[some[0], 0]), int(sizes[some[0], 1])
        boxes[some], pixels[some] = drawn_extents(masks, size, polygons=polygons)
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


class Areas:
    """Collects the areas of annotations, part after part in the order of the images.

    Args:
        images: number of the images of the file.
    """

    def __init__(self, images: int) -> None:
        self._boxes: list[Array] = []
        self._masks: list[Array] = []
        self._fills: list[Array] = []
        # The order in which `box_tightness` looks at images.
        order = random.Random(0).sample(range(images), images)
        self._rank = np.empty(images, dtype=np.int64)
        self._rank[order] = np.arange(images)
        self._fits = np.zeros((0, 2))

    def add(self, rows: Array) -> None:
        """Adds annotations, ROW sorted by image."""
        rows = rows[rows["state"] != _CROWD]
        box = rows["box"].astype(np.float64)
        areas = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
        self._boxes.append(areas)
        masked = rows["state"] == _MASK
        pixels = rows["pixels"][masked]
        self._masks.append(pixels)
        self._fills.append(pixels / areas[masked])
        self._add_fits(rows[masked], box[masked], areas[masked])

    def _add_fits(self, rows: Array, box: Array, areas: Array) -> None:
        """Keeps the IoU of boxes and masks of the images that are looked at first."""
        own = rows["own"].astype(np.float64)
        sides = own[:, 2:] - own[:, :2]
        shared = np.minimum(box[:, 2:], own[:, 2:]) - np.maximum(box[:, :2], own[:, :2])
        common = np.maximum(shared[:, 0], 0.0) * np.maximum(shared[:, 1], 0.0)
        union = areas + sides[:, 0] * sides[:, 1] - common
        fits = np.stack([self._rank[rows["image"]], common / np.maximum(union, 1e-9)], axis=1)
        fits = np.concatenate([self._fits, fits[sides.min(axis=1, initial=np.inf) >= SMALLEST]])
        self._fits = fits[np.argsort(fits[:, 0], kind="stable")[:ENOUGH]]

    def tightness(self) -> float | None:
        """Returns what `box_tightness` does."""
        found: list[float] = self._fits[:, 1].tolist()
        return sum(found) / len(found) if found else None

    def sizes(self) -> dict[str, Any]:
        """Returns what `sizes` of a file in memory does."""
        kinds = (self._boxes, np.float64), (self._masks, np.int64), (self._fills, np.float64)
        return size_table(*(np.concatenate([*some, np.zeros(0, kind)]) for some, kind in kinds))
