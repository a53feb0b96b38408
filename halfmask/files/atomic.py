"""Atomic writes: to a file beside the target, which is then renamed; and file locks."""

from __future__ import annotations

import io
import itertools
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from halfmask.errors import InputError
from halfmask.files.held import HeldFolder, refuse_link

HAS_LOCKS = sys.platform != "win32"
if sys.platform != "win32":
    import fcntl


def lock(file: IO[Any] | io.FileIO | int, wait: bool = False) -> bool:
    """Locks an open file for this process until the file is closed.

    Windows has no locks of this kind; there every call succeeds.

    Args:
        file: an open file or folder, or its descriptor.
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
    target, or something else has the part's name, this process's number is in the name.
    The folder is held by descriptor, and no link in it is followed.

    Args:
        target: a file that may exist; no symbolic link, since the rename would replace
            the link.
    Attributes:
        file: to write to.
    Raises:
        OSError: the part cannot be written, or the target is a link.
    """

    def __init__(self, target: Path) -> None:
        refuse_link(target)
        self._name, self._folder = target.name, HeldFolder(target.parent)
        try:
            self._part, self.file = _open(self._folder, target.name)
        except BaseException:
            self._folder.close()
            raise
        self._committed = False

    def flush(self) -> None:
        """Writes everything to the disk; only the rename remains."""
        self.file.flush()
        os.fsync(self.file.fileno())

    def commit(self) -> None:
        """Renames the part to the target; call `flush` first."""
        if os.name == "nt":  # Windows cannot rename an open file, and has no lock to keep
            self.file.close()
        self._folder.rename(self._part, self._name)
        self._committed = True
        self.file.close()
        self._folder.close()

    def drop(self) -> None:
        """Removes the part and keeps the target; does nothing after `commit`."""
        if self._committed:
            return
        if os.name == "nt":
            self.file.close()
        with suppress(OSError):
            self._folder.unlink(self._part)
        with suppress(OSError):  # the disk may still be too full for the buffer
            self.file.close()
        self._folder.close()


def _open(folder: HeldFolder, name: str) -> tuple[str, IO[bytes]]:
    """Opens the part that all processes share, else one of this process."""
    shared = f".{name}.part"
    while HAS_LOCKS:
        try:
            file = folder.create(shared)
        except FileExistsError:
            try:
                file = folder.own(shared)
            except FileNotFoundError:
                continue  # its writer has renamed or removed it in the meantime
            except OSError:  # a link, a pipe, or a file of another user
                break
        if not locks(file):
            file.close()
            break
        if folder.is_at(shared, file):
            file.truncate()
            return shared, file
        file.close()
    return _open_numbered(folder, name)


def _open_numbered(folder: HeldFolder, name: str) -> tuple[str, IO[bytes]]:
    """Makes a part with this process's number in its name, locked where locks exist."""
    for number in itertools.count():
        own = f".{name}.{os.getpid()}{f'-{number}' if number else ''}.part"
        try:
            file = folder.create(own)
        except FileExistsError:
            continue
        locks(file)
        if folder.is_at(own, file):  # else another run took it for a leftover
            return own, file
        file.close()
    raise AssertionError


def locks(file: IO[Any] | int) -> bool:
    """Locks as `lock` does; False also where the file system has no locks."""
    try:
        return lock(file)
    except OSError:
        return False


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
        InputError: the file cannot be written, or `path` is a link.
    """
    target = Path(path)
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
        OSError: the file cannot be written, or `path` is a link.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    refuse_link(path)
    with HeldFolder(path.parent) as folder:
        name, held = _open_numbered(folder, path.name)
        try:
            with held:  # the library writes to the same file, which stays locked
                if os.name == "nt":
                    held.close()
                beside = path.with_name(name)
                yield beside
                with beside.open("rb") as written:
                    os.fsync(written.fileno())
                folder.rename(name, path.name)
        finally:
            with suppress(OSError):
                folder.unlink(name)


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turns an OSError of its block into an InputError: `path` cannot be written."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot write here: {error.strerror or error}") from error
