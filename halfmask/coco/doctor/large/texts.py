"""Findings about single annotations of some images, fast ones and slow ones in order."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfmask.coco.doctor.checks import DISAGREES, TEXTS, THIN_SIDE, TINY_AREA
from halfmask.coco.doctor.findings import ColumnBlock, Findings, Row, TextBlock
from halfmask.coco.doctor.large.rows import FORMS
from halfmask.coco.index.format import MASK_STATES
from halfmask.coco.index.images import IndexImages
from halfmask.coco.problems import ProblemKind
from halfmask.coco.reading.conventions import STICKS_OUT
from halfmask.coco.supervision import MaskState

Array = NDArray[Any]

_MASK, _CROWD = MASK_STATES.index(MaskState.MASK), MASK_STATES.index(MaskState.CROWD)
_TEXT = FORMS.index("text")


class Texts:
    """The findings about the annotations of some images, each by itself.

    Args:
        rows: ROW, sorted by image.
        images: of the file.
    """

    def __init__(self, rows: Array, images: IndexImages) -> None:
        self._rows, self._images = rows, images
        self._alone: dict[ProblemKind, list[tuple[int, Row]]] = {}
        self._fast: dict[ProblemKind, tuple[Array, tuple[Array, ...]]] = {}

    def add(self, kind: ProblemKind, k: int, message: str) -> None:
        """Adds a finding about row k, after those of earlier rows."""
        row: Row = (int(self._rows["id"][k]),), message
        self._alone.setdefault(kind, []).append((k, row))

    def add_fast(self) -> None:
        """Adds the findings of `findings_of` about the rows that were not read alone."""
        at = np.flatnonzero(self._rows["alone"] == 0)
        rows = self._rows[at]
        sizes = self._images.sizes_of(rows["image"])
        x, y, w, h = rows["bbox"].T
        beyond = np.maximum(
            np.maximum(-x, -y), np.maximum(x + w - sizes[:, 1], y + h - sizes[:, 0])
        )
        sticks = beyond > STICKS_OUT
        self._put(ProblemKind.BOX_STICKS_OUT, at, sticks, beyond, sizes[:, 1], sizes[:, 0])
        none = np.isnan(rows["area"])
        self._put(ProblemKind.NO_AREA, at, none)
        area = np.where(none, w * h, rows["area"])
        single, masked = rows["state"] != _CROWD, rows["state"] == _MASK
        worst = _worst(rows["own"], rows["bbox"], sizes)
        self._put(ProblemKind.BOX_DISAGREES, at, masked & (worst > DISAGREES), worst)
        self._put(ProblemKind.NON_OVERLAPPING_MASK, at, masked & (rows["form"] == _TEXT))
        self._put(ProblemKind.TINY, at, single & (area < TINY_AREA), area)
        self._put(ProblemKind.THIN, at, single & (np.minimum(w, h) < THIN_SIDE), w, h)

    def put_into(self, findings: Findings) -> None:
        """Appends all to the findings of the file."""
        for kind in self._alone.keys() | self._fast.keys():
            at, columns = self._fast.get(kind, (np.zeros(0, dtype=np.int64), ()))
            alone = self._alone.get(kind, [])
            block = ColumnBlock(
                f"annotation {{}}: {TEXTS.get(kind, '')}", self._rows["id"][at], *columns
            )
            if not alone:
                findings.add(kind, block)
                continue
            mixed = [*zip(at.tolist(), block.rows(), strict=True), *alone]
            mixed.sort(key=lambda pair: pair[0])
            findings.add(kind, TextBlock([row for _, row in mixed]))

    def _put(self, kind: ProblemKind, at: Array, chosen: Array, *columns: Array) -> None:
        if chosen.any():
            self._fast[kind] = at[chosen], tuple(column[chosen].copy() for column in columns)


def _worst(own: Array, bbox: Array, sizes: Array) -> Array:
    """Returns how far a side of each box is from its mask's, both on the image."""
    near, far = np.maximum(bbox[:, :2], 0), bbox[:, :2] + bbox[:, 2:]
    corners = np.concatenate([near, np.minimum(far, sizes[:, ::-1])], axis=1)
    worst: Array = np.abs(own - corners).max(axis=1, initial=0.0)
    return worst
