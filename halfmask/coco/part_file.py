"""The file beside a target that is written and then renamed into its place."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import IO


class PartFile:
    """An empty hidden file beside a target, locked while it is open.

    A process that was killed leaves its part behind, unlocked: the next that writes the same target takes it over, so nothing piles up.
    Where another process is writing the target now, the part has this process's number in its name.

    Args:
        target: a file that is there or not; no symbolic link, or the rename would replace the link.
    Attributes:
        file: to write to.
    Raises:
        OSError: the place cannot be written.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._path, self.file = _open(target)
        self._committed = False

    def flush(self) -> None:
        """What was written is on the disk; only the rename is left."""
        self.file.flush()
        os.fsync(self.file.fileno())

    def commit(self) -> None:
        """Takes the target's place, after `flush`."""
        if os.name == "nt":  # which renames no open file, and has no lock to keep
            self.file.close()
        self._path.replace(self._target)
        self._committed = True
        self.file.close()

    def drop(self) -> None:
        """Nothing is left of it, and the target is as it was; after `commit`: nothing happens."""
        if self._committed:
            return
        if os.name == "nt":
            self.file.close()
        with suppress(OSError):
            self._path.unlink()
        with suppress(OSError):  # what is still in the buffer finds the disk as full as before
            self.file.close()


def _open(target: Path) -> tuple[Path, IO[bytes]]:
    own = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        import fcntl
    except ImportError:  # Windows
        return own, own.open("wb")
    path = target.with_name(f".{target.name}.part")
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # in use, or a file system without locks
            file.close()
            return own, own.open("wb")
        if _is_at(path, file):
            file.truncate()
            return path, file
        file.close()  # its writer has renamed or removed it in the meantime: what is open here is no part any more


def _is_at(path: Path, file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
