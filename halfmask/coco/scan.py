"""Reads a COCO file item by item and tells which bytes of the file each item is, so that it can be read or replaced alone."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from halfmask.errors import InputError

BLOCK = 1 << 20
"""Bytes read at once; a longer item takes as many as it needs."""
LISTS = frozenset({"images", "annotations", "categories"})
_SPACE = re.compile(r"[ \t\n\r]*")
_AFTER = frozenset(" \t\n\r,:]}")
_NEAR = 16
"""An error so near to the end of what was read may only mean that the item goes on."""
_BOM = "\xef\xbb\xbf"


class Item(NamedTuple):
    """One item of the lists images, annotations and categories, and its place: bytes start … end − 1 of the file."""

    list: str
    value: Any
    start: int
    end: int


class Scan:
    """One pass over a COCO file; iterate over it once. In memory is one block of the file, never the document.

    Attributes:
        digest: SHA-256 of the file, once the iteration has ended.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.digest = ""

    def __iter__(self) -> Iterator[Item]:
        """The items in the order of the file.

        Raises:
            InputError: missing, cut short, no JSON in UTF-8, or no COCO file.
        """
        expected = f"{self.path}: expected a COCO instances file"
        try:
            with self.path.open("rb") as file:
                window = _Window(file)
                yield from _document(window)
                self.digest = window.digest()
        except json.JSONDecodeError as error:
            raise InputError(f"{expected}, found something else, or it is cut short: {error.msg}") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{expected} in UTF-8, found bytes that are none; save it as UTF-8") from error
        except (RecursionError, ValueError) as error:
            raise InputError(f"{expected}: {error}") from error
        except OSError as error:
            raise InputError(f"{expected}, cannot read it: {error.strerror or error}") from error


class _Window:
    """The part of the file that is looked at, one character a byte (latin-1), so that places in it are bytes of the file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._decoder = json.JSONDecoder()
        self._text = ""
        self._at = 0
        self._base = 0
        self._step = BLOCK

    def peek(self) -> str:
        """The next character that is no space; "" at the end of the file."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def take(self, expected: str) -> str:
        """Goes past the next character, which must be one of `expected`."""
        found = self.peek()
        if not found or found not in expected:
            raise json.JSONDecodeError(f"expected {' or '.join(expected)}, found {found or 'its end'}", "", 0)
        self._at += 1
        return found

    def value(self) -> tuple[Any, int, int]:
        """The next JSON value, its first byte and its last + 1."""
        self.peek()
        while True:
            try:
                found, end = self._decoder.raw_decode(self._text, self._at)
                whole = self._text[end : end + 1] in _AFTER or end < len(self._text) - _NEAR
            except json.JSONDecodeError as error:
                cut = error.pos >= len(self._text) - _NEAR or error.msg.startswith("Unterminated")
                if not cut or not self._more():
                    raise
                continue
            if whole or not self._more():
                break
        piece = self._text[self._at : end]
        start, self._at, self._step = self._base + self._at, end, BLOCK
        if not piece.isascii():
            found = json.loads(piece.encode("latin-1"))
        return found, start, start + len(piece)

    def skip_mark(self) -> None:
        """Goes past a byte order mark."""
        while len(self._text) < len(_BOM) and self._more():
            pass
        if self._text.startswith(_BOM):
            self._at += len(_BOM)

    def digest(self) -> str:
        """SHA-256 of the whole file."""
        while self._more():
            self._at = len(self._text)
        return self._hash.hexdigest()

    def _more(self) -> bool:
        """Reads on, twice as much each time that an item does not fit; drops what lies behind."""
        block = self._file.read(self._step)
        if not block:
            return False
        self._step *= 2
        self._hash.update(block)
        self._text = self._text[self._at :] + block.decode("latin-1")
        self._base += self._at
        self._at = 0
        return True


def _document(window: _Window) -> Iterator[Item]:
    window.skip_mark()
    window.take("{")
    seen: set[str] = set()
    more = window.peek() != "}"
    while more:
        key = window.value()[0]
        if not isinstance(key, str):
            raise ValueError("a key is no text")
        window.take(":")
        if key in seen:
            raise ValueError(f"it has {key} twice; leave one out")
        if key in LISTS:
            seen.add(key)
            yield from _items(window, key)
        else:
            window.value()
        more = window.take(",}") == ","
    if missing := sorted(LISTS - seen):
        raise ValueError(f"{' and '.join(missing)} are not there")


def _items(window: _Window, key: str) -> Iterator[Item]:
    window.take("[")
    if window.peek() == "]":
        window.take("]")
        return
    while True:
        yield Item(key, *window.value())
        if window.take(",]") == "]":
            return
