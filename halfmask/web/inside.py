"""Photographs of a folder, opened only if they lie inside it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO, Any

from halfmask.coco.images import by_last_part
from halfmask.coco.records import file_name_of
from halfmask.errors import InputError
from halfmask.files.held import open_below

MOST_BYTES = 1 << 28
"""Bytes of a photograph's file."""


def path_inside(folder: Path, name: str) -> Path:
    """Returns the real path of a file below a folder.

    Where there is no such file, it is the only one with the same last part.

    Raises:
        InputError: there is no such file, or it lies outside the folder: by `..`, by an
            absolute path, or through a link.
    """
    try:
        return _real_path(folder, name)
    except InputError:
        found = by_last_part(folder, name)
        if found is None:
            raise
        return _real_path(folder, found)


def _real_path(folder: Path, name: str) -> Path:
    root = folder.resolve()
    try:
        path = (root / name).resolve(strict=True)
        inside = path.is_relative_to(root) and stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{name}: expected a photograph in {folder.name}, there is no such file"
        ) from error
    if not inside:
        raise InputError(
            f"{name}: lies outside the folder {folder.name}, or is no file; put the "
            "photographs into the folder"
        )
    return path


def open_inside(folder: Path, image: dict[str, Any]) -> IO[bytes]:
    """Opens an image record's file below a folder.

    Raises:
        InputError: the record has no file name, there is no such file, it lies outside
            the folder, or it is too large.
    """
    name = file_name_of(image)
    if not name:
        raise InputError(f"image id {image.get('id')}: the record has no file_name")
    path = path_inside(folder, name)
    try:
        # Held by descriptor: a folder on the way may become a link at any moment.
        file = open_below(folder.resolve(), path)
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror or error}") from error
    if os.fstat(file.fileno()).st_size > MOST_BYTES:
        file.close()
        raise InputError(f"{name}: larger than {MOST_BYTES >> 20} MB")
    return file
