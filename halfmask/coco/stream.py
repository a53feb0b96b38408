"""Writes a large COCO file annotation by annotation, and so that a reader never meets
half of one.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from halfmask.errors import InputError
from halfmask.files.atomic import PartFile


class CocoStream:
    """A COCO file that grows beside its place and is renamed into it when the `with`
    block ends well; otherwise nothing is left.

    Args:
        path: the file; folders that are missing are made.
        head: `info`, `categories` and the like, written first.
        images: the image records, written next.
    Raises:
        InputError: the place cannot be written.
    """

    def __init__(self, path: Path, head: dict[str, Any], images: Iterable[dict[str, Any]]) -> None:
        self.path = path
        self._target = (
            path.resolve() if path.is_symlink() else path
        )  # or the rename would replace the link
        self._separator = "\n"
        self._sealed = False
        try:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._part = PartFile(self._target)
        except OSError as error:
            raise InputError(f"{path}: cannot write here: {error.strerror or error}") from error
        self._file = io.TextIOWrapper(
            self._part.file, encoding="utf-8", errors="replace", newline="\n"
        )
        try:
            self._begin(head, images)
        except OSError as error:
            self._part.drop()
            raise InputError(f"{path}: cannot write here: {error.strerror or error}") from error

    def _begin(self, head: dict[str, Any], images: Iterable[dict[str, Any]]) -> None:
        self._file.write(json_text(head)[:-1] + (',\n"images": [' if head else '"images": ['))
        for image in images:
            self.add(image)
        self._file.write('],\n"annotations": [')
        self._separator = "\n"

    def add(self, annotation: dict[str, Any]) -> None:
        """Appends an annotation."""
        self.extend([json_text(annotation)])

    def extend(self, texts: Iterable[str]) -> None:
        """Appends annotations that are JSON texts already."""
        for text in texts:
            self._file.write(self._separator + text)
            self._separator = ",\n"

    def seal(self) -> None:
        """Ends the file and flushes it to disk; only the rename is left. To be called
        on all files of a set before any is renamed.
        """
        if not self._sealed:
            self._file.write("]}\n")
            self._file.detach()  # flushes, and leaves the file open
            self._part.flush()
            self._sealed = True

    def __enter__(self) -> CocoStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._part.drop()
            return
        try:
            self.seal()
            self._part.commit()
        except OSError as fault:
            self._part.drop()
            raise InputError(
                f"{self.path}: cannot write here: {fault.strerror or fault}"
            ) from fault


def json_text(record: dict[str, Any]) -> str:
    """A record on one line."""
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False)
