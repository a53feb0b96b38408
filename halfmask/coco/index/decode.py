"""Reads many images or annotations at once into Arrow columns, as COCO's types.

Arrow's JSON reader is several times as fast as Python's. It refuses what has another
type, and what is no JSON; such records are left to Python's reader. Where Arrow accepts
more than Python does, the text is left to Python as a whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any

import numpy as np

from halfmask.coco.index.format import Array
from halfmask.coco.scan.brackets import commas_between

_FEWEST = 64
"""Records that are read one by one if one of them has another type."""
_LEAST = 8
"""Times as many records after which so few may be read at once that it does not pay."""
_DIGITS, _STEP = 4300, 64
"""Python reads no number of more digits; the text is looked at in steps."""
_CONSTANT = re.compile(rb"NaN|Inf")
_MASK_FORM = re.compile(rb'"segmentation"\s*:\s*\{|"counts"\s*:\s*\[')


class Form(IntEnum):
    """What a group of records is; of annotations, how their masks are written."""

    POLYGONS = 0
    """Lists of polygons, or no mask."""
    TEXT = 1
    """Compressed RLE."""
    RUNS = 2
    """Uncompressed RLE."""
    IMAGES = 3
    """No annotations, but images."""


@dataclass(frozen=True)
class Group:
    """Records that are written alike.

    Attributes:
        rows: int64, their positions among the items.
        form: see `Form`.
        table: Arrow table, see `_schema`.
    """

    rows: Array
    form: Form
    table: Any


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """Images or annotations as columns.

    Attributes:
        text: the JSON text.
        spans: int64 [n, 2], first byte and last byte + 1 of each in the text.
        groups: the records that Arrow read.
        others: position → JSON value, for the records that it did not.
    """

    text: bytes
    spans: Array
    groups: list[Group]
    others: dict[int, Any]

    def item(self, row: int) -> Any:
        """Returns a record as a JSON value."""
        found = self.others.get(row)
        return self._parsed(row) if found is None else found

    def _parsed(self, row: int) -> Any:
        start, end = self.spans[row].tolist()
        return json.loads(self.text[start:end])


def decode_with_area(key: str, text: bytes, spans: Array, *, is_guess: bool) -> Decoded | None:
    """Reads records as `decode_records` does, annotations with their `area`."""
    return _decode(key, text, spans, is_guess=is_guess, area=True)


def decode_records(key: str, text: bytes, spans: Array, *, is_guess: bool) -> Decoded | None:
    """Reads records; None if Python's JSON reader might read the text in another way.

    Args:
        key: name of their list; only `images` and `annotations` are read.
        text: JSON, perhaps damaged.
        spans: int64 [n, 2], of each record in it.
        is_guess: see `Decode`.
    """
    return _decode(key, text, spans, is_guess=is_guess, area=False)


def _decode(key: str, text: bytes, spans: Array, *, is_guess: bool, area: bool) -> Decoded | None:
    if key not in ("images", "annotations"):
        return None
    commas = commas_between(text, spans)
    if commas is None or not _is_plain(text):
        return None
    blank = bytearray(text)
    np.frombuffer(blank, dtype=np.uint8)[commas] = ord(" ")
    every = np.arange(len(spans))
    forms = [(Form.IMAGES, every)] if key == "images" else _forms(text, spans)
    fewest = len(spans) if is_guess else _FEWEST
    read = _read(blank, spans, forms, fewest=fewest, area=area)
    if read is None or (read[1] and is_guess):
        return None
    groups, failed = read
    found = Decoded(text=text, spans=spans, groups=groups, others={})
    try:
        found.others.update(
            (row, json.loads(text[slice(*spans[row])], parse_constant=_refuse))
            for row in sorted(failed)
        )
    except (ValueError, RecursionError):  # damaged: the whole text is read to say where
        return None
    return found


def _read(
    text: bytearray, spans: Array, forms: Iterable[tuple[Form, Array]], *, fewest: int, area: bool
) -> tuple[list[Group], list[int]] | None:
    """Returns what Arrow reads, and the rows of the rest; None if that is most of it."""
    groups: list[Group] = []
    failed: list[int] = []
    tried = 0
    for form, rows in forms:
        for part, table in _tables(text, spans, rows, schema=_schema(form, area), fewest=fewest):
            tried += len(part)
            if table is not None:
                groups.append(Group(part, form, table))
                continue
            failed += part.tolist()
            if tried >= _LEAST * fewest and 2 * len(failed) > tried:
                return None
    return groups, failed


def _refuse(literal: str) -> float:
    raise ValueError(literal)


def _is_plain(text: bytes) -> bool:
    """Whether Python's JSON reader surely accepts what Arrow's accepts."""
    if not text.isascii():
        try:
            text.decode("utf-8")
        except UnicodeDecodeError:
            return False
    if (b"N" in text or b"I" in text) and _CONSTANT.search(text):
        return False
    seen = np.frombuffer(text, dtype=np.uint8)[::_STEP]
    digits = np.concatenate([[0], np.cumsum((seen >= ord("0")) & (seen <= ord("9")))])
    run = _DIGITS // _STEP
    return not (digits[run:] - digits[:-run] == run).any()


def _forms(text: bytes, spans: Array) -> Iterator[tuple[Form, Array]]:
    """Yields the rows of each form, as far as a look at the text says.

    A wrong guess costs time alone: Arrow refuses what it cannot read.
    """
    forms = np.zeros(len(spans), dtype=np.int8)
    objects = np.count_nonzero(np.frombuffer(text, dtype=np.uint8) == ord("{"))
    if objects > len(spans):
        for match in _MASK_FORM.finditer(text):
            row = int(np.searchsorted(spans[:, 0], match.start(), side="right")) - 1
            form = Form.TEXT if match.group().endswith(b"{") else Form.RUNS
            forms[max(row, 0)] = max(forms[max(row, 0)], form)
    for form in (Form.POLYGONS, Form.TEXT, Form.RUNS):
        rows = np.flatnonzero(forms == form)
        if len(rows):
            yield form, rows


def _tables(
    text: bytearray, spans: Array, rows: Array, *, schema: Any, fewest: int
) -> Iterator[tuple[Array, Any]]:
    """Yields rows with their table; without one where Arrow cannot read them."""
    table = _table(_text_of(text, spans, rows), schema)
    if table is not None and len(table) == len(rows):
        yield rows, table
    elif len(rows) <= fewest:
        yield rows, None
    else:
        half = len(rows) // 2
        for part in (rows[:half], rows[half:]):
            yield from _tables(text, spans, part, schema=schema, fewest=fewest)


def _text_of(text: bytearray, spans: Array, rows: Array) -> bytes | memoryview:
    """Returns the text of some items, one after the other without commas."""
    first, last = int(rows[0]), int(rows[-1])
    if last - first == len(rows) - 1:
        return memoryview(text)[int(spans[first, 0]) : int(spans[last, 1])]
    return b"\n".join(text[start:end] for start, end in spans[rows].tolist())


def _table(text: bytes | memoryview, schema: Any) -> Any:
    """Returns the Arrow table of the text; None if Arrow refuses it."""
    import pyarrow as pa
    from pyarrow import json as reader

    try:
        return reader.read_json(
            pa.BufferReader(text),
            read_options=reader.ReadOptions(use_threads=False, block_size=len(text) + 1),
            parse_options=reader.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="ignore", newlines_in_values=True
            ),
        ).combine_chunks()
    except (pa.ArrowException, ValueError, MemoryError):
        return None


@cache
def _schema(form: Form, area: bool) -> Any:
    """The columns that say what a record teaches; others are skipped."""
    import pyarrow as pa

    if form is Form.IMAGES:
        whole = pa.int64()
        sides = [("height", whole), ("width", whole)]
        return pa.schema([("id", whole), *sides, ("file_name", pa.large_string())])
    number, whole, numbers = pa.float64(), pa.int64(), pa.list_(pa.float64())
    size, points = ("size", pa.list_(whole)), ("all_points_x", numbers)
    masks = {
        Form.POLYGONS: pa.list_(numbers),
        Form.TEXT: pa.struct([size, ("counts", pa.string()), points]),
        Form.RUNS: pa.struct([size, ("counts", pa.list_(whole)), points]),
    }
    return pa.schema(
        [
            ("id", whole),
            ("image_id", whole),
            ("category_id", whole),
            ("iscrowd", whole),
            ("bbox", numbers),
            ("segmentation", masks[form]),
            ("halfmask", pa.struct([("state", pa.string())])),
            ("attributes", pa.struct([("rotation", number)])),
            *([("area", number)] if area else []),
        ]
    )
