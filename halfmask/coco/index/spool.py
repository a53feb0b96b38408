"""Reads a COCO file of any size once; its annotations go to temporary files by image.

Memory does not grow with the number of annotations. Each annotation becomes a row, and
each row goes to one of some files, chosen by its image. Each of these is small enough
to be sorted in memory.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from halfmask.coco.index.decode import decode_records
from halfmask.coco.index.format import Array
from halfmask.coco.index.images import IndexImages
from halfmask.coco.problems import ProblemKind
from halfmask.coco.reading.ids import StandardIds, once
from halfmask.coco.records import check_records
from halfmask.coco.scan.batch import Decode, ListBatch
from halfmask.coco.scan.lists import scan_lists
from halfmask.progress import Progress

BYTES_A_PART = 48 << 20
"""Bytes of JSON for each temporary file."""
MOST_PARTS = 512
"""Largest number of temporary files: a process cannot hold many more open."""


class RowReader(Protocol):
    """Reads annotations, in file order, as rows of one NumPy type.

    Attributes:
        unknown_names: whether an annotation names its category, and none has that name.
    """

    unknown_names: bool

    def add(self, batch: ListBatch) -> Array:
        """Returns the rows of a batch, in file order; `image` is the row of their image."""


MakeRows = Callable[[Path, IndexImages, StandardIds], RowReader]


class Spool:
    """A COCO file whose annotations lie in temporary files.

    Attributes:
        path: the COCO file.
        ids: reads its ids.
        images: the usable images.
        categories: their records, by id.
        left_out: kind → number of images that cannot be used.
        constants: NaN, Infinity and -Infinity, where the three lists have them.
        rows: what reads the annotations.
        images_a_part: images in each part but the last.
    """

    def __init__(self, path: Path, folder: Path, make_rows: MakeRows) -> None:
        """Begins to read a file.

        Args:
            path: the COCO file.
            folder: of the temporary files; it exists.
            make_rows: returns what reads the annotations, once or again from the first.
        """
        self.path = path
        self.ids = StandardIds()
        self.images = IndexImages(path, self.ids)
        self.categories: list[Any] = []
        self.left_out: Counter[str] = Counter()
        self.constants: set[str] = set()
        self.images_a_part = 1
        self._folder, self._make_rows = folder, make_rows
        self._decode: Decode = decode_records
        self._files: list[IO[bytes]] = []
        self.rows = make_rows(path, self.images, self.ids)

    def read(
        self,
        progress: Progress | None = None,
        *,
        decode: Decode | None = None,
        look: Callable[[ListBatch], object] = id,
    ) -> None:
        """Reads the file once; twice if its annotations come before what they refer to.

        Args:
            progress: reports MiB read.
            decode: reads many records at once; None: `decode_records`.
            look: called with each batch of images.
        Raises:
            InputError: no COCO file (see `scan_lists`).
        """
        self._decode = decode or decode_records
        with _no_collection():
            self._read_lists(progress, look)
        for file in self._files:
            file.close()
        self.categories = once(self.categories, self.ids.merged, "category")
        self.categories = sorted(
            check_records(self.categories, str(self.path), "category"), key=lambda c: int(c["id"])
        )

    def _read_lists(self, progress: Progress | None, look: Callable[[ListBatch], object]) -> None:
        met: set[str] = set()

        def take(key: str) -> bool:
            if key == "annotations" and "images" in met:
                self._open_parts()
            met.add(key)
            return key != "annotations" or bool(self._files)

        for batch in self._scanned(take, progress):
            if batch.key == "images":
                self.left_out[ProblemKind.IMAGE_RECORD] += self.images.add(batch, str(self.path))
                look(batch)
            elif batch.key == "categories":
                self.categories += [
                    self.ids.categories.own(record, k, str(self.path))
                    for k, record in enumerate(batch.items, batch.first)
                ]
            else:
                self._spool(batch)
        if not self._files or self.rows.unknown_names:
            self._begin_annotations()
            for batch in self._scanned(lambda key: key == "annotations", progress):
                self._spool(batch)

    def part(self, number: int, kind: np.dtype[Any]) -> Array:
        """Returns the rows of a part in file order; `kind` is their type."""
        return np.fromfile(self._folder / str(number), dtype=kind)

    @property
    def parts(self) -> int:
        """Number of parts; each holds the annotations of `images_a_part` images."""
        return len(self._files)

    def _scanned(
        self, take: Callable[[str], bool], progress: Progress | None
    ) -> Iterator[ListBatch]:
        return scan_lists(
            self.path, take, progress=progress, constants=self.constants, decode=self._decode
        )

    def _begin_annotations(self) -> None:
        """Opens the temporary files, empty, and forgets what earlier annotations said."""
        for file in self._files:
            file.close()
        self.rows = self._make_rows(self.path, self.images, self.ids)
        self.ids.begin_annotations()
        self._open_parts()

    def _open_parts(self) -> None:
        """Opens the temporary files; all images are known."""
        self.images.close(str(self.path))
        images = max(1, len(self.images))
        parts = min(max(1, self.path.stat().st_size // BYTES_A_PART), MOST_PARTS, images)
        self.images_a_part = -(-images // parts)
        count = -(-images // self.images_a_part)
        self._files = [(self._folder / str(k)).open("wb") for k in range(count)]

    def _spool(self, batch: ListBatch) -> None:
        packed = self.rows.add(batch)
        part = packed["image"] // self.images_a_part
        order = np.argsort(part, kind="stable")
        bounds = np.searchsorted(part[order], np.arange(len(self._files) + 1))
        packed = packed[order]
        for k in np.flatnonzero(np.diff(bounds)).tolist():
            self._files[k].write(packed[bounds[k] : bounds[k + 1]].data)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Pauses the garbage collector: its search for cycles takes a third of the time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
