"""Opens COCO files, large ones through an index that is written when first needed."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from halfmask.coco.annotations import Annotations
from halfmask.coco.file import CocoFile
from halfmask.coco.index.build import write_index
from halfmask.coco.index.file import CocoIndex
from halfmask.coco.index.format import Source, is_of
from halfmask.coco.index.store import facts_of, open_arrow
from halfmask.errors import InputError
from halfmask.files.atomic import HAS_LOCKS, lock, path_beside, writing
from halfmask.files.folders import sweep_parts
from halfmask.files.held import open_in_place, refuse_link
from halfmask.progress import Progress

logger = logging.getLogger(__name__)

INDEX_ABOVE = 256 << 20
"""Bytes above which a JSON file is read through an index.

In memory it would take about ten times as much, in each process.
"""
WORTH_A_LINE = 64 << 20
"""Bytes above which the log mentions that a file is indexed."""
FOLDER_VARIABLE = "HALFMASK_INDEX_FOLDER"
"""Environment variable that names a folder for all indexes."""


def open_annotations(path: str | Path, progress: Progress | None = None) -> Annotations:
    """Opens a COCO instances file for training and evaluation.

    A large file, or one that has an index, is read through the index; any other file is
    read into memory.

    Args:
        path: the file.
        progress: reports MiB read while an index is written.
    Raises:
        InputError: see `CocoFile.read` and `open_index`.
    """
    place = Path(path)
    return open_index(place, progress) if is_indexed(place) else CocoFile.read(place)


def is_indexed(path: Path) -> bool:
    """Whether a file is so large, or has an index, that it is read through the index."""
    try:
        return path.stat().st_size > INDEX_ABOVE or index_path(path).is_file()
    except OSError:
        return False  # the reader reports the fault


def index_path(path: Path, folder: str | Path | None = None) -> Path:
    """Returns the path of a file's index.

    Args:
        path: the COCO file.
        folder: where all indexes lie; None: where HALFMASK_INDEX_FOLDER says, else
            beside the file.
    """
    folder = folder or os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return path.with_name(f"{path.name}.index.arrow")
    own = hashlib.blake2b(
        str(path.resolve()).encode("utf-8", "surrogateescape"), digest_size=6
    ).hexdigest()
    return Path(folder) / f"{path.name}.{own}.index.arrow"


def open_index(
    path: Path,
    progress: Progress | None = None,
    *,
    anew: bool = False,
    folder: str | Path | None = None,
) -> CocoIndex:
    """Opens a file through its index, and writes the index if none fits the content.

    If two processes need the same index, the second waits for the first. A reader never
    meets half of one. The next writer removes what a killed process left behind.

    Args:
        path: a COCO instances file of any size.
        progress: reports MiB read.
        anew: whether to write the index even if a current one exists.
        folder: see `index_path`.
    Raises:
        InputError: `path` is no COCO file, or the index cannot be written.
    """
    target = index_path(path, folder)
    if anew or not _fits(path, target):
        with _alone(path, target) as alone:
            if anew or not _fits(path, target):
                _write(path, target, progress, sweep=alone)
    try:
        return CocoIndex(path, target)
    except (OSError, ValueError) as damaged:
        if anew:
            raise InputError(f"{target}: cannot be read: {damaged}") from damaged
        logger.warning("%s: damaged (%s), written again", target, damaged)
    return open_index(path, progress, anew=True, folder=folder)


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
    except (OSError, ValueError):  # no index, or not a whole one
        return False


def _write(path: Path, target: Path, progress: Progress | None, *, sweep: bool) -> None:
    if sweep:
        sweep_parts(target.parent, target.name)
    source = _source(path)
    if source.size > WORTH_A_LINE:
        logger.info("indexing %s (%.0f MiB), once", path, source.size / 2**20)
    with writing(target), path_beside(target) as beside:
        write_index(path, beside, source, progress=progress)
        if _source(path) != source:
            raise InputError(
                f"{path}: changed while it was indexed; start again when nothing writes to it"
            )


@contextmanager
def _alone(path: Path, target: Path) -> Iterator[bool]:
    """Makes other processes that need the same index wait; yields whether they do."""
    lock = target.with_name(f".{target.name}.lock")
    try:
        refuse_link(target)
        file = open_in_place(lock)
    except OSError as error:
        raise InputError(
            f"{target}: cannot write the index of {path.name} here: {error.strerror or error}; "
            "make the folder writable, or name another folder for indexes in the environment: "
            f"{FOLDER_VARIABLE}=FOLDER"
        ) from error
    with file:
        try:
            yield _locked(file, target)
        finally:
            with suppress(OSError):
                # A waiting process checks again; at worst it rewrites the index.
                lock.unlink()


def _locked(file: IO[bytes], target: Path) -> bool:
    try:
        if not lock(file):
            logger.warning("%s: another process is making this index, waiting", target)
            lock(file, wait=True)
    except OSError:  # a file system without locks
        return False
    return HAS_LOCKS
