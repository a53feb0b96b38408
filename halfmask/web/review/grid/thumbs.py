"""Small pictures of objects with their masks, for the grid of the review."""

from __future__ import annotations

import io
from collections.abc import Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from halfmask.coco.images import Pixels
from halfmask.masks.rle import Segmentation, crop_of
from halfmask.pictures.style import Colour
from halfmask.web.photographs import Window

CONTEXT = 0.18
"""Margin around the box, as a share of its longer side."""
LEAST = 24
"""Least side of the part of the photograph that is shown, pixels."""
QUALITY = 82
FILL = 0.28
"""Opacity of the mask's inside; its border is opaque."""


def window_around(box: Sequence[float], size: tuple[int, int]) -> Window:
    """Returns the square xyxy that a picture shows, moved into the photograph.

    Args:
        box: x, y, width, height.
        size: (H, W) of the photograph. Where it is smaller than the square, the square
            becomes a rectangle.
    """
    x, y, width, height = box
    side = max(ceil((1 + 2 * CONTEXT) * max(width, height)), LEAST)
    across, down = min(side, size[1]), min(side, size[0])
    left = min(max(round(x + (width - across) / 2), 0), size[1] - across)
    top = min(max(round(y + (height - down) / 2), 0), size[0] - down)
    return left, top, left + across, top + down


def shape_of(window: Window, side: int) -> tuple[int, int]:
    """Returns the (H, W) of a window's picture whose longer side has `side` pixels."""
    across, down = window[2] - window[0], window[3] - window[1]
    scale = side / max(across, down)
    return max(1, round(down * scale)), max(1, round(across * scale))


def thumbnail(
    pixels: Pixels,
    window: Window,
    *,
    size: tuple[int, int],
    mask: Segmentation | None,
    colour: Colour,
) -> bytes:
    """Returns a JPEG of a part of a photograph, with the mask of an object.

    Args:
        pixels: the part, uint8 [h, w, 3], at the size of the JPEG.
        window: the part, xyxy in pixels of the photograph.
        size: (H, W) of the photograph.
        mask: COCO's segmentation; None draws no mask.
        colour: of the mask.
    """
    picture = Image.fromarray(pixels)
    if mask is not None:
        _draw(picture, _covered(mask, window, size=size, shape=picture.size), colour)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def _covered(
    mask: Segmentation, window: Window, *, size: tuple[int, int], shape: tuple[int, int]
) -> Image.Image:
    """The mask in a picture of a shape (W, H), 255 inside and 0 outside."""
    found = crop_of(mask, size)
    if found is None:
        return Image.new("L", shape)
    bitmap, (x, y) = found
    canvas = Image.new("L", (window[2] - window[0], window[3] - window[1]))
    canvas.paste(Image.fromarray(bitmap * np.uint8(255)), (x - window[0], y - window[1]))
    small = canvas.resize(shape, Image.Resampling.BILINEAR, reducing_gap=3.0)
    return small.point(lambda value: 255 if value >= 128 else 0)


def _draw(picture: Image.Image, mask: Image.Image, colour: Colour) -> None:
    _tint(picture, np.asarray(mask) > 0, colour, opacity=FILL)
    _tint(picture, _border(mask, 5), (12, 14, 18), opacity=0.75)
    _tint(picture, _border(mask, 3), colour, opacity=1.0)


def _border(mask: Image.Image, reach: int) -> NDArray[np.bool_]:
    outer = mask.filter(ImageFilter.MaxFilter(reach))
    inner = mask.filter(ImageFilter.MinFilter(reach))
    border: NDArray[np.bool_] = np.asarray(outer) != np.asarray(inner)
    return border


def _tint(
    picture: Image.Image, where: NDArray[np.bool_], colour: Colour, *, opacity: float
) -> None:
    picture.paste(colour, (0, 0), Image.fromarray((where * opacity * 255).astype(np.uint8)))
