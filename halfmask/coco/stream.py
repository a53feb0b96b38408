"""Writes a large COCO file annotation by annotation, and atomically."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from halfmask.files.atomic import PartFile, writing


class CocoStream:
    """A COCO file that grows beside its target and is renamed when its block succeeds.

    If the block fails, nothing is left.

    Args:
        path: the file; missing folders are made.
        head: `info`, `categories` and other keys, written first.
        images: the image records, written next.
    Raises:
        InputError: the file cannot be written.
    """

    def __init__(self, path: Path, head: dict[str, Any], images: Iterable[dict[str, Any]]) -> None:
        self.path = path
        self._separator = "\n"
        self._sealed = False
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._part = PartFile(path)
            self._file = io.TextIOWrapper(
                self._part.file, encoding="utf-8", errors="replace", newline="\n"
            )
            try:
                self._begin(head, images)
            except OSError:
                self._part.drop()
                raise

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
        """Appends annotations given as JSON texts."""
        for text in texts:
            self._file.write(self._separator + text)
            self._separator = ",\n"

    def seal(self) -> None:
        """Ends the file and flushes it to disk; only the rename remains.

        To write a set of files, seal all of them before any is renamed.
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
        try:
            if error is None:
                with writing(self.path):
                    self.seal()
                    self._part.commit()
        finally:
            self._part.drop()


def json_text(record: dict[str, Any]) -> str:
    """Returns a record as one line of JSON."""
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False)
