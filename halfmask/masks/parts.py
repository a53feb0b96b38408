"""The connected parts of a bitmap, found by its runs: large masks cost little."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfmask.masks.rle import Bitmap


def parts_of(bitmap: NDArray[Any]) -> NDArray[np.int32]:
    """Labels the connected parts of a bitmap; a touching corner connects.

    Args:
        bitmap: [h, w]; a pixel is in the mask where it is greater than 0.
    Returns:
        int32 [h, w]: 0 outside, then 1 for the largest part, 2 for the next, …; parts
            of equal size from top to bottom.
    """
    inside = np.asarray(bitmap) > 0
    rows, starts, ends = _runs(inside)
    out = np.zeros(inside.shape, dtype=np.int32)
    if not len(rows):
        return out
    pairs = _touching(rows, starts, ends, width=inside.shape[1])
    roots = _roots(len(rows), *pairs)
    known, part = np.unique(roots, return_inverse=True)
    sizes = np.bincount(part, weights=ends - starts)
    place = np.empty(len(known), dtype=np.int32)
    place[np.argsort(-sizes, kind="stable")] = np.arange(1, len(known) + 1)
    out[inside] = np.repeat(place[part], ends - starts)
    return out


def part_at(bitmap: NDArray[Any], x: int, y: int) -> Bitmap:
    """Returns the connected part that a pixel lies in, uint8 [h, w]; empty outside."""
    labels = parts_of(bitmap)
    label = labels[y, x]
    found: Bitmap = ((labels == label) & (label > 0)).astype(np.uint8)
    return found


def _runs(
    inside: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Returns row, first column and last column + 1 of every run, in reading order."""
    h, w = inside.shape
    padded = np.zeros((h, w + 2), dtype=bool)
    padded[:, 1:-1] = inside
    flat = padded.reshape(-1)
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    rows, columns = np.divmod(edges, w + 2)
    return rows[::2], columns[::2], columns[1::2]


def _touching(
    rows: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64], *, width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns pairs of runs in neighbouring rows that touch."""
    stride = width + 4
    first = np.searchsorted(rows * stride + ends, (rows + 1) * stride + starts, side="left")
    behind = np.searchsorted(rows * stride + starts, (rows + 1) * stride + ends, side="right")
    counts = np.maximum(behind - first, 0)
    upper = np.repeat(np.arange(len(rows)), counts)
    within = np.arange(len(upper)) - np.repeat(np.cumsum(counts) - counts, counts)
    return upper, np.repeat(first, counts) + within


def _roots(count: int, ones: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the smallest member of each element's connected set."""
    roots = np.arange(count)
    while True:
        least = np.minimum(roots[ones], roots[others])
        new = roots.copy()
        np.minimum.at(new, roots[ones], least)
        np.minimum.at(new, roots[others], least)
        new = new[new]
        while (new[new] != new).any():
            new = new[new]
        if (new == roots).all():
            return roots
        roots = new
