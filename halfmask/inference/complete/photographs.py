"""Decodes the photographs of a COCO file ahead of the model that waits for them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

from halfmask.coco.images import Pixels
from halfmask.coco.photographs.orientation import Size
from halfmask.coco.records import Record
from halfmask.errors import InputError
from halfmask.inference.complete.plan import BATCH_PIXELS, Piece

Photograph = Pixels | InputError
"""uint8 [H, W, 3] RGB, or why it cannot be read."""

T = TypeVar("T")
U = TypeVar("U")


class ReadsPhotographs(Protocol):
    """Reads photographs, as `PhotographReader` does from a folder."""

    def read(self, image: Record, size: Size) -> Pixels:
        """Returns the photograph of an image record of a size (H, W)."""


class LargePhotograph:
    """Keeps the last very large photograph, which several batches in a row need.

    One thread decodes it; others that need it wait.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._image: int | None = None
        self._pixels: Photograph | None = None

    def read(self, piece: Piece, read: Callable[[Piece], Photograph]) -> Photograph:
        """Returns the photograph of a piece, decoded by `read` if it is another one."""
        if piece.size[0] * piece.size[1] <= BATCH_PIXELS:
            return read(piece)
        with self._lock:
            if self._pixels is None or self._image != piece.image["id"]:
                self._pixels = None  # not two of them at a time
                self._image, self._pixels = piece.image["id"], read(piece)
            return self._pixels


def photographs_of(
    reader: ReadsPhotographs, pieces: Sequence[Piece], last: LargePhotograph | None = None
) -> list[Photograph]:
    """Reads the photographs of a batch.

    Args:
        reader: of the file's photographs.
        pieces: one for each photograph.
        last: keeps a very large one for the next batch; None: nothing is kept.
    Returns:
        Pixels in the frame of the record; an error stands for one that cannot be read.
    """

    def read(piece: Piece) -> Photograph:
        try:
            return reader.read(piece.image, piece.size)
        except InputError as error:
            return error

    kept = last or LargePhotograph()
    return [kept.read(piece, read) for piece in pieces]


def ahead(items: Iterable[T], work: Callable[[T], U], workers: int) -> Iterator[tuple[T, U]]:
    """Yields each item and work(item), in order, while threads work on the next items.

    At most `workers` + 1 results wait at a time, to limit memory. With 0 workers
    nothing runs ahead. Pillow decodes without Python's lock, so threads help.
    """
    if workers <= 0:
        for item in items:
            yield item, work(item)
        return
    waiting: deque[tuple[T, Future[U]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="halfmask-decode")
    try:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) > workers:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
