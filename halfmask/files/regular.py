"""Opens and reads the files of a data set: regular files only, so that nothing blocks.

A pipe, a device or a socket among the files of a stranger's folder would otherwise
make a command wait for ever, or be read without an end.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


class NotRegularError(OSError):
    """The path is a pipe, a device or a socket; `strerror` says which."""


def open_regular(path: str | Path) -> BinaryIO:
    """Opens a regular file for reading bytes; links are followed.

    Raises:
        NotRegularError: it is a pipe, a device or a socket, which is not opened.
        OSError: there is no such file, it is a folder, or it cannot be read.
    """
    check_regular(path)
    handle = os.open(path, _FLAGS)
    try:
        _check(os.fstat(handle), path)  # another file may have taken its place
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def check_regular(path: str | Path) -> None:
    """Raises OSError, as `open_regular`, for what it would not open."""
    _check(Path(path).stat(), path)


def read_regular(path: str | Path, most: int | None = None) -> bytes:
    """Returns the content of a regular file.

    Args:
        path: the file; links are followed.
        most: the largest number of bytes; None for any.
    Raises:
        OSError: as `open_regular`, or the file is larger than `most`.
    """
    with open_regular(path) as file:
        data = file.read() if most is None else file.read(most + 1)
    if most is not None and len(data) > most:
        size = f"{most >> 20} MB" if most >= 1 << 20 else f"{most >> 10} kB"
        raise OSError(errno.EFBIG, f"larger than {size}", str(path))
    return data


def _check(status: os.stat_result, path: str | Path) -> None:
    mode = status.st_mode
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "of an unknown kind")
    raise NotRegularError(errno.EINVAL, f"it is {kind}, not a regular file", str(path))
