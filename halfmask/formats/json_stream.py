"""Reads large JSON files item by item, so the whole document is never in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

import ijson

from halfmask.coco.scan.brackets import Brackets
from halfmask.errors import InputError
from halfmask.files.regular import open_regular

MOST_DEPTH = 1_000
"""Levels of nesting, as many as Python's own reader takes."""
T = TypeVar("T")
CountBytes = Callable[[int], None]
"""Called with the number of bytes read since the last call."""


def stream_items(
    path: Path, prefix: str = "item", progress: CountBytes | None = None
) -> Iterator[Any]:
    """Yields the items at a prefix of a JSON file.

    Args:
        path: a UTF-8 JSON file.
        prefix: ijson's notation: `item` for the items of a file that is one list,
            `images.item.id` for the ids of a COCO file's images.
        progress: receives the bytes read.
    Raises:
        InputError: the file is missing, not JSON, cut short, or not the list (or
            object) that the prefix needs.
    """
    expected = "[" if prefix.split(".")[0] == "item" else "{"
    try:
        with open_regular(path) as file:
            _check_start(file.read(64), expected, path)
            file.seek(0)
            yield from counted(
                ijson.items(_Shallow(file, path), prefix, use_float=True), file, progress
            )
    except ijson.JSONError as error:
        raise InputError(
            f"{path}: not JSON, or cut short: {_line(error)}; download or unpack it again"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8, found an invalid byte {error.start}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


class _Shallow:
    """Reads a file for ijson, whose time for each level of nesting grows with its depth."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path = file, path
        self._brackets = Brackets()

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        if block:
            self._brackets.find(block)
        if self._brackets.deepest > MOST_DEPTH:
            raise InputError(
                f"{self._path}: lists or objects nested deeper than {MOST_DEPTH} levels"
            )
        return block


def counted(items: Iterator[T], file: IO[bytes], progress: CountBytes | None) -> Iterator[T]:
    """Yields items that are read from a file, and reports the bytes read."""
    seen = 0
    for item in items:
        yield item
        if progress is not None and file.tell() != seen:
            progress(file.tell() - seen)
            seen = file.tell()


def _check_start(start: bytes, expected: str, path: Path) -> None:
    found = start.lstrip()[:1].decode("ascii", "replace")
    if found != expected:
        kind = {"[": "a JSON list", "{": "a JSON object"}
        raise InputError(
            f"{path}: expected {kind[expected]}, found {kind.get(found, 'something else')}"
        )


def _line(error: Exception) -> str:
    text = " ".join(str(error).replace("b'", "").split())
    return text if len(text) <= 120 else text[:119] + "…"
