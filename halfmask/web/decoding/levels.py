"""A large photograph's pixels in a file at several sizes, so that parts are read fast.

Level k is the photograph reduced by 2 ** k: its rows of RGB, one after the other. The
levels follow each other. Of the file, the system reads only what a part needs.
"""

from __future__ import annotations

import mmap
from typing import IO

import numpy as np
from PIL import Image

from halfmask.coco.images import Pixels
from halfmask.coco.photographs.orientation import Size
from halfmask.web.photographs import Window

LEVELS = 4
BAND = 1024
"""Rows that are reduced at a time; a multiple of 2 ** (LEVELS − 1)."""
_EDGE = 8
"""Pixels around a part that the filter sees."""


def bytes_of_levels(size: Size) -> int:
    """Returns the bytes of all levels of a photograph of a size (H, W)."""
    return sum(_bytes(_size_of(level, size)) for level in range(LEVELS))


def write_levels(picture: Image.Image, file: IO[bytes]) -> None:
    """Writes all levels of a photograph, RGB, to an empty file.

    Raises:
        OSError: the disk is full.
    """
    size = (picture.height, picture.width)
    places = [_start_of(level, size) for level in range(LEVELS)]
    for start in range(0, picture.height, BAND):
        end = min(start + BAND, picture.height)
        band = picture.crop((0, start, picture.width, end))
        for level in range(LEVELS):
            band = band.reduce(2) if level else band
            file.seek(places[level])
            places[level] += file.write(band.tobytes())
    file.flush()


def read_part(file: IO[bytes], whole: Size, *, window: Window, size: Size) -> Image.Image:
    """Returns a part of a photograph at a size (H, W).

    Args:
        file: its levels.
        whole: (H, W) of the photograph.
        window: inside the photograph.
        size: not larger than the window.
    """
    x0, y0, x1, y1 = window
    scale = min((y1 - y0) / size[0], (x1 - x0) / size[1])
    level = max(k for k in range(LEVELS) if scale >= 1 << k or k == 0)
    step = 1 << level
    left, top = max(0, x0 // step - _EDGE), max(0, y0 // step - _EDGE)
    right, bottom = -(-x1 // step) + _EDGE, -(-y1 // step) + _EDGE
    part = Image.fromarray(_rows(file, whole, level)[top:bottom, left:right].copy())
    box = (
        x0 / step - left,
        y0 / step - top,
        min(x1 / step - left, part.width),
        min(y1 / step - top, part.height),
    )
    if (y1 - y0, x1 - x0) == size:
        return part.crop(box)
    return part.resize(size[::-1], box=box, reducing_gap=2.0)


def _rows(file: IO[bytes], whole: Size, level: int) -> Pixels:
    height, width = _size_of(level, whole)
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    flat = np.frombuffer(mapped, np.uint8, height * width * 3, _start_of(level, whole))
    return flat.reshape(height, width, 3)


def _start_of(level: int, whole: Size) -> int:
    return sum(_bytes(_size_of(k, whole)) for k in range(level))


def _size_of(level: int, whole: Size) -> Size:
    return -(-whole[0] // (1 << level)), -(-whole[1] // (1 << level))


def _bytes(size: Size) -> int:
    return 3 * size[0] * size[1]
