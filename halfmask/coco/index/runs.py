"""Which of many RLE masks are surely sound, decided with array operations.

The rules are those of `halfmask.masks.rle.fault_of_rle`. An RLE about which this file
is not sure may still be sound.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from halfmask.coco.index.format import Array
from halfmask.masks.rle import LONGEST_RUN

_MOST_DIGITS = 8


def sound_rles(column: Any, sizes: Array, *, is_text: bool) -> Array:
    """Returns bool by row: an RLE of its image's size, with a pixel.

    Args:
        column: Arrow column of objects with size, counts and all_points_x, or null.
        sizes: int64 [rows, 2], H and W of the image of each.
        is_text: whether the counts are compressed.
    """
    size, counts, points = (column.field(k) for k in range(3))
    sound = _equals(size, sizes) & np.asarray(points.is_null()) & np.asarray(column.is_valid())
    bounds = _bounds(counts)
    sound &= np.diff(bounds) > 0
    if is_text:
        data = counts.buffers()[2]
        digits = np.frombuffer(data or b"", dtype=np.uint8)[bounds[0] : bounds[-1]]
        return _sound_text(digits, bounds - bounds[0], sizes, sound=sound)
    numbers = counts.values
    if numbers.null_count:
        return np.zeros(len(sound), dtype=bool)
    return _sound_runs(numbers.to_numpy(), bounds, sizes, sound=sound)


def _equals(column: Any, sizes: Array) -> Array:
    """Returns bool by row: the list has the two numbers."""
    bounds = _bounds(column)
    equal: Array = np.diff(bounds) == 2
    if column.values.null_count or not equal.any():
        return np.zeros(len(equal), dtype=bool)
    at = np.flatnonzero(equal)
    found = column.values.to_numpy()[bounds[at, None] + [0, 1]]
    equal[at] = (found == sizes[at]).all(axis=1)
    return equal


def _bounds(column: Any) -> Array:
    """Returns int64 [rows + 1], where the bytes or items of each row begin."""
    import pyarrow as pa

    if pa.types.is_string(column.type):
        offsets = np.frombuffer(column.buffers()[1], dtype=np.int32)
        return offsets[column.offset : column.offset + len(column) + 1].astype(np.int64)
    bounds: Array = column.offsets.to_numpy().astype(np.int64)
    return bounds


def _sound_text(data: Array, bounds: Array, sizes: Array, *, sound: Array) -> Array:
    """Reads the compressed counts of all rows at once.

    Args:
        data: uint8, the characters of all rows.
        bounds: int64 [rows + 1].
        sizes: int64 [rows, 2].
        sound: bool by row so far.
    """
    digits = data.astype(np.int64) - 48
    # Characters that COCO does not use, and counts that end within a number.
    wrong = np.concatenate([[0], np.cumsum((digits < 0) | (digits > 63))])
    sound = sound & (wrong[bounds[1:]] == wrong[bounds[:-1]])
    rows = np.flatnonzero(sound)
    rows = rows[(digits[bounds[1:][rows] - 1] & 32) == 0]
    lengths = np.diff(bounds)[rows]
    digits = digits[_concatenated(bounds[:-1][rows], lengths)]
    last = np.flatnonzero((digits & 32) == 0)
    starts = np.concatenate([[0], last[:-1] + 1])[: len(last)]
    widths = last - starts + 1
    ends_of_row = np.searchsorted(last, np.cumsum(lengths) - 1) + 1
    of_row = np.concatenate([[0], ends_of_row])
    found = np.zeros(len(sound), dtype=bool)
    if not len(last):
        return found
    place = np.minimum(np.arange(len(digits)) - np.repeat(starts, widths), _MOST_DIGITS)
    runs = np.add.reduceat((digits & 31) << (5 * place), starts)
    narrow = np.minimum(widths, _MOST_DIGITS)
    runs -= np.where(digits[last] & 16, np.int64(1) << (5 * narrow), 0)
    runs = _summed(runs, of_row)
    long = np.concatenate([[0], np.cumsum(widths > _MOST_DIGITS)])
    short = long[of_row[1:]] == long[of_row[:-1]]
    found[rows] = short & _sound_runs(runs, of_row, sizes[rows], sound=short)
    return found


def _summed(differences: Array, bounds: Array) -> Array:
    """Adds up each row's numbers that are differences to the one two before."""
    counts = np.diff(bounds)
    starts = np.repeat(bounds[:-1], counts)
    place = np.arange(len(differences)) - starts
    runs = differences.copy()
    for first in (1, 2):
        at = np.flatnonzero((place >= first) & (place % 2 == first % 2))
        if len(at):
            sums = np.cumsum(differences[at])
            begins = np.flatnonzero(place[at] == first)
            before = sums[begins] - differences[at][begins]
            runs[at] = sums - np.repeat(before, np.diff(np.append(begins, len(at))))
    return runs


def _sound_runs(runs: Array, bounds: Array, sizes: Array, *, sound: Array) -> Array:
    """Whether the runs of each row cover the image, and the second ones a pixel."""
    found = np.zeros(len(sound), dtype=bool)
    rows = np.flatnonzero(sound)
    if not len(rows):
        return found
    counts = np.diff(bounds)[rows]
    runs = runs[_concatenated(bounds[:-1][rows], counts)]
    starts = np.cumsum(counts) - counts
    place = np.arange(len(runs)) - np.repeat(starts, counts)
    low, high = np.minimum.reduceat(runs, starts), np.maximum.reduceat(runs, starts)
    drawn = np.add.reduceat(np.where(place % 2, runs, 0), starts)
    in_range = (low >= 0) & (high <= LONGEST_RUN)
    covers = np.add.reduceat(runs, starts) == sizes[rows].prod(axis=1)
    found[rows] = in_range & covers & (drawn > 0)
    return found


def _concatenated(starts: Array, lengths: Array) -> Array:
    """Returns the positions of spans, one after the other."""
    first = np.cumsum(lengths) - lengths
    places: Array = np.arange(int(lengths.sum())) + np.repeat(starts - first, lengths)
    return places
