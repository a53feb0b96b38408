"""JSON in files: lines that are appended and survive a kill, and whole files, checked."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import IO, Any

from halfmask.errors import InputError
from halfmask.files.atomic import lock
from halfmask.files.held import open_in_place
from halfmask.files.regular import open_regular, read_regular


class JsonLines:
    """A file of JSON objects, one per line, that one process writes.

    Args:
        path: the file; it and its folders are made if missing.
        busy: the error message if another process holds the file.
    Raises:
        InputError: another process holds the file, or it is a link, no regular file, or
            cannot be written.
    """

    def __init__(self, path: Path, busy: str) -> None:
        self.path = path
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

    def lines(self) -> Iterator[tuple[int, int, dict[str, Any] | None]]:
        """Yields each line's first byte, last byte + 1 and record.

        The record is None if the line is cut off or not a JSON object.
        """
        end = 0
        self._reader.seek(0)
        for line in self._reader:
            start, end = end, end + len(line)
            yield start, end, _parse(line)

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
        """
        start, line = self._end, json.dumps(record, separators=(",", ":")).encode() + b"\n"
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError:
            self.cut(start)
            raise
        self._end = start + len(line)
        return start, self._end

    def read(self, start: int, end: int) -> dict[str, Any]:
        """Reads a line at a place that `lines` or `append` returned; thread-safe."""
        with self._reading:
            self._reader.seek(start)
            line = self._reader.read(end - start)
        record: dict[str, Any] = json.loads(line)
        return record


def _parse(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
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
