"""Regions of large photographs, as sharp as the page shows them.

A photograph of more than some million pixels is decoded once. Its pixels then lie in a
file without a name, at several sizes, and vanish with the process, however it ends.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

from halfmask.coco.photographs.orientation import Size
from halfmask.errors import InputError
from halfmask.web.decoding.levels import bytes_of_levels
from halfmask.web.decoding.photo import Photo
from halfmask.web.photographs import Shown, Window

LARGEST_REGION = 4096
"""Longest side of a region as it is sent, pixels."""
SMALL_PIXELS = 16_000_000
"""Pixels up to which a photograph is decoded for each region: a tenth of a second."""
MOST_ON_DISK = 2 << 30
"""Bytes of all files; one of 178 million pixels takes 709 MB."""
Key = tuple[int, ...]
"""Row, and what tells a file from another that takes its place."""


@dataclass(kw_only=True)
class Levels:
    """A photograph's pixels on disk.

    Attributes:
        file: without a name; see `write_levels`.
        size: its bytes, also while they are being written.
        writing: held until they are there.
        is_whole: whether they are there; None before it was tried.
        readers: requests that use them.
    """

    file: IO[bytes]
    size: int
    writing: threading.Lock = field(default_factory=threading.Lock)
    is_whole: bool | None = None
    readers: int = 0


class Tiles:
    """The pixels of photographs that were looked at closely, on disk.

    Args:
        most_bytes: of all files; the least recently used one makes room.
    """

    def __init__(self, most_bytes: int = MOST_ON_DISK) -> None:
        self._most = most_bytes
        self._held: dict[Key, Levels] = {}
        self._lock = threading.Lock()

    def region(self, row: int, photo: Photo, *, window: Window, width: int) -> Shown:
        """Returns a region of a photograph as a JPEG, which is never enlarged.

        Args:
            row: of the photograph.
            photo: the photograph.
            window: in its pixels; what lies outside is cut off.
            width: of the JPEG; it is less if the region has less pixels, or a height of
                more than `LARGEST_REGION`.
        Raises:
            InputError: nothing of the window is inside, or the photograph cannot be
                read.
            BusyError: too many requests wait.
        """
        window = _inside(window, photo.size)
        size = _sent(window, width)
        if photo.size[0] * photo.size[1] > SMALL_PIXELS:
            with self._reading(row, photo) as levels:
                if levels is not None:
                    whole = photo.size
                    header, data = photo.decoders.ask(
                        "tile", levels.file, photo.where, whole=whole, window=window, size=size
                    )
                    return Shown(memoryview(data), header["media_type"])
        return photo.picture(window, size)

    @contextmanager
    def _reading(self, row: int, photo: Photo) -> Iterator[Levels | None]:
        """Gives a block a photograph's levels; None if the disk has no room for them."""
        with photo.source() as source:
            assert not isinstance(source, bytes | bytearray)
            status = os.fstat(source.fileno())
            stamp = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            with self._lock:
                levels = self._taken((row, *stamp), bytes_of_levels(photo.size))
            if levels is None:
                yield None
                return
            try:
                with levels.writing:
                    if levels.is_whole is None:
                        levels.is_whole = _written(levels, photo, source)
                yield levels if levels.is_whole else None
            finally:
                with self._lock:
                    levels.readers -= 1

    def _taken(self, key: Key, size: int) -> Levels | None:
        """Returns levels of a key with one reader more; those that exist, or empty ones."""
        levels = self._held.pop(key, None)
        if levels is None:
            for old in [k for k, held in self._held.items() if not held.readers]:
                if self._used() + size <= self._most:
                    break
                self._held.pop(old).file.close()
            free = shutil.disk_usage(tempfile.gettempdir()).free
            if self._used() + size > self._most or size > free // 2:
                return None
            levels = Levels(file=tempfile.TemporaryFile(), size=size)  # noqa: SIM115 - kept open
        self._held[key] = levels  # the last one is the most recently used
        levels.readers += 1
        return levels

    def _used(self) -> int:
        return sum(held.size for held in self._held.values())


def _written(levels: Levels, photo: Photo, source: IO[bytes]) -> bool:
    """Decodes a photograph into its levels; returns whether the disk had room."""
    header, _ = photo.decoders.ask(
        "levels", source, photo.where, output=levels.file, frame=photo.frame
    )
    if "disk_full" in header:
        levels.file.truncate(0)
        return False
    return True


def _inside(window: Window, size: Size) -> Window:
    x0, y0, x1, y1 = window
    x1, y1 = min(x1, size[1]), min(y1, size[0])
    if x0 >= x1 or y0 >= y1:
        raise InputError(
            f"the region {window} has no pixel of the photograph, which is {size[1]} × {size[0]}"
        )
    return x0, y0, x1, y1


def _sent(window: Window, width: int) -> Size:
    """Returns the size (H, W) at which a window is sent."""
    across, down = window[2] - window[0], window[3] - window[1]
    scale = min(1.0, width / across, LARGEST_REGION / down)
    return max(1, round(down * scale)), max(1, round(across * scale))
