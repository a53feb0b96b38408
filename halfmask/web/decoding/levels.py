"""A large photograph's pixels on disk at several sizes, so that parts are read fast.

Level k is the photograph reduced by 2 ** k. Each is a NumPy file, of which the system
reads only the pages that a part needs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from halfmask.coco.images import Pixels
from halfmask.coco.photographs.orientation import Size
from halfmask.web.photographs import Window

LEVELS = 4
BAND = 1024
"""Rows that are reduced at a time; a multiple of 2 ** (LEVELS − 1)."""


def bytes_of_levels(size: Size) -> int:
    """Returns the bytes on disk of a photograph of a size (H, W)."""
    return sum(3 * -(-size[0] // (1 << k)) * -(-size[1] // (1 << k)) for k in range(LEVELS))


def write_levels(pixels: Pixels, folder: Path) -> None:
    """Writes a photograph, uint8 [H, W, 3], into an empty folder."""
    np.save(folder / "0.npy", pixels)
    for level in range(1, LEVELS):
        step = 1 << level
        height, width = (-(-side // step) for side in pixels.shape[:2])
        out = np.lib.format.open_memmap(folder / f"{level}.npy", "w+", np.uint8, (height, width, 3))
        for start in range(0, len(pixels), BAND):
            band = Image.fromarray(pixels[start : start + BAND]).reduce(step)
            out[start // step : start // step + band.height] = np.asarray(band)
        out.flush()
        del out


def read_part(folder: Path, window: Window, size: Size) -> Pixels:
    """Returns a part of a photograph, uint8 [H, W, 3], at a size (H, W).

    Args:
        folder: of its levels.
        window: inside the photograph, pixels of the photograph.
        size: not larger than the window.
    """
    x0, y0, x1, y1 = window
    scale = min((y1 - y0) / size[0], (x1 - x0) / size[1])
    level = max(k for k in range(LEVELS) if scale >= 1 << k or k == 0)
    step = 1 << level
    found = np.load(folder / f"{level}.npy", mmap_mode="r")
    edge = 8  # what the filter sees around the part
    left, top = max(0, x0 // step - edge), max(0, y0 // step - edge)
    right, bottom = -(-x1 // step) + edge, -(-y1 // step) + edge
    part = Image.fromarray(np.ascontiguousarray(found[top:bottom, left:right]))
    box = (
        x0 / step - left,
        y0 / step - top,
        min(x1 / step - left, part.width),
        min(y1 / step - top, part.height),
    )
    if (x1 - x0, y1 - y0) == size[::-1]:
        return np.asarray(part.crop(box))
    return np.asarray(part.resize(size[::-1], box=box, reducing_gap=2.0))
