"""JSON in files: lines that are appended and survive a kill, and whole files, checked."""

from __future__ import annotations

import json
import os
import re
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from itertools import accumulate, pairwise
from pathlib import Path
from typing import IO, Any

from halfmask.errors import InputError
from halfmask.files.atomic import lock
from halfmask.files.held import open_in_place
from halfmask.files.regular import open_regular, read_regular

CHECK = "crc32"
"""Last key of a line, which `JsonLines` adds: the checksum of the line without it."""
_CHECK = re.compile(rb',"crc32":"([0-9a-f]{8})"\}')


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a `JsonLines`.

    Attributes:
        start, end: its first byte, and its last byte + 1.
        record: without the checksum; None if it is cut off or damaged.
        cut_off: whether the file ends within the line: it was never confirmed.
        damaged: whether the line is not as it was written; the record may be whole.
    """

    start: int
    end: int
    record: dict[str, Any] | None
    cut_off: bool = False
    damaged: bool = False


class JsonLines:
    """A file of JSON objects, one per line, that one process writes.

    Each line ends with a checksum, so that a changed bit costs that line alone.

    Args:
        path: the file; it and its folders are made if missing.
        busy: the error message if another process holds the file.
        moved: what to do if the file is not the same any more while it is in use.
    Raises:
        InputError: another process holds the file, or it is a link, no regular file, or
            cannot be written.
    """

    def __init__(self, path: Path, busy: str, moved: str = "start again") -> None:
        self.path, self._moved = path, moved
        self._file = _open_locked(path, busy)
        self._reader: IO[bytes] = open_regular(path)
        if not os.path.samestat(os.fstat(self._reader.fileno()), os.fstat(self._file.fileno())):
            self.close()
            raise InputError(f"{path}: was replaced while it was opened; start again")
        self._reading = threading.Lock()
        self._end = 0

    def close(self) -> None:
        self._reader.close()
        self._file.close()

    def lines(self) -> Iterator[Line]:
        """Yields all lines, damaged ones too."""
        end = 0
        self._reader.seek(0)
        for raw in self._reader:
            for piece in _pieces(raw):
                start, end = end, end + len(piece)
                whole = piece.endswith(b"\n")
                record = _record(piece)
                cut_off = not whole and (record is None or piece.endswith(b"}"))
                yield Line(
                    start=start,
                    end=end,
                    record=None if cut_off else record,
                    cut_off=cut_off,
                    damaged=not cut_off and (record is None or not whole),
                )

    def cut(self, end: int) -> None:
        """Removes everything from byte `end` on; the next line starts there."""
        self._file.truncate(end)
        self._end = self._file.seek(end)

    def append(self, record: dict[str, Any]) -> tuple[int, int]:
        """Writes a whole line to the disk before it returns. Not thread-safe.

        Returns:
            The line's first byte and last byte + 1.
        Raises:
            OSError: the line cannot be written (disk full); the file is unchanged.
            InputError: the file was removed, replaced, cut or added to by another.
        """
        return self.append_all([record])[0]

    def append_all(self, records: list[dict[str, Any]]) -> list[tuple[int, int]]:
        """Writes lines to the disk at once; as `append`.

        A kill in between leaves the first of them: the reader has to know that they
        belong together.

        Returns:
            Each line's first byte and last byte + 1.
        """
        self._confirm()
        start = self._end
        lines = [line_of(record) for record in records]
        rest = memoryview(b"".join(lines))
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError:
            self.cut(start)
            raise
        ends = [start, *(start + end for end in accumulate(map(len, lines)))]
        self._end = ends[-1]
        return list(pairwise(ends))

    @property
    def end(self) -> int:
        """The byte at which the next line starts."""
        return self._end

    def _confirm(self) -> None:
        """Lines must go where the next run looks for them, after those that are known."""
        mine = os.fstat(self._file.fileno())
        try:
            moved = not os.path.samestat(mine, self.path.lstat())
        except OSError:
            moved = True
        if moved or mine.st_size != self._end:
            what = "removed or replaced" if moved else "changed by another program"
            raise InputError(f"{self.path}: was {what} while it was in use; {self._moved}")

    def read(self, start: int, end: int) -> dict[str, Any]:
        """Reads a line at a place that `lines` or `append` returned; thread-safe.

        Raises:
            InputError: the line is damaged.
        """
        record = _record(self._bytes(start, end))
        if record is None:
            raise InputError(
                f"{self.path}: the line at byte {start} is damaged: something else wrote to it"
            )
        return record

    def read_all(self, start: int, end: int) -> Iterator[Line]:
        """Yields the lines between two bytes, damaged ones too; thread-safe.

        Args:
            start: first byte of a line.
            end: last byte + 1 of a line.
        """
        for raw in self._bytes(start, end).splitlines(keepends=True):
            for piece in _pieces(raw):
                start, first = start + len(piece), start
                record = _record(piece)
                yield Line(start=first, end=start, record=record, damaged=record is None)

    def is_start(self, at: int) -> bool:
        """Whether a line starts at a byte, or the next one will; thread-safe."""
        return 0 <= at <= self._end and (at == 0 or self._bytes(at - 1, at) == b"\n")

    def line_end(self, at: int, end: int) -> int:
        """Returns the first byte from `at` on at which a line starts, at most `end`."""
        while 0 < at < end and not self.is_start(at):
            found = self._bytes(at, min(at + (1 << 16), end)).find(b"\n")
            at = min(at + (1 << 16), end) if found < 0 else at + found + 1
        return at

    def _bytes(self, start: int, end: int) -> bytes:
        with self._reading:
            self._reader.seek(start)
            return self._reader.read(end - start)


def line_of(record: dict[str, Any]) -> bytes:
    """Returns a record as `append` writes it."""
    text = json.dumps(record, separators=(",", ":")).encode()
    return text[:-1] + f',"{CHECK}":"{zlib.crc32(text):08x}"}}\n'.encode()


def _pieces(raw: bytes) -> Iterator[bytes]:
    """Splits what a damaged end of a line has joined."""
    start = 0
    for check in _CHECK.finditer(raw):
        end = min(check.end() + 1, len(raw))
        yield raw[start:end]
        start = end
    if start < len(raw):
        yield raw[start:]


def _record(line: bytes) -> dict[str, Any] | None:
    """The record of a line; None if it is cut off or damaged."""
    check = _CHECK.search(line, max(0, len(line) - len(',"crc32":"00000000"}\n')))
    if check is None:
        return None
    text = line[: check.start()] + b"}"
    if zlib.crc32(text) != int(check[1], 16):
        return None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _open_locked(path: Path, busy: str) -> FileIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: after a failed write no buffer can reach the file later.
        with open_in_place(path) as opened:
            file = FileIO(os.dup(opened.fileno()), "r+")
    except OSError as error:
        raise InputError(f"{path}: cannot write here: {error.strerror or error}") from error
    try:
        locked = lock(file)
    except OSError:  # a file system without locks
        locked = False
    if not locked:
        file.close()
        raise InputError(f"{path}: {busy}")
    return file


def parse_json(path: Path, expected: str, constants: list[str]) -> object:
    """Reads a JSON file into memory.

    Args:
        path: the file.
        expected: what errors say that was expected.
        constants: receives NaN, Infinity and -Infinity if the file has them.
    Raises:
        InputError: the file cannot be read or is not JSON in UTF-8.
    """
    try:
        text = read_regular(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: {expected} in UTF-8, byte {error.start} is not UTF-8; save it as UTF-8"
        ) from error
    except OSError as error:
        raise InputError(
            f"{path}: {expected}, cannot read it: {error.strerror or error}"
        ) from error
    if not text.strip():
        raise InputError(f"{path}: {expected}, the file is empty")

    def constant(literal: str) -> float:
        constants.append(literal)
        return float(literal)

    try:
        return json.loads(text, parse_constant=constant)
    except json.JSONDecodeError as error:
        why = f"something else: {error.msg} at line {error.lineno}, column {error.colno}"
        raise InputError(f"{path}: {expected}, found {why}") from error
    except RecursionError as error:
        why = "lists or objects nested too deeply to be read"
        raise InputError(f"{path}: {expected}, found {why}") from error
    except ValueError as error:
        why = f"something else: {str(error).split(';')[0]}"
        raise InputError(f"{path}: {expected}, found {why}") from error
