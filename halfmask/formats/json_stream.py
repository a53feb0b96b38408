"""Reads large JSON files item by item, so the whole document is never in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

import ijson

from halfmask.errors import InputError

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
        with path.open("rb") as file:
            _check_start(file.read(64), expected, path)
            file.seek(0)
            yield from counted(ijson.items(file, prefix, use_float=True), file, progress)
    except ijson.JSONError as error:
        raise InputError(
            f"{path}: not JSON, or cut short: {_line(error)}; download or unpack it again"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8, found an invalid byte {error.start}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


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
