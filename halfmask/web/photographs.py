"""Photographs for a browser, in one frame: measured, decoded and encoded."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import numpy as np
from PIL import Image

from halfmask.coco.images import Pixels, to_rgb
from halfmask.coco.photographs.depth import is_deep
from halfmask.coco.photographs.orientation import SIDEWAYS, Frame, Orientation, Size
from halfmask.errors import InputError
from halfmask.files.pictures import picture_of

LARGEST_SHOWN = 4096
"""Longest side of a photograph in the browser; larger ones are sent smaller."""
HUGE_PIXELS = 40_000_000
"""Pixels of a JPEG beyond which the first view has fewer, so that it comes in a second."""
LEAST_SHOWN = LARGEST_SHOWN // 2
"""Longest side that the first view of such a JPEG has at least."""
MOST_PIXELS = 178_000_000
"""Pixels of a photograph; other commands refuse more, too."""
LOSSLESS_PIXELS = 4_000_000
"""Pixels up to which a photograph that is no JPEG is sent as PNG."""
AS_IS_BYTES = 1 << 24
"""Bytes of a JPEG up to which it is sent as it is, without its EXIF block."""
QUALITY = 90
_BACK = {6: 8, 8: 6}
_TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How Pillow turns pixels by an EXIF orientation."""

Source = bytes | IO[bytes]
"""A photograph's file: its bytes, or a file object open for reading bytes."""
Window = tuple[int, int, int, int]
"""x0, y0, x1, y1: a part of a photograph, pixels of its frame."""


@dataclass(frozen=True)
class Shown:
    """A photograph for a browser.

    Attributes:
        data: bytes of a JPEG or PNG file without EXIF orientation.
        media_type: its type.
    """

    data: bytes | memoryview
    media_type: str


def orientation_of(source: Source, where: str, most_pixels: int = MOST_PIXELS) -> Orientation:
    """Returns the size of a photograph in both frames, without decoding.

    Raises:
        InputError: Pillow cannot read it, or it has too many pixels.
    """
    with _image(source, where) as image:
        found = Orientation.of(image)
    height, width = found.stored
    if width * height > most_pixels:
        raise InputError(
            f"{where}: {width} × {height} pixels, more than {most_pixels // 1_000_000} "
            "million; make it smaller"
        )
    return found


def decoded(
    source: Source,
    where: str,
    *,
    frame: Frame = Frame.TURNED,
    window: Window | None = None,
    size: Size | None = None,
) -> Pixels:
    """Returns the pixels of `picture_part` a photograph, uint8 [H, W, 3] RGB."""
    return np.asarray(picture_part(source, where, frame=frame, window=window, size=size))


def picture_part(
    source: Source,
    where: str,
    *,
    frame: Frame = Frame.TURNED,
    window: Window | None = None,
    size: Size | None = None,
) -> Image.Image:
    """Returns a part of a photograph, RGB.

    Args:
        source: the photograph's file.
        where: its name, for errors.
        frame: the frame of the window and of the result.
        window: the part that is wanted, inside the photograph; None: all.
        size: (H, W) of the result; None: that of the window.
    Raises:
        InputError: Pillow cannot read it, it is cut short, or it has too many pixels.
    """
    found = orientation_of(source, where)
    whole = found.size_in(frame)
    x0, y0, x1, y1 = window or (0, 0, whole[1], whole[0])
    turn = _turn_to(frame, found)
    # From here on, all sides are those of the pixels as Pillow loads them.
    loaded = Orientation(_BACK.get(turn, turn), whole)
    (ax, ay), (bx, by) = loaded.point_turned((x0, y0)), loaded.point_turned((x1, y1))
    box = (min(ax, bx), min(ay, by), max(ax, bx), max(ay, by))
    height, width = size or (y1 - y0, x1 - x0)
    wanted = (height, width) if turn in SIDEWAYS else (width, height)
    with _image(source, where) as image:
        part = _part(image, box, wanted)
    del image  # it may take more than the part
    return part if turn == 1 else part.transpose(_TRANSPOSED[turn])


def _turn_to(frame: Frame, found: Orientation) -> int:
    """Returns the EXIF turn that brings the pixels, as Pillow loads them, into a frame."""
    if frame == Frame.TURNED:
        return 1 if found.loads_turned else found.turn
    return _BACK.get(found.turn, found.turn) if found.loads_turned else 1


def _part(
    image: Image.Image, box: tuple[float, float, float, float], size: tuple[int, int]
) -> Image.Image:
    """Returns a part of an opened image, RGB, of a size (W, H).

    A JPEG is decoded smaller where that is enough.
    """
    full, deep = image.size, is_deep(image)
    sides = (box[2] - box[0], box[3] - box[1])
    scale = min(side / wanted for side, wanted in zip(sides, size, strict=True))
    # A decoder rounds sides up: a first view of 1113 rows is an eighth of 8900.
    enough = (
        s for s in (8, 4, 2) if all(math.ceil(a / s) >= b for a, b in zip(sides, size, strict=True))
    )
    if not deep and (least := next(enough, 1)) > 1:
        image.draft(image.mode, (max(1, full[0] // least), max(1, full[1] // least)))
    step = _step(full, image.size)
    x0, y0, x1, y1 = (side / step for side in box)
    if deep:
        image = Image.fromarray(to_rgb(image))
    if image.mode != "RGB":
        # Only the part is converted, with what the filter sees around it.
        edge = math.ceil(4 * max(1.0, scale / step))
        left, top = max(0, math.floor(x0) - edge), max(0, math.floor(y0) - edge)
        right, bottom = math.ceil(x1) + edge, math.ceil(y1) + edge
        image.load()
        right, bottom = min(right, image.width), min(bottom, image.height)
        image = image.crop((left, top, right, bottom)).convert("RGB")
        x0, y0, x1, y1 = x0 - left, y0 - top, x1 - left, y1 - top
    else:
        image.load()
    x1, y1 = min(x1, image.width), min(y1, image.height)
    if image.size == size and (x0, y0) == (0, 0):
        return image
    if x1 - x0 == size[0] and y1 - y0 == size[1]:
        return image.crop((int(x0), int(y0), int(x1), int(y1)))
    return image.resize(size, box=(x0, y0, x1, y1), reducing_gap=2.0)


def _step(full: tuple[int, int], drafted: tuple[int, int]) -> int:
    """Returns the power of two by which a JPEG is decoded smaller."""
    return next(s for s in (1, 2, 4, 8) if drafted == tuple(math.ceil(side / s) for side in full))


def shown(source: Source, where: str, frame: Frame = Frame.TURNED) -> Shown:
    """Returns a photograph for a browser, in the frame of its masks.

    A JPEG keeps its bytes except the EXIF block, which holds orientation and location.
    One that is turned, and formats that browsers cannot show, are encoded again.

    Raises:
        InputError: Pillow cannot read it, it is cut short, or it has too many pixels.
    """
    found = orientation_of(source, where)
    with _image(source, where) as image:
        is_jpeg = image.format == "JPEG"
        as_is = frame == Frame.STORED or found.turn == 1
        fits = max(found.stored) <= LARGEST_SHOWN
        if is_jpeg and image.mode in ("L", "RGB") and as_is and fits:
            image.load()  # reports a file that is cut short
            if len(data := _bytes_of(source)) <= AS_IS_BYTES:
                return Shown(b"".join(_without_exif(data)), "image/jpeg")
            del data
    height, width = whole = found.size_in(frame)
    scale = _first_scale(whole, is_jpeg)
    size = (math.ceil(height * scale), math.ceil(width * scale))
    return encoded(
        picture_part(source, where, frame=frame, size=size),
        lossless=height * width <= LOSSLESS_PIXELS,
    )


def encoded(picture: Image.Image, *, lossless: bool = False) -> Shown:
    """Returns a picture as a PNG or a JPEG."""
    out = io.BytesIO()
    if lossless:
        picture.save(out, "PNG", compress_level=1)
        return Shown(out.getvalue(), "image/png")
    picture.save(out, "JPEG", quality=QUALITY)
    return Shown(out.getvalue(), "image/jpeg")


def _first_scale(size: Size, is_jpeg: bool) -> float:
    """Returns how large the first view of a photograph of a size (H, W) is."""
    longest = max(size)
    if is_jpeg and size[0] * size[1] > HUGE_PIXELS:
        step = next(s for s in (8, 4, 2, 1) if longest / s >= LEAST_SHOWN or s == 1)
        return min(1 / step, LARGEST_SHOWN / longest)
    return min(1.0, LARGEST_SHOWN / longest)


def _bytes_of(source: Source) -> bytes:
    if isinstance(source, bytes):
        return source
    source.seek(0)
    return source.read(AS_IS_BYTES + 1)


@contextmanager
def _image(source: Source, where: str) -> Iterator[Image.Image]:
    """Opens an image for a block that only reads it; any error becomes an InputError."""
    try:
        with picture_of(_rewound(source)) as image:
            yield image
    except Exception as error:
        # Pillow's decoders raise OSError, ValueError, SyntaxError, struct.error,
        # DecompressionBombError, …
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{where}: expected a photograph, cannot read it ({reason}); replace the file"
        ) from error


def _rewound(source: Source) -> Source:
    if not isinstance(source, bytes):
        source.seek(0)
    return source


def _without_exif(data: bytes) -> Iterator[bytes]:
    """Yields a JPEG's bytes without APP1 segments (EXIF and XMP)."""
    yield data[:2]
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] not in (0xDA, 0xFF):
        length = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] != 0xE1:
            yield data[at : at + length]
        at += length
    yield data[at:]
