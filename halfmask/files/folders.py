"""Folders that appear whole, and what killed runs left of them."""

from __future__ import annotations

import ctypes
import errno
import glob
import itertools
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from halfmask.errors import InputError
from halfmask.files.atomic import HAS_LOCKS, locks, writing
from halfmask.files.held import HeldFolder, refuse_link

_EXCHANGE = 2
"""Linux's RENAME_EXCHANGE."""
_AT_CWD = -100
_OPEN_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yields a folder beside `path`, renamed to `path` when the block succeeds.

    If the block fails, the folder is removed. What a killed run left is taken over.

    Raises:
        InputError: `path` exists and is not an empty folder, or cannot be written.
    """
    if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
        raise InputError(f"{path}: already exists; name a folder that is new or empty")
    target = path.absolute()
    with writing(path), _part_folder(target) as beside:
        yield beside
        if target.is_dir():
            target.rmdir()
        with HeldFolder(target.parent) as parent:
            parent.rename(beside.name, target.name)


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Yields an empty folder that takes the place of `path` when the block succeeds.

    A reader finds the older folder or the new one, never a mixture; where the system
    cannot exchange two folders at once, for a moment neither. If the block fails, the
    older one stays. What a killed run left is taken over.

    Raises:
        InputError: `path` is a link or a file, or cannot be written.
    """
    target = path.absolute()
    older = target.with_name(f".{target.name}.old")
    with writing(path):
        refuse_link(target)
        if older.is_dir() and not older.is_symlink():  # left between two renames
            with HeldFolder(target.parent) as parent:
                if target.is_dir():
                    shutil.rmtree(older)
                else:
                    parent.rename(older.name, target.name)
        with _part_folder(target) as beside:
            yield beside
            for written in sorted(beside.rglob("*")):
                _flush(written)
            _put_in_place(beside, target, older)


def _put_in_place(beside: Path, target: Path, older: Path) -> None:
    with HeldFolder(target.parent) as parent:
        if not target.is_dir():
            parent.rename(beside.name, target.name)
        elif not _exchanged(beside, target):
            parent.rename(target.name, older.name)
            parent.rename(beside.name, target.name)
            shutil.rmtree(older)


def _exchanged(one: Path, other: Path) -> bool:
    """Swaps two folders at once; False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    paths = (_AT_CWD, os.fsencode(one), _AT_CWD, os.fsencode(other))
    return bool(rename(*paths, _EXCHANGE) == 0)


def _flush(path: Path) -> None:
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())


@contextmanager
def _part_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder beside a target, held while the block runs, then removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside, handle = _open_part(target)
    try:
        yield beside
    finally:
        try:
            # Under its name is now the older folder, or nothing, or what has failed.
            shutil.rmtree(beside, ignore_errors=True)
        finally:
            if handle is not None:
                os.close(handle)


def _open_part(target: Path) -> tuple[Path, int | None]:
    """Makes the part folder, or takes over one that no process holds."""
    sweep_parts(target.parent, target.name)
    shared = target.with_name(f".{target.name}.part")
    if HAS_LOCKS:
        with suppress(FileExistsError):
            shared.mkdir()
        handle = _held(shared)
        if handle is not None:
            for old in shared.iterdir():
                shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
            return shared, handle
    for number in itertools.count():
        own = target.with_name(f".{target.name}.{os.getpid()}-{number}.part")
        with suppress(FileExistsError):
            own.mkdir()
            handle = _held(own) if HAS_LOCKS else None
            if own.is_dir():  # else another run took it for a leftover
                return own, handle
    raise AssertionError


def _held(folder: Path) -> int | None:
    """Locks a folder; None if another process holds it, or it is a link or no folder."""
    try:
        handle = os.open(folder, _OPEN_FOLDER)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENOENT, errno.EACCES):
            return None
        raise
    own = not hasattr(os, "geteuid") or os.fstat(handle).st_uid == os.geteuid()
    if own and locks(handle) and _is_at(folder, handle):
        return handle
    os.close(handle)
    return None


def _is_at(folder: Path, handle: int) -> bool:
    with suppress(OSError):
        return os.path.samestat(folder.lstat(), os.fstat(handle))
    return False


def sweep_parts(folder: Path, name: str = "") -> None:
    """Removes what killed runs left; what a living process holds stays.

    Args:
        folder: where it lies.
        name: of the file or folder that they wrote; "": of any file.
    """
    if not HAS_LOCKS:
        return
    pattern = f".{glob.escape(name)}.*.part*" if name else ".*.part"
    with HeldFolder(folder) as held:
        for path in sorted(folder.glob(pattern)):  # NAME.part before its folder NAME.part.d
            with suppress(OSError):  # a link, or a file of another user
                if path.is_symlink():
                    continue
                if path.is_dir():
                    _remove_part(path)
                    continue
                with held.own(path.name) as file:
                    if locks(file) and held.is_at(path.name, file):
                        held.unlink(path.name)


def _remove_part(folder: Path) -> None:
    """Removes a part folder unless a living process holds it, or the file it belongs to."""
    if folder.suffix != ".part" and folder.with_suffix("").exists():
        return
    handle = _held(folder)
    if handle is not None:
        shutil.rmtree(folder)
        os.close(handle)


def put_text(path: Path, text: str) -> None:
    """Writes a text file inside a `new_folder`; makes missing folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", errors="replace", newline="\n")
