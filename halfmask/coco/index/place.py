"""Where the index of a COCO file lies, whether it still fits, and who makes it."""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from halfmask.coco.annotations import Annotations
from halfmask.coco.file import CocoFile
from halfmask.coco.index.build import build_index
from halfmask.coco.index.file import CocoIndex
from halfmask.coco.index.format import Source, is_of
from halfmask.coco.index.store import facts_of, open_arrow
from halfmask.coco.scan_lists import Progress
from halfmask.errors import InputError
from halfmask.files.atomic import HAS_LOCKS, lock, path_beside, writing

logger = logging.getLogger("halfmask")

INDEX_ABOVE = 256 << 20
"""Bytes of a JSON file from which on it is read through an index: in memory it would
take some ten times as much, in each process.
"""
FOLDER_VARIABLE = "HALFMASK_INDEX_FOLDER"
"""Environment variable: a folder for all indexes, where they cannot lie beside their files."""


def open_annotations(path: str | Path, progress: Progress | None = None) -> Annotations:
    """A COCO instances file, ready for training and evaluation: a large one, or one
    that has an index, through the index; else in memory.

    Args:
        path: the file.
        progress: told bytes read while an index is made.
    Raises:
        InputError: see `CocoFile.read` and `open_index`.
    """
    place = Path(path)
    try:
        indexed = place.stat().st_size > INDEX_ABOVE or index_path(place).is_file()
    except OSError:
        indexed = False  # the reader says what is wrong
    return open_index(place, progress) if indexed else CocoFile.read(place)


def index_path(path: Path) -> Path:
    """Where the index of a file lies: beside it, or in the folder that
    HALFMASK_INDEX_FOLDER names, under a name of its own.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return path.with_name(f"{path.name}.index.arrow")
    own = hashlib.blake2b(
        str(path.resolve()).encode("utf-8", "surrogateescape"), digest_size=6
    ).hexdigest()
    return Path(folder) / f"{path.name}.{own}.index.arrow"


def open_index(path: Path, progress: Progress | None = None, anew: bool = False) -> CocoIndex:
    """The index of a file, made where there is none that fits its content.

    Two processes that want the same one do not make it twice: the second waits. A
    reader never meets half of one, and what a killed process left behind is swept up by
    the next that makes it.

    Args:
        path: a COCO instances file of any size.
        progress: told bytes read.
        anew: make it even if one is there.
    Raises:
        InputError: no COCO file, or no place for the index.
    """
    target = index_path(path)
    if anew or not _fits(path, target):
        with _alone(path, target) as alone:
            if anew or not _fits(path, target):
                _make(path, target, progress, sweep=alone)
    return CocoIndex(path, target)


def _source(path: Path) -> Source:
    try:
        return Source.of(path)
    except OSError as error:
        raise InputError(
            f"{path}: expected a COCO JSON file, cannot read it: {error.strerror or error}"
        ) from error


def _fits(path: Path, target: Path) -> bool:
    try:
        return is_of(facts_of(open_arrow(target)), _source(path))
    except (OSError, ValueError):  # none, or not a whole one
        return False


def _make(path: Path, target: Path, progress: Progress | None, sweep: bool) -> None:
    if sweep:
        for leftover in target.parent.glob(f".{glob.escape(target.name)}.*.part*"):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)
    source = _source(path)
    with writing(target), path_beside(target) as beside:
        build_index(path, beside, source, progress)
        if _source(path) != source:
            raise InputError(
                f"{path}: changed while it was indexed; start again when nothing writes to it"
            )


@contextmanager
def _alone(path: Path, target: Path) -> Iterator[bool]:
    """Holds off other processes that want to make the same index; whether that works here."""
    lock = target.with_name(f".{target.name}.lock")
    try:
        file = lock.open("wb")
    except OSError as error:
        raise InputError(
            f"{target}: cannot write the index of {path.name} here: {error.strerror or error}; "
            "make the folder writable, or name another "
            f"for indexes in the environment: {FOLDER_VARIABLE}=FOLDER"
        ) from error
    with file:
        try:
            yield _locked(file, target)
        finally:
            with suppress(OSError):
                # one who waits for it then looks again, and at worst makes the same
                # index once more
                lock.unlink()


def _locked(file: IO[bytes], target: Path) -> bool:
    try:
        if not lock(file):
            logger.warning("%s: another process is making this index, waiting", target)
            lock(file, wait=True)
    except OSError:  # a file system without locks
        return False
    return HAS_LOCKS
