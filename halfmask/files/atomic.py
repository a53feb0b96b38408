"""The file beside a target that is written and then renamed into its place."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from halfmask.errors import InputError


class PartFile:
    """An empty hidden file beside a target, locked while it is open.

    A process that was killed leaves its part behind, unlocked: the next that writes the
    same target takes it over, so nothing piles up. Where another process is writing the
    target now, the part has this process's number in its name.

    Args:
        target: a file that is there or not; no symbolic link, or the rename would
            replace the link.
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
        # its writer has renamed or removed it in the meantime: what is open here is no
        # part any more
        file.close()


def _is_at(path: Path, file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def write_json(path: str | Path, document: object, indent: int | None = None) -> None:
    """Writes a document; its numbers read back as the same values. As `write_text` otherwise."""
    write_text(path, json.dumps(document, indent=indent))


def write_text(path: str | Path, text: str) -> None:
    """Writes a text as `written_beside` does.

    Raises:
        InputError: the place cannot be written.
    """
    with new_file(path) as file:
        file.write(text)


@contextmanager
def new_file(path: str | Path) -> Iterator[IO[str]]:
    """`written_beside` for text, in UTF-8."""
    with written_beside(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="\n")
        yield text
        text.detach()  # flushes, and leaves the file open


@contextmanager
def written_beside(path: str | Path) -> Iterator[IO[bytes]]:
    """A file to write to, which is flushed to disk and takes the place of `path` when
    the block ends well; else nothing is left of it.

    Folders that are missing are made.

    Raises:
        InputError: the place cannot be written.
    """
    target = Path(path)
    if target.is_symlink():
        target = target.resolve()  # or the rename would replace the link
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = PartFile(target)
        try:
            yield part.file
            part.flush()
            part.commit()
        except BaseException:
            part.drop()
            raise
    except OSError as error:
        raise InputError(f"{path}: cannot write here: {error.strerror or error}") from error


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` to write into; it is renamed to `path` when the block ends
    well, and removed otherwise.

    Raises:
        InputError: the folder is there already and not empty, or cannot be written.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path}: is there already; name a folder that is new or empty")
    target = path.absolute()
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        beside.mkdir(parents=True)
        yield beside
        if target.is_dir():
            target.rmdir()
        beside.replace(target)
    except OSError as error:
        raise InputError(f"{path}: cannot write here: {error.strerror or error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def put_text(path: Path, text: str) -> None:
    """Writes a text file inside a new folder, and the folders on its way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", errors="replace", newline="\n")
