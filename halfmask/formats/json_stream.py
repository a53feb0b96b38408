"""Reads large JSON files piece by piece: what is in memory is one item, never the document."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ijson

from halfmask.errors import InputError

Progress = Callable[[int], None]


def stream_items(
    path: Path, prefix: str = "item", progress: Progress | None = None
) -> Iterator[Any]:
    """The items below a place of a JSON file, one after another.

    Args:
        path: a UTF-8 JSON file.
        prefix: the place as ijson writes it: `item` for those of a file that is one
            list, `images.item.id` for the ids of a COCO file's images.
        progress: told how many more bytes were read.
    Raises:
        InputError: the file is missing, no JSON, cut short, or not the list (or object)
            that the prefix speaks of.
    """
    expected = "[" if prefix.startswith("item") else "{"
    try:
        with path.open("rb") as file:
            _check_start(file.read(64), expected, path)
            file.seek(0)
            seen = 0
            for item in ijson.items(file, prefix, use_float=True):
                yield item
                if progress is not None and file.tell() != seen:
                    progress(file.tell() - seen)
                    seen = file.tell()
    except ijson.JSONError as error:
        raise InputError(
            f"{path}: not JSON, or cut short: {_line(error)}; download or unpack it again"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: expected UTF-8, byte {error.start} of an item is none"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


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
