"""Decodes the photographs of a COCO file ahead of the model that waits for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from halfmask.coco.images import Pixels
from halfmask.coco.photographs.reader import PhotographReader
from halfmask.errors import InputError
from halfmask.inference.complete.plan import Piece

Photograph = Pixels | InputError
"""uint8 [H, W, 3] RGB, or why it cannot be read."""

T = TypeVar("T")
U = TypeVar("U")


def photographs_of(reader: PhotographReader, pieces: Sequence[Piece]) -> list[Photograph]:
    """Reads the photographs of a batch.

    Args:
        reader: of the file's photographs.
        pieces: one for each photograph.
    Returns:
        Pixels in the frame of the record; an error stands for one that cannot be read.
    """

    def read(piece: Piece) -> Photograph:
        try:
            return reader.read(piece.image, piece.size)
        except InputError as error:
            return error

    return [read(piece) for piece in pieces]


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
