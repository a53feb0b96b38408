"""Pairs of annotations of one image that are equal, or seem to be the same object."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfmask.coco.doctor.checks import (
    CANDIDATE,
    SAME_BOX,
    SAME_MASK,
    near_duplicate,
    same_class_and_box,
)
from halfmask.coco.index.format import MASK_STATES
from halfmask.coco.problems import Problem
from halfmask.coco.supervision import MaskState
from halfmask.masks.rle import overlap

Array = NDArray[Any]

_PAIRS = 1 << 20
"""Pairs of boxes that are compared at once."""
_MASK, _CROWD = MASK_STATES.index(MaskState.MASK), MASK_STATES.index(MaskState.CROWD)


def exact_copies(rows: Array, image_ids: Array) -> Iterator[Problem]:
    """Yields the annotations with the class and box of an earlier one of their image.

    Args:
        rows: ROW, sorted by image.
        image_ids: int64, id of the image of each.
    """
    hashes = _hashes(rows)
    order = np.lexsort((hashes, rows["image"]))
    image, ordered = rows["image"][order], hashes[order]
    again = (image[1:] == image[:-1]) & (ordered[1:] == ordered[:-1])
    for number in np.unique(image[1:][again]).tolist():
        first, last = np.searchsorted(rows["image"], [number, number + 1]).tolist()
        some = rows[first:last]
        keys = zip(
            some["category"].tolist(),
            (some["state"] == _CROWD).tolist(),
            map(tuple, some["bbox"].tolist()),
            strict=True,
        )
        seen: dict[Any, int] = {}
        for key, annotation in zip(keys, some["id"].tolist(), strict=True):
            if key in seen:
                yield same_class_and_box(seen[key], annotation, int(image_ids[first]))
            seen.setdefault(key, annotation)


def _hashes(rows: Array) -> NDArray[np.uint64]:
    """Returns a number for class, crowd and box; equal ones have the same."""
    mixed = np.where(rows["state"] == _CROWD, np.uint64(3), np.uint64(5))
    columns = [rows["category"], *(rows["bbox"].T + 0.0)]  # −0 becomes 0
    with np.errstate(over="ignore"):
        for column in columns:
            bits = np.ascontiguousarray(column).view(np.uint64)
            mixed = (mixed ^ bits ^ (bits >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(32)
    return mixed


def alike(
    rows: Array,
    *,
    mask_of: Callable[[int], Any],
    size_of: Callable[[int], tuple[int, int]],
    names: Sequence[str],
) -> Iterator[Problem]:
    """Yields the pairs that `near_duplicates` finds, in the same order.

    Args:
        rows: ROW, sorted by image.
        mask_of: returns the segmentation of a row.
        size_of: returns (H, W) of the image of a row.
        names: of the class of each row.
    """
    kept = np.flatnonzero(rows["state"] != _CROWD)
    own = rows[kept]
    for i, j, ratio in _close(own):
        masked = (own["state"][i] == _MASK) & (own["state"][j] == _MASK)
        same = (own["bbox"][i] == own["bbox"][j]).all(axis=1)
        same &= own["category"][i] == own["category"][j]
        pixels = own["pixels"][i], own["pixels"][j]
        # Masks of which one is so much smaller cannot pass.
        most = np.minimum(*pixels) / np.maximum(np.maximum(*pixels), 1)
        wanted = ~same & np.where(masked, most > SAME_MASK, ratio > SAME_BOX)
        for k in np.flatnonzero(wanted).tolist():
            one, other = int(kept[i[k]]), int(kept[j[k]])
            value = float(ratio[k])
            if masked[k]:
                value = overlap(mask_of(one), mask_of(other), size_of(one))
            if value > (SAME_MASK if masked[k] else SAME_BOX):
                ids = int(rows["id"][one]), int(rows["id"][other])
                what = "masks" if masked[k] else "boxes"
                yield near_duplicate(ids, (names[one], names[other]), what, value=value)


def _close(rows: Array) -> Iterator[tuple[Array, Array, Array]]:
    """Yields positions of both of some pairs, in order, and the IoU of their boxes."""
    count = len(rows)
    last = np.searchsorted(rows["image"], rows["image"], side="right")
    followers = last - np.arange(count) - 1
    boxes = rows["box"].astype(np.float64)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    sums = np.cumsum(followers)
    first = 0
    while first < count:
        before = int(sums[first - 1]) if first else 0
        end = max(first + 1, int(np.searchsorted(sums, before + _PAIRS, side="right")))
        some = followers[first:end]
        i = np.repeat(np.arange(first, end), some)
        j = i + 1 + np.arange(len(i)) - np.repeat(np.cumsum(some) - some, some)
        width = np.minimum(boxes[i, 2], boxes[j, 2]) - np.maximum(boxes[i, 0], boxes[j, 0])
        height = np.minimum(boxes[i, 3], boxes[j, 3]) - np.maximum(boxes[i, 1], boxes[j, 1])
        both = np.maximum(width, 0.0) * np.maximum(height, 0.0)
        union = areas[i] + areas[j] - both
        close = both > CANDIDATE * union
        yield i[close], j[close], both[close] / np.maximum(union[close], 1e-9)
        first = end
