"""A folder of many files that is there whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from halfmask.errors import InputError


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` to write into; it is renamed to `path` when the block ends well, and removed otherwise.

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
