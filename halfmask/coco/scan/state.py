"""The state of a scan of a large JSON file; `scan_lists` feeds it with chunks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfmask.coco.records import EXPECTED_ROOT, LISTS, check_lists
from halfmask.coco.scan.batch import DEEPEST, LONGEST, LONGEST_AGAIN, MIB, Decode, ListBatch, Spans
from halfmask.coco.scan.brackets import BLANK, LOWER, OPEN, Brackets
from halfmask.coco.scan.guess import guess_objects
from halfmask.errors import InputError

_GUESSES = 2
"""Wrong guesses in a row after which there is no other."""
_NO_STARTS: NDArray[np.int64] = np.zeros(0, dtype=np.int64)


@dataclass(kw_only=True)
class Scan:
    """State of the scan of a file.

    Attributes:
        end: bytes read so far.
        window: the bytes before `end` that are still needed, from `mark` on; empty
            while a value is skipped.
        keys: keys of the root so far; `lists` are those whose value is a list.

    Brackets are known up to `_looked`. `_guesses` more may be wrong.
    """

    path: Path
    take: Callable[[str], bool]
    constants: set[str]
    decode: Decode | None
    end: int = 0
    window: bytes = b""
    mark: int = 0
    keys: list[str] = field(default_factory=list)
    lists: set[str] = field(default_factory=set)
    _brackets: Brackets = field(default_factory=Brackets)
    _key: str | None = None
    _taking: bool = True
    _kind: int = 0
    _count: int = 0
    _starts: NDArray[np.int64] = field(default_factory=lambda: _NO_STARTS)
    _closed: bool = False
    _looked: int = 0
    _guesses: int = _GUESSES

    def read(self, chunk: bytes) -> Iterator[ListBatch]:
        """Yields the items that end in the next chunk, perhaps without the last ones."""
        self.window += chunk
        self.end += len(chunk)
        if (batch := self._guess()) is not None:
            yield batch
            self.window = self._bytes(self.mark, self.end)
        else:
            yield from self.rest()

    def rest(self) -> Iterator[ListBatch]:
        """Yields the items that end in what was not looked at."""
        text, first = self._bytes(self._looked, self.end), self._looked
        at, step, depth = self._brackets.find(text)
        at, self._looked = at + first, self.end
        root = np.flatnonzero(np.where(step > 0, depth <= 2, depth <= 1))
        start = 0
        for event in root.tolist():
            yield from self._items(at[start:event], step[start:event])
            yield from self._root(int(at[event]), int(step[event]), int(depth[event]))
            start = event + 1
        yield from self._items(at[start:], step[start:])
        self.window = self._bytes(self.mark, self.end) if self._taking else b""
        self._look_again()
        if len(self.window) > LONGEST:
            raise self._fault(f"an item of more than {LONGEST // MIB} MiB", self.mark)

    def _guess(self) -> ListBatch | None:
        """Reads the items of the current list that seem to end in the window."""
        if self._guesses < 1 or not self._is_between:
            return None
        text = self._bytes(self.mark, self.end)
        spans = guess_objects(text, DEEPEST)
        if spans is None:
            return None
        end = self.mark + int(spans[-1, 1])
        batch = self._decode(text[: end - self.mark], spans + self.mark, is_guess=True)
        self._guesses = self._guesses - 1 if batch is None else _GUESSES
        if batch is not None:
            self.mark = self._looked = end
        return batch

    @property
    def _is_between(self) -> bool:
        """Whether nothing but blanks and items lies before what was looked at."""
        in_list = self._taking and self._key in self.lists and not self._closed
        return in_list and self._looked == self.mark and self.decode is not None

    def _look_again(self) -> None:
        """Forgets the brackets after the last item, so that a guess can begin there."""
        in_list = self._key in self.lists and self._taking and not self._closed
        if self.decode is not None and in_list and self.end - self.mark < LONGEST_AGAIN:
            self._brackets.begin(depth=2)
            self._looked, self._starts = self.mark, _NO_STARTS

    def finish(self) -> None:
        """Checks that the file is complete and has the lists."""
        if not self._closed:
            if not self.keys and self._brackets.depth == 0 and not self.window.strip(BLANK):
                raise InputError(f"{self.path}: expected a COCO JSON file, the file is empty")
            raise self._fault("the file ends early (cut short?)", self.end)
        if self.window.strip(BLANK):
            raise self._fault("something after the end", self.mark)
        check_lists(self.lists, self.keys, str(self.path))

    def _root(self, at: int, step: int, depth: int) -> Iterator[ListBatch]:
        """Handles a bracket of the root, or of a value of the root."""
        if self._closed or depth < 0:
            raise self._fault("something after the end", at)
        if step > 0 and depth == 1:
            self._begin(at)
        elif step > 0:
            self._enter(at)
        elif depth == 1:
            yield from self._leave(at)
        else:
            self._named(self._bytes(self.mark, at), at, last=True)
            self.mark, self._closed = at + 1, True

    def _begin(self, at: int) -> None:
        before = self._bytes(self.mark, at)
        if self.mark == 0:
            before = before.removeprefix(b"\xef\xbb\xbf")
        if before.strip(BLANK):
            raise self._fault("no object at the start", 0)
        if self._bytes(at, at + 1) == b"[":
            raise InputError(
                f"{self.path}: {EXPECTED_ROOT}, found a list; a list of detections is a "
                "results file"
            )
        self.mark = at + 1

    def _enter(self, at: int) -> None:
        """Begins a list or object of the root."""
        self._named(self._bytes(self.mark, at), at, last=False)
        self._key, self._kind = self.keys[-1], self._bytes(at, at + 1)[0]
        self._count, self._starts, self.mark = 0, _NO_STARTS, at + 1
        if self._kind + LOWER == OPEN:
            self.lists.add(self._key)
        self._taking = self._key in LISTS and self._key in self.lists and self.take(self._key)

    def _leave(self, at: int) -> Iterator[ListBatch]:
        """Ends a list or object of the root."""
        if self._bytes(at, at + 1)[0] - 2 != self._kind:
            raise self._fault("brackets that do not match", at)
        if self._taking and (rest := self._bytes(self.mark, at)).strip(BLANK):
            yield self._parse(rest, [])
        self._key, self._taking, self.mark = None, True, at + 1

    def _named(self, text: bytes, at: int, last: bool) -> None:
        """Parses the text between two values of the root.

        It holds a comma, perhaps keys with short values, and the next key.
        """
        text = text.strip(BLANK)
        if self.keys and text[:1] == b",":
            text = text[1:]
            if last and not text.strip(BLANK):
                raise self._fault("a comma before the end", at)
        elif self.keys and not (last and not text):
            raise self._fault("no comma between two keys", at)
        pairs = self._parsed(b"{" + text + (b"}" if last else b"null}"), self.mark, list)
        names = [key for key, _ in pairs]
        twice = [
            key for key in names if key in LISTS and (key in self.keys or names.count(key) > 1)
        ]
        if twice:
            raise self._fault(f"the key {twice[0]} twice", at)
        self.keys += names

    def _items(self, at: NDArray[np.int64], step: NDArray[np.int8]) -> Iterator[ListBatch]:
        """Parses the items that end at these brackets of the current list."""
        if self._key is None or not self._taking:
            return
        starts = np.concatenate([self._starts, at[step > 0]])
        ends = at[step < 0] + 1
        self._starts = starts[len(ends) :]
        if len(ends):
            spans = np.stack([starts[: len(ends)], ends], axis=1)
            text = self._bytes(self.mark, int(ends[-1]))
            yield self._decode(text, spans) or self._parse(text, spans.tolist())
            self.mark = int(ends[-1])

    def _decode(self, text: bytes, spans: Spans, *, is_guess: bool = False) -> ListBatch | None:
        """Reads items with `decode`; None if it cannot."""
        assert self._key is not None
        before = b"," if self._count else b""
        if self.decode is None or self._brackets.deepest > DEEPEST:
            return None
        if text[: int(spans[0, 0]) - self.mark].strip(BLANK) != before:
            return None
        decoded = self.decode(self._key, text, spans - self.mark, is_guess=is_guess)
        if decoded is None:
            return None
        first, self._count = self._count, self._count + len(spans)
        return ListBatch(key=self._key, first=first, decoded=decoded, start=self.mark)

    def _parse(self, text: bytes, places: list[list[int]]) -> ListBatch:
        assert self._key is not None
        text = text.lstrip(BLANK)
        if self._count:
            if text[:1] != b"," or not text[1:].strip(BLANK):
                raise self._fault(
                    f"no comma between two items of {self._key}, or one too many", self.mark
                )
            text = text[1:]
        items = self._parsed(b"[" + text + b"]", self.mark, None)
        spans = [(start, end) for start, end in places]
        if len(items) > len(spans):  # some are numbers, strings, …
            known = iter(spans)
            spans = [next(known) if isinstance(item, dict | list) else (-1, -1) for item in items]
        first, self._count = self._count, self._count + len(items)
        return ListBatch(key=self._key, first=first, items=items, spans=spans)

    def _parsed(
        self, text: bytes, at: int, pairs: Callable[[list[tuple[str, Any]]], Any] | None
    ) -> Any:
        def constant(literal: str) -> float:
            self.constants.add(literal)
            return float(literal)

        try:
            return json.loads(
                text.decode("utf-8"), parse_constant=constant, object_pairs_hook=pairs
            )
        except UnicodeDecodeError as error:
            raise self._fault(
                "bytes that are not UTF-8; save it as UTF-8", at + error.start
            ) from error
        except json.JSONDecodeError as error:
            raise self._fault(error.msg, at + error.pos) from error
        except (RecursionError, ValueError) as error:
            raise self._fault(str(error).split(";")[0], at) from error

    def _bytes(self, start: int, end: int) -> bytes:
        base = self.end - len(self.window)
        return self.window[start - base : end - base]

    def _fault(self, reason: str, at: int) -> InputError:
        return InputError(
            f"{self.path}: expected a COCO JSON file, found something else: {reason}, near "
            f"byte {at}"
        )
