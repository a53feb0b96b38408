"""Which objects of a JSON text may have a key twice, decided with array operations.

A key is known by its length and its last eight bytes. So an object that repeats a key
is always found; one that does not may be found too, and is then read to see.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfmask.coco.problems import Problem, ProblemKind
from halfmask.coco.scan.batch import ListBatch, Spans
from halfmask.coco.scan.brackets import BLANK, QUOTE
from halfmask.files.regular import open_regular

_COLON, _BACKSLASH = ord(":"), ord("\\")
_MOST_BLANKS = 80
_LAYOUTS = 16
"""Sequences of keys that are compared with all objects; the others are sorted."""
_IS_BLANK = np.isin(np.arange(256), list(BLANK))

Array = NDArray[Any]


def may_repeat_keys(text: bytes, spans: Spans) -> list[int]:
    """Returns the rows of the objects that may have a key twice, at any depth.

    Args:
        text: holds the objects; between them are no strings.
        spans: int64 [n, 2], first byte and last byte + 1 of each.
    """
    data = np.frombuffer(text + bytes(_MOST_BLANKS + 1), dtype=np.uint8)
    found = np.zeros(len(spans), dtype=bool)
    if b"\\" in text:  # a key may be written in several ways
        _mark(found, np.flatnonzero(data == _BACKSLASH), spans)
    quotes = np.flatnonzero(data == QUOTE)
    closers = np.flatnonzero(_before_colon(data, quotes))
    if not len(closers):
        return np.flatnonzero(found).tolist()
    ends, starts = quotes[closers], quotes[closers - 1]
    keys = _identities(data, starts + 1, ends)
    bounds = np.searchsorted(ends, spans[:, 0]), np.searchsorted(ends, spans[:, 1])
    counts = bounds[1] - bounds[0]
    for count in np.unique(counts[counts > 1]).tolist():
        rows = np.flatnonzero(counts == count)
        table = keys[bounds[0][rows, None] + np.arange(count)]
        found[rows] |= _repeating(table)
    return np.flatnonzero(found).tolist()


def _mark(found: NDArray[np.bool_], places: Array, spans: Spans) -> None:
    rows = np.searchsorted(spans[:, 0], places, side="right") - 1
    found[rows[rows >= 0]] = True


def _before_colon(data: Array, quotes: Array) -> NDArray[np.bool_]:
    """Returns bool by quote: a colon comes next, perhaps after blanks.

    A quote before very many blanks counts too.
    """
    after = data[quotes + 1]
    colon: NDArray[np.bool_] = after == _COLON
    at, step = np.flatnonzero(_IS_BLANK[after]), 2
    while len(at) and step <= _MOST_BLANKS:
        after = data[quotes[at] + step]
        colon[at[after == _COLON]] = True
        at, step = at[_IS_BLANK[after]], step + 1
    colon[at] = True
    if len(colon):
        colon[0] = False  # it opens a string
    return colon


def _identities(data: Array, starts: Array, ends: Array) -> NDArray[np.uint64]:
    """Returns a number for each string, made of its length and its last eight bytes."""
    padded = np.concatenate([np.zeros(8, dtype=np.uint8), data])
    words = np.ndarray((len(data),), dtype="<u8", buffer=padded.data, strides=(1,))
    lengths = ends - starts
    unused = (8 * np.maximum(8 - lengths, 0)).astype(np.uint64)
    last = words[ends]  # the eight bytes before the closing quote
    short = np.where(unused >= 64, np.uint64(0), last >> np.minimum(unused, np.uint64(63)))
    with np.errstate(over="ignore"):
        mixed: NDArray[np.uint64] = short * np.uint64(0x9E3779B97F4A7C15) + lengths.astype(
            np.uint64
        )
    return mixed


def _repeating(table: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Returns bool by row of [m, n]: two of its n keys are equal."""
    found = np.zeros(len(table), dtype=bool)
    left = np.arange(len(table))
    for _ in range(_LAYOUTS):
        if not len(left):
            return found
        layout = table[left[0]]
        same = (table[left] == layout).all(axis=1)
        found[left[same]] = len(np.unique(layout)) < len(layout)
        left = left[~same]
    ordered = np.sort(table[left], axis=1)
    found[left] = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    return found


def repeated_key(pairs: list[tuple[str, Any]]) -> Problem | None:
    """Returns the finding about an object whose keys are not all different.

    Args:
        pairs: its keys and values, as JSON readers give them.
    """
    if len({key for key, _ in pairs}) == len(pairs):
        return None
    keys = [key for key, _ in pairs]
    twice = next(key for k, key in enumerate(keys) if key in keys[:k])
    values = dict(pairs)
    number = values.get("id")
    where = f"an object with the keys {', '.join(sorted(set(keys))[:4])}"
    if type(number) is int:
        kind = "image" if "file_name" in values else "object with id"
        where = f"{'annotation' if 'image_id' in values else kind} {number}"
    message = (
        f"{where}: the key {twice!r} occurs {keys.count(twice)} times, the last value counts: "
        f"{str(values[twice])[:40]}"
    )
    return Problem(ProblemKind.DUPLICATE_KEY, (number,) if type(number) is int else (), message)


def keys_of(text: bytes | str, found: list[Problem]) -> None:
    """Adds the keys that the objects of a JSON text have twice, inner objects first."""

    def look(pairs: list[tuple[str, Any]]) -> None:
        problem = repeated_key(pairs)
        found.extend([] if problem is None else [problem])

    json.loads(text, object_pairs_hook=look)


class ListKeys:
    """Looks for keys that objects of a list have twice, and where the list lies.

    Attributes:
        found: a finding for each object, in file order.
        first, last: first byte and last byte + 1 of the items; None without any.
    """

    def __init__(self, path: Path) -> None:
        self.found: list[Problem] = []
        self.first: int | None = None
        self.last: int | None = None
        self._path = path

    def look(self, batch: ListBatch) -> None:
        """Looks at the next items of the list."""
        if batch.decoded is not None:
            text, start, spans = batch.decoded.text, batch.start, batch.decoded.spans
        else:
            spans = np.array([s for s in batch.spans if s[0] >= 0], dtype=np.int64).reshape(-1, 2)
            start = int(spans[0, 0]) if len(spans) else 0
            text = read_bytes(self._path, start, int(spans[-1, 1])) if len(spans) else b""
            spans = spans - start
        if not len(spans):
            return
        if self.first is None:
            self.first = start + int(spans[0, 0])
        self.last = start + int(spans[-1, 1])
        for row in may_repeat_keys(text, spans):
            keys_of(text[spans[row, 0] : spans[row, 1]], self.found)


def read_bytes(path: Path, start: int, end: int) -> bytes:
    """Returns a part of a file."""
    with open_regular(path) as file:
        file.seek(start)
        return file.read(end - start)
