"""What a file was, kept with a long job so that a change is noticed when the job goes on."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from pathlib import Path

FilePrint = list[int | None]
"""Size in bytes, time of the last change in ns, and CRC-32 (None: not read).

Empty if the file is missing.
"""
READ_AT_MOST = 2 << 30
"""Bytes that `prints_of` reads in all; of further files it notes size and time only."""


def print_of(path: Path, *, read: bool = True) -> FilePrint:
    """Returns the print of a file."""
    try:
        with path.open("rb") as file:
            state = os.fstat(file.fileno())
            check = zlib.crc32(file.read()) if read else None
    except OSError:
        return []
    return [state.st_size, state.st_mtime_ns, check]


def prints_of(paths: Iterable[Path]) -> dict[str, FilePrint]:
    """Returns path → print of files.

    The content is read as long as the files before have READ_AT_MOST bytes in all.
    """
    out: dict[str, FilePrint] = {}
    left = READ_AT_MOST
    for path in paths:
        out[str(path)] = found = print_of(path, read=left > 0)
        left -= (found[0] or 0) if found else 0
    return out


def has_changed(path: Path, known: FilePrint) -> bool:
    """Whether a file has another content than its print says.

    It is read only if it has the same size and another time. A file that was not read
    for its print has changed if it was touched.
    """
    try:
        state = path.stat()
    except OSError:
        return bool(known)
    if not known or known[0] != state.st_size:
        return True
    if known[1] == state.st_mtime_ns:
        return False
    return known[2] is None or print_of(path)[2] != known[2]


def changed_of(known: dict[str, FilePrint]) -> list[str]:
    """Returns the paths whose files have changed."""
    return [path for path, was in known.items() if has_changed(Path(path), was)]
