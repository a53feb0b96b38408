"""Folders held by descriptor; files in them are opened without following links.

A path is looked up anew by each system call, so that another process can put a link in
the place of one of its folders between a check and a write. A descriptor stays with the
folder that was checked.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import IO, BinaryIO

from halfmask.errors import InputError
from halfmask.files.regular import NotRegularError

BY_DESCRIPTOR = {os.open, os.unlink, os.stat, os.rename} <= os.supports_dir_fd
"""Whether this system opens files relative to a folder; Windows does not."""
_PLAIN = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_FOLDER = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
# Enough to look up names in it, also where the folder cannot be listed.
_LOOK_UP = getattr(os, "O_PATH", os.O_RDONLY) | _FOLDER


class HeldFolder:
    """A folder that stays the same one, whatever its path names later.

    Use it as a context manager, or close it.

    Args:
        path: an existing folder; links in it are the user's own and are followed.
    Raises:
        OSError: there is no such folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, _LOOK_UP) if BY_DESCRIPTOR else None

    def __enter__(self) -> HeldFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets the folder go; may be called twice."""
        if self._fd is not None:
            with suppress(OSError):
                os.close(self._fd)
            self._fd = -1

    def create(self, name: str) -> IO[bytes]:
        """Makes a new file, to read and write.

        Raises:
            FileExistsError: something has this name, if only a link.
        """
        return os.fdopen(self._open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL), "r+b")

    def own(self, name: str, *, alone: bool = True) -> IO[bytes]:
        """Opens an existing file, to read and write in place.

        Args:
            name: of the file.
            alone: whether a hard link elsewhere is refused; the bytes would change
                there, too.
        Raises:
            OSError: it is a link, no regular file, has another name elsewhere, or
                belongs to neither this user nor the folder's owner.
        """
        handle = self._open(name, os.O_RDWR)
        try:
            self._check_own(os.fstat(handle), name, alone)
            return os.fdopen(handle, "r+b")
        except BaseException:
            os.close(handle)
            raise

    def lookup(self, name: str) -> os.stat_result | None:
        """Returns what has this name, without following a link; None: nothing."""
        try:
            return os.stat(self._at(name), dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def is_at(self, name: str, file: IO[bytes]) -> bool:
        """Whether an open file has this name."""
        found = self.lookup(name)
        return found is not None and os.path.samestat(found, os.fstat(file.fileno()))

    def rename(self, old: str, new: str) -> None:
        """Renames a file or folder; a file of the new name is replaced."""
        if self._fd is None:
            (self.path / old).replace(self.path / new)
        else:
            os.rename(old, new, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def unlink(self, name: str) -> None:
        """Removes a file or a link."""
        os.unlink(self._at(name), dir_fd=self._fd)

    def _open(self, name: str, flags: int) -> int:
        return os.open(self._at(name), flags | _PLAIN, 0o666, dir_fd=self._fd)

    def _at(self, name: str) -> str | Path:
        return self.path / name if self._fd is None else name

    def _check_own(self, status: os.stat_result, name: str, alone: bool) -> None:
        path = str(self.path / name)
        if not stat.S_ISREG(status.st_mode):
            raise NotRegularError(errno.EINVAL, "it is not a regular file", path)
        if alone and status.st_nlink > 1:
            raise OSError(errno.EMLINK, "it is a hard link of another file", path)
        if not hasattr(os, "geteuid") or os.geteuid() == 0:
            return
        owners = {os.geteuid(), self.path.stat().st_uid}
        if status.st_uid not in owners:
            raise PermissionError(errno.EPERM, "it belongs to another user", path)


def refuse_link(path: Path) -> None:
    """Refuses to write where a link is; the rename of an atomic write would replace it.

    Raises:
        OSError: `path` is a symbolic link.
    """
    if path.is_symlink():
        raise OSError(errno.ELOOP, f"it is a link to {path.readlink()}; name the file itself")


def open_in_place(path: Path) -> IO[bytes]:
    """Opens a file to read and write in place, and makes it if it is missing.

    Raises:
        OSError: see `HeldFolder.own`.
    """
    with HeldFolder(path.parent) as folder:
        while True:
            with suppress(FileExistsError):
                return folder.create(path.name)
            with suppress(FileNotFoundError):  # removed in between
                return folder.own(path.name)


def open_below(root: Path, path: Path) -> BinaryIO:
    """Opens a regular file below a folder for reading, and nothing outside of it.

    Each folder on the way is opened relative to the one before it, and none may be a
    link.

    Args:
        root: the folder, resolved.
        path: the file, resolved; below `root`.
    Raises:
        InputError: `path` is not below `root`.
        OSError: a part of the path is a link or missing, or it is no regular file.
    """
    if not path.is_relative_to(root):
        raise InputError(f"{path}: lies outside {root}")
    *folders, name = path.relative_to(root).parts
    held = os.open(root, _LOOK_UP) if BY_DESCRIPTOR else None
    try:
        for part in folders if held is not None else ():
            below = os.open(part, _LOOK_UP | getattr(os, "O_NOFOLLOW", 0), dir_fd=held)
            os.close(held)  # type: ignore[arg-type]  # not None here
            held = below
        handle = os.open(path if held is None else name, os.O_RDONLY | _PLAIN, dir_fd=held)
    finally:
        if held is not None:
            os.close(held)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise NotRegularError(errno.EINVAL, "it is not a regular file", str(path))
    return os.fdopen(handle, "rb")
