"""An append-only file of JSON lines that survives a kill: what a long job or a review
has done so far.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import IO, Any

from halfmask.errors import InputError

Record = dict[str, Any]


class JsonLines:
    """A file of JSON objects, one a line, that one process writes. A line is on the
    disk before `append` returns.

    Args:
        path: the file; it and its folders are made where they are missing.
        busy: what an error says where another process holds the file.
    Raises:
        InputError: another process holds it.
    """

    def __init__(self, path: Path, busy: str) -> None:
        self.path = path
        self._file = _open_locked(path, busy)
        self._reader: IO[bytes] = path.open("rb")
        self._reading = threading.Lock()
        self._end = 0

    def close(self) -> None:
        self._reader.close()
        self._file.close()

    def lines(self) -> Iterator[tuple[int, int, Record | None]]:
        """Every line's first byte, last byte + 1 and record; None for one that was cut
        off or is no JSON object.
        """
        end = 0
        self._reader.seek(0)
        for line in self._reader:
            start, end = end, end + len(line)
            yield start, end, _parse(line)

    def cut(self, end: int) -> None:
        """Drops what follows byte `end`; the next line goes there."""
        self._file.truncate(end)
        self._end = self._file.seek(end)

    def append(self, record: Record) -> tuple[int, int]:
        """Writes a line to the disk, wholly or not at all; its first byte and last byte
        + 1. Not to be called by two threads at once.

        Raises:
            OSError: it could not be written (the disk is full); the file is as before.
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

    def read(self, start: int, end: int) -> Record:
        """A line that `lines` or `append` told of; from any thread."""
        with self._reading:
            self._reader.seek(start)
            line = self._reader.read(end - start)
        record: Record = json.loads(line)
        return record


def _parse(line: bytes) -> Record | None:
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _open_locked(path: Path, busy: str) -> FileIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without a buffer: after a failed write nothing is left that could reach the file
    # later.
    file = FileIO(path, "r+" if path.exists() else "w+")
    try:
        import fcntl
    except (
        ImportError
    ):  # Windows has no such lock: two runs at once into one file are the user's to avoid
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise InputError(f"{path}: {busy}") from error
    return file
