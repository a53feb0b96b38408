"""Atomic writes: to a file beside the target, which is then renamed; and file locks."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from halfmask.errors import InputError

HAS_LOCKS = sys.platform != "win32"
if sys.platform != "win32":
    import fcntl


def lock(file: IO[Any] | io.FileIO, wait: bool = False) -> bool:
    """Locks an open file for this process until the file is closed.

    Windows has no locks of this kind; there every call succeeds.

    Args:
        file: an open file.
        wait: whether to wait while another process holds the lock.
    Returns:
        False where another process holds it.
    Raises:
        OSError: the file system has no locks.
    """
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
    return True


class PartFile:
    """An empty hidden file beside a target, locked while it is open.

    A killed process leaves its unlocked part behind; the next process that writes the
    same target reuses it, so parts never pile up. While another process writes the
    target, the part has this process's number in its name.

    Args:
        target: a file that may exist; no symbolic link, since the rename would replace
            the link.
    Attributes:
        file: to write to.
    Raises:
        OSError: the part cannot be written.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._path, self.file = _open(target)
        self._committed = False

    def flush(self) -> None:
        """Writes everything to the disk; only the rename remains."""
        self.file.flush()
        os.fsync(self.file.fileno())

    def commit(self) -> None:
        """Renames the part to the target; call `flush` first."""
        if os.name == "nt":  # Windows cannot rename an open file, and has no lock to keep
            self.file.close()
        self._path.replace(self._target)
        self._committed = True
        self.file.close()

    def drop(self) -> None:
        """Removes the part and keeps the target; does nothing after `commit`."""
        if self._committed:
            return
        if os.name == "nt":
            self.file.close()
        with suppress(OSError):
            self._path.unlink()
        with suppress(OSError):  # the disk may still be too full for the buffer
            self.file.close()


def _open(target: Path) -> tuple[Path, IO[bytes]]:
    own = _numbered(target)
    if sys.platform == "win32":
        return own, own.open("wb")
    path = target.with_name(f".{target.name}.part")
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        try:
            locked = lock(file)
        except OSError:  # a file system without locks
            locked = False
        if not locked:
            file.close()
            return own, own.open("wb")
        if _is_at(path, file):
            file.truncate()
            return path, file
        file.close()  # its writer has renamed or removed it in the meantime


def _is_at(path: Path, file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _numbered(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.part")


def write_json(path: str | Path, document: object, indent: int | None = None) -> None:
    """Writes a document as JSON; numbers read back as the same values.

    Raises:
        InputError: the file cannot be written.
    """
    write_text(path, json.dumps(document, indent=indent))


def write_text(path: str | Path, text: str) -> None:
    """Writes a text as `written_beside` does.

    Raises:
        InputError: the file cannot be written.
    """
    with new_file(path) as file:
        file.write(text)


@contextmanager
def new_file(path: str | Path) -> Iterator[IO[str]]:
    """Opens a UTF-8 text file as `written_beside` does."""
    with written_beside(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="\n")
        yield text
        text.detach()  # flushes, and leaves the file open


@contextmanager
def written_beside(path: str | Path) -> Iterator[IO[bytes]]:
    """Opens a file to write, which replaces `path` when the block succeeds.

    The content is flushed to disk before the rename. If the block fails, nothing is
    left of it. Missing folders are made.

    Raises:
        InputError: the file cannot be written.
    """
    target = Path(path)
    if target.is_symlink():
        target = target.resolve()  # or the rename would replace the link
    with writing(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        part = PartFile(target)
        try:
            yield part.file
            part.flush()
            part.commit()
        except BaseException:
            part.drop()
            raise


@contextmanager
def path_beside(path: Path) -> Iterator[Path]:
    """Yields a path beside `path`, for libraries that open the file themselves.

    The file written there is flushed to disk and replaces `path` when the block
    succeeds; otherwise it is removed. Missing folders are made.

    Raises:
        OSError: the file cannot be written.
    """
    beside = _numbered(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yields a folder beside `path`, renamed to `path` when the block succeeds.

    If the block fails, the folder is removed.

    Raises:
        InputError: `path` exists and is not an empty folder, or cannot be written.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path}: already exists; name a folder that is new or empty")
    target = path.absolute()
    beside = _numbered(target)
    try:
        with writing(path):
            beside.mkdir(parents=True)
            yield beside
            if target.is_dir():
                target.rmdir()
            beside.replace(target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def put_text(path: Path, text: str) -> None:
    """Writes a text file inside a `new_folder`; makes missing folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", errors="replace", newline="\n")


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turns an OSError of its block into an InputError: `path` cannot be written."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot write here: {error.strerror or error}") from error
