"""The photographs of a COCO file, decoded ahead of the model that waits for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from halfmask.coco.images import Pixels, photograph_path, read_photograph
from halfmask.coco.records import file_name_of
from halfmask.errors import InputError
from halfmask.inference.complete.plan import Piece, Record

Photograph = Pixels | InputError
"""uint8 [H, W, 3] RGB, or why there is none."""

T = TypeVar("T")
U = TypeVar("U")


def photograph_of(folder: Path, image: Record, size: tuple[int, int]) -> Pixels:
    """The photograph of an image record, uint8 [H, W, 3] RGB in stored orientation.

    Raises:
        InputError: it has no name or one that leads out of the folder, is absent, cut
            short, no picture, or not of the size (H, W) that the file says.
    """
    where = f"image id {image['id']}"
    path = photograph_path(folder, file_name_of(image), where)
    pixels = read_photograph(path, where)
    if pixels.shape[:2] != size:
        found, said = f"{pixels.shape[1]} × {pixels.shape[0]}", f"{size[1]} × {size[0]}"
        raise InputError(
            f"{path} ({where}): the photograph is {found} pixels, the file says {said}; mend "
            "the record"
        )
    return pixels


def photographs_of(folder: Path, pieces: Sequence[Piece]) -> list[Photograph]:
    """The photographs of a batch; an error stands in for one that cannot be read."""
    return [_try(folder, piece) for piece in pieces]


def ahead(items: Iterable[T], work: Callable[[T], U], workers: int) -> Iterator[tuple[T, U]]:
    """Each item and work(item), in order, while `workers` threads are busy with the
    next ones (Pillow decodes outside Python's lock).

    At most `workers` + 1 results wait at a time; more would fill the memory with
    photographs. 0: nothing runs ahead.
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


def _try(folder: Path, piece: Piece) -> Photograph:
    try:
        return photograph_of(folder, piece.image, piece.size)
    except InputError as error:
        return error
