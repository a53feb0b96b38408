"""Writes files so that a reader never meets half of one."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from halfmask.coco.part_file import PartFile
from halfmask.errors import InputError


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
    """A file to write to, which is flushed to disk and takes the place of `path` when the block ends well; else nothing is left of it.

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
