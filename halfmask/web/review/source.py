"""The reviewed file: its records, read one by one, and its photographs."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from halfmask.coco.images import Pixels
from halfmask.coco.records import file_name_of
from halfmask.coco.supervision import MaskState, judge
from halfmask.errors import InputError
from halfmask.web.photographs import Shown, bytes_inside, decoded, read_size, room_for, shown
from halfmask.web.review.decisions import Decision
from halfmask.web.review.index import STATES, build_index


class SourceFile:
    """The reviewed file, opened once; its items are read by their bytes.

    Raises:
        InputError: from `read` and `reopened`, if the file was changed since it was
            opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] = path.open("rb")
        self._lock = threading.Lock()
        self._stamp = _stamp(self._file)

    def close(self) -> None:
        self._file.close()

    def read(self, start: int, end: int) -> Any:
        """Returns the JSON value at bytes start … end − 1."""
        with self._lock:
            self._check(self._file)
            self._file.seek(start)
            return json.loads(self._file.read(end - start))

    @contextmanager
    def reopened(self) -> Iterator[IO[bytes]]:
        """Opens the file again, to be read from its start; it must still be the same file."""
        with self.path.open("rb") as file:
            self._check(file)
            yield file
            self._check(file)

    def _check(self, file: IO[bytes]) -> None:
        if _stamp(file) != self._stamp:
            raise InputError(
                f"{self.path}: was changed during the review; restore it, or start the review again"
            )


def _stamp(file: IO[bytes]) -> tuple[int, ...]:
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class ReviewedFile:
    """The records of the reviewed file: annotations by *position*, images by *row*.

    Args:
        path: the completed COCO file; never written to.
        images: folder of its photographs.
    Raises:
        InputError: it is no COCO file, or halfmask filled no mask in it.
    """

    def __init__(self, path: Path, images: Path) -> None:
        self.index = build_index(path)
        if not len(self.index.queue):
            raise InputError(
                f"{path}: no mask in it was filled by halfmask, so there is nothing to review; "
                "fill masks first: halfmask complete"
            )
        self.source = SourceFile(path)
        self._images = images

    def annotation(self, position: int) -> dict[str, Any]:
        return dict(self.source.read(*self.index.spans[position].tolist()))

    def image(self, row: int) -> dict[str, Any]:
        return dict(self.source.read(*self.index.image_spans[row].tolist()))

    def size_of(self, position: int) -> tuple[int, int]:
        """Returns (H, W) of the annotation's photograph, from the file."""
        height, width = self.index.sizes[self.index.images[position]].tolist()
        return height, width

    def decision(self, position: int) -> Decision:
        """Returns the state in the file, with reviewer and time of an earlier review."""
        note = self.annotation(position).get("halfmask")
        note = note if isinstance(note, dict) else {}
        by, when = (
            note.get(key) if isinstance(note.get(key), str) else None for key in ("by", "when")
        )
        state = STATES[self.index.states[position]]
        return Decision(version=0, state=state, by=by, when=when)

    def mask(self, position: int, decision: Decision) -> tuple[Any, str | None]:
        """Returns the current segmentation, or None and why there is none."""
        if decision.mask is not None:
            return decision.mask["segmentation"], None
        annotation = self.annotation(position)
        verdict = judge(annotation, self.size_of(position))
        if verdict.state in (MaskState.BROKEN, MaskState.MISSING):
            return None, verdict.reason or "the annotation has no mask"
        return annotation["segmentation"], None

    def photograph(self, row: int) -> Shown:
        """Returns a photograph for the browser.

        Raises:
            InputError: it is missing, outside the folder, cut short, or its size is not
                the one in the file.
            BusyError: too many requests wait for memory.
        """
        data, name = self._photograph(row)
        with room_for(data, name):
            return shown(data, name)

    @contextmanager
    def pixels(self, row: int, shrink: int) -> Iterator[Pixels]:
        """Gives a block a photograph's pixels, uint8 [H, W, 3].

        `shrink` and errors are those of `decoded` and `room_for`.
        """
        data, name = self._photograph(row)
        with room_for(data, name, shrink):
            yield decoded(data, name, shrink)

    def _photograph(self, row: int) -> tuple[bytes, str]:
        image = self.image(row)
        data, name = bytes_inside(self._images, image), file_name_of(image)
        (height, width), (h, w) = self.index.sizes[row].tolist(), read_size(data, name)
        if (h, w) != (height, width):
            raise InputError(
                f"{name}: the photograph is {w} × {h} pixels, the file says {width} × {height}"
            )
        return data, name
