"""Bitmaps in JSON: a PNG as base64 text, as labelme and Supervisely write masks."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from halfmask.files.pictures import picture_of
from halfmask.formats.sink import Size
from halfmask.masks.rle import Bitmap

_HEAD_BYTES = 1 << 16
"""Most bytes of a PNG besides its pixels."""
_CHANNELS = 5
"""Most bytes of a pixel: four channels and the filter's byte."""


def png_of_text(text: object) -> bytes:
    """Returns the bytes of a base64 text.

    Raises:
        ValueError: the value is none.
    """
    if not isinstance(text, str):
        raise ValueError("expected the mask as base64 text")
    return base64.b64decode("".join(text.split()), validate=True)


def unzipped(data: bytes, most: Size) -> bytes:
    """Returns zlib's data unpacked; other data unchanged.

    Args:
        data: Supervisely's bitmap, packed or (in old files) not.
        most: (H, W) of the image, which limits the size of what is unpacked.
    Raises:
        ValueError: the data are cut short, or larger than any PNG of the image.
    """
    if data.startswith(b"\x89PNG"):
        return data
    unpack = zlib.decompressobj()
    try:
        png = unpack.decompress(data, _HEAD_BYTES + _CHANNELS * most[0] * most[1])
    except zlib.error as error:
        raise ValueError(f"the mask cannot be unpacked ({error})") from error
    if not unpack.eof:
        raise ValueError("the packed mask is cut short, or larger than its image")
    return png


def bitmap_of_png(data: bytes, most: Size) -> Bitmap:
    """Returns the mask uint8 [h, w] of a PNG: where it is opaque, or else not black.

    Args:
        data: the file.
        most: (H, W) that the mask may have at most.
    Raises:
        ValueError: no PNG, a broken one, or one larger than `most`.
    """
    try:
        with picture_of(data) as image:
            if image.height <= most[0] and image.width <= most[1]:
                return _drawn(image)
            found = f"{image.width} × {image.height}"
    except Exception as error:
        # Pillow's decoders raise OSError, ValueError, SyntaxError, struct.error, …
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"the mask is no PNG that can be read ({reason[:100]})") from error
    raise ValueError(f"the mask of {found} pixels is larger than its image")


def _drawn(image: Image.Image) -> Bitmap:
    if "A" in image.mode or "transparency" in image.info:
        return (np.array(image.convert("RGBA"))[..., 3] > 0).astype(np.uint8)
    values: NDArray[Any] = np.array(image) > 0
    return np.asarray(values.any(axis=-1) if values.ndim == 3 else values, dtype=np.uint8)
