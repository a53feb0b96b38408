"""The reviewed file: its records, read one by one, and its photographs."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from halfmask.coco.photographs.orientation import Ruling, fault_of_frame
from halfmask.coco.photographs.reader import LOOKED_AT, Row, ruling_of
from halfmask.coco.reading.forms import standard_record
from halfmask.coco.records import file_name_of
from halfmask.coco.supervision import MaskState, is_box, judge
from halfmask.errors import InputError
from halfmask.web.decoding.photo import Photo, measured
from halfmask.web.decoding.pool import decoders
from halfmask.web.inside import open_inside, path_inside
from halfmask.web.review.index import STATES, build_index
from halfmask.web.review.log.decision import Decision
from halfmask.web.review.table import AnnotationTable

BLOCK = 1 << 20
DECODER_BYTES = 1536 << 20
"""Memory of a process that decodes photographs; one of 178 million pixels takes 1 GB."""


class SourceFile:
    """The reviewed file, opened once; its items are read by their bytes.

    A file that was only touched, or restored, is the same file: its content decides.

    Args:
        path: of the file.
        digest: SHA-256 of its content.
    Raises:
        InputError: also from `read`, `reopened` and `confirm`: the content is another.
    """

    def __init__(self, path: Path, digest: str) -> None:
        self.path, self._digest = path, digest
        self._file: IO[bytes] = path.open("rb")
        self._lock = threading.Lock()
        self._good: set[tuple[int, ...]] = set()
        self._check(self._file)

    def close(self) -> None:
        self._file.close()

    def read(self, start: int, end: int) -> Any:
        """Returns the JSON value at bytes start … end − 1."""
        return json.loads(self.read_bytes(start, end))

    def read_bytes(self, start: int, end: int) -> bytes:
        """Returns bytes start … end − 1."""
        with self._lock:
            self._check(self._file)
            self._file.seek(start)
            return self._file.read(end - start)

    @contextmanager
    def reopened(self) -> Iterator[IO[bytes]]:
        """Opens the file again, to be read from its start; it must still be the same file."""
        with self.path.open("rb") as file:
            self._check(file)
            yield file
            self._check(file)

    def confirm(self) -> None:
        """Raises InputError unless the path still names a file of the same content."""
        try:
            with self.path.open("rb") as file:
                self._check(file)
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be read any more ({error.strerror or error}); restore it, "
                "and go on: decisions so far are in the journal"
            ) from error

    def _check(self, file: IO[bytes]) -> None:
        stamp = _stamp(file)
        if stamp in self._good:
            return
        file.seek(0)
        digest = hashlib.sha256()
        for block in iter(lambda: file.read(BLOCK), b""):
            digest.update(block)
        if digest.hexdigest() != self._digest:
            raise InputError(
                f"{self.path}: was changed during the review; restore it, and go on: decisions "
                "so far are in the journal. Or start a review of the new file"
            )
        file.seek(0)
        if _stamp(file) == stamp:
            self._good.add(stamp)


def _stamp(file: IO[bytes]) -> tuple[int, ...]:
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class ReviewedFile:
    """The records of the reviewed file: annotations by *position*, images by *row*.

    Args:
        path: the COCO file; never written to.
        images: folder of its photographs.
    Raises:
        InputError: it is no COCO file, or has no annotation that can be reviewed.
    """

    def __init__(self, path: Path, images: Path) -> None:
        self.index = build_index(path)
        if not self.index.states.any():
            raise InputError(
                f"{path}: no annotation in it has a known image, a known class and a box, so "
                "there is nothing to review"
            )
        self.table = AnnotationTable(self.index)
        self.source = SourceFile(path, self.index.digest)
        self._images = images
        self._deciding = threading.Lock()
        self._decided: Ruling | None = None

    def annotation(self, position: int) -> dict[str, Any]:
        """Returns an annotation of the file; an added one has no record there."""
        if position >= self.table.file_count:
            return {}
        return dict(self.source.read(*self.index.spans[position].tolist()))

    def image(self, row: int) -> dict[str, Any]:
        return dict(self.source.read(*self.index.image_spans[row].tolist()))

    def size_of(self, position: int) -> tuple[int, int]:
        """Returns (H, W) of the annotation's photograph, from the file."""
        return self.size_of_image(int(self.table.images[position]))

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
        size = self.size_of(position)
        annotation = standard_record(self.annotation(position), size).record
        verdict = judge(annotation, size)
        if verdict.state in (MaskState.BROKEN, MaskState.MISSING):
            return None, verdict.reason or "the annotation has no mask"
        return annotation["segmentation"], None

    def photo(self, row: int) -> Photo:
        """Returns a photograph in the frame of the file.

        Raises:
            InputError: it is missing, outside the folder, no photograph, or has the
                size in the file in neither frame. Reading it may raise it, too.
            BusyError: too many requests wait for memory.
        """
        image, size = self.image(row), self.size_of_image(row)
        name, pool = file_name_of(image), decoders(DECODER_BYTES)

        def source() -> IO[bytes]:
            return open_inside(self._images, image)

        found = measured(pool, source, name)
        frame = self._ruling().frame(found, size)
        if frame is None:
            raise InputError(f"{name}: {fault_of_frame(found, size)}")
        return Photo(decoders=pool, source=source, where=name, frame=frame, size=size)

    def _ruling(self) -> Ruling:
        """How photographs are turned; decided when the first is shown."""
        with self._deciding:
            if self._decided is None:
                self._decided = ruling_of(self._some_rows(), str(self.source.path))
            return self._decided

    def _some_rows(self) -> Iterator[Row]:
        """Some images, evenly chosen: the photograph, (H, W), and all boxes on it."""
        total = len(self.index.sizes)
        image_of = self.index.images[self.index.by_image]
        for row in range(0, total, max(1, total // LOOKED_AT)):
            try:
                path = path_inside(self._images, file_name_of(self.image(row)))
            except InputError:
                continue
            first, last = np.searchsorted(image_of, row), np.searchsorted(image_of, row + 1)
            positions = self.index.by_image[first:last]
            boxes = [self.annotation(position).get("bbox") for position in positions]
            yield path, self.size_of_image(row), [box for box in boxes if is_box(box)]

    def size_of_image(self, row: int) -> tuple[int, int]:
        """Returns (H, W) of a photograph, from the file."""
        height, width = self.index.sizes[row].tolist()
        return height, width
