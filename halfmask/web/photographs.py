"""Photographs for a browser: in one frame, and only from inside the folder."""

from __future__ import annotations

import io
import math
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from halfmask.coco.images import Pixels, by_last_part, to_rgb
from halfmask.coco.photographs.orientation import Frame, Orientation
from halfmask.coco.records import file_name_of
from halfmask.errors import InputError
from halfmask.files.held import open_below
from halfmask.files.pictures import picture_of
from halfmask.web.budget import Budget

LARGEST_SHOWN = 4096
"""Longest side of a photograph in the browser; larger ones are sent smaller."""
MOST_PIXELS = 89_000_000
"""Pixels of a photograph; Pillow takes more for an attack."""
LOSSLESS_PIXELS = 4_000_000
"""Pixels up to which a photograph that is no JPEG is sent as PNG."""
LARGEST_CROP = 1024
QUALITY = 90
_MOST_BYTES = 1 << 28
DECODING_BYTES = 1_200_000_000
"""Memory of all photographs that are decoded, or wait for the model, at the same time."""
_EIGHT_BIT_COST = 12
"""Bytes for each pixel while a photograph of 8 bits is decoded, converted and encoded."""
_WIDE_COST = 40
"""The same of 16 and 32 bits, which are scaled in float64."""
_WIDE_MODES = frozenset({"I", "F"})
_DECODING = Budget(DECODING_BYTES)


@dataclass(frozen=True)
class Shown:
    """A photograph for a browser.

    Attributes:
        data: bytes of a JPEG or PNG file without EXIF orientation.
        media_type: its type.
    """

    data: bytes
    media_type: str


def path_inside(folder: Path, name: str) -> Path:
    """Returns the real path of a file below a folder.

    Where there is no such file, it is the only one with the same last part.

    Raises:
        InputError: there is no such file, or it lies outside the folder: by `..`, by an
            absolute path, or through a link.
    """
    try:
        return _real_path(folder, name)
    except InputError:
        found = by_last_part(folder, name)
        if found is None:
            raise
        return _real_path(folder, found)


def _real_path(folder: Path, name: str) -> Path:
    root = folder.resolve()
    try:
        path = (root / name).resolve(strict=True)
        inside = path.is_relative_to(root) and stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{name}: expected a photograph in {folder.name}, there is no such file"
        ) from error
    if not inside:
        raise InputError(
            f"{name}: lies outside the folder {folder.name}, or is no file; put the "
            "photographs into the folder"
        )
    return path


def bytes_inside(folder: Path, image: dict[str, Any]) -> bytes:
    """Returns the content of an image record's file below a folder.

    Raises:
        InputError: the record has no file name, there is no such file, or it lies
            outside the folder.
    """
    name = file_name_of(image)
    if not name:
        raise InputError(f"image id {image.get('id')}: the record has no file_name")
    path = path_inside(folder, name)
    try:
        # Held by descriptor: a folder on the way may become a link at any moment.
        with open_below(folder.resolve(), path) as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror or error}") from error
    if len(data) > _MOST_BYTES:
        raise InputError(f"{name}: larger than {_MOST_BYTES >> 20} MB")
    return data


def orientation_of(data: bytes, where: str, most_pixels: int = MOST_PIXELS) -> Orientation:
    """Returns the size of a photograph in both frames, without decoding.

    Raises:
        InputError: Pillow cannot read it, or it has too many pixels.
    """
    with _image(data, where) as image:
        found = Orientation.of(image)
    height, width = found.stored
    if width * height > most_pixels:
        raise InputError(
            f"{where}: {width} × {height} pixels, more than {most_pixels // 1_000_000} "
            "million; make it smaller"
        )
    return found


@contextmanager
def room_for(data: bytes, where: str, shrink: int = 1) -> Iterator[None]:
    """Holds the memory that a photograph needs while a block decodes and uses it.

    Arguments are those of `decoded`.

    Raises:
        InputError: as `orientation_of`.
        BusyError: other requests use the memory.
    """
    height, width = orientation_of(data, where).stored
    with _image(data, where) as image:
        if shrink > 1:
            image.draft("RGB", (max(1, width // shrink), max(1, height // shrink)))
        is_wide = image.mode in _WIDE_MODES or image.mode.startswith("I;16")
        cost = image.width * image.height * (_WIDE_COST if is_wide else _EIGHT_BIT_COST)
    with _DECODING.room(cost):
        yield


def decoded(data: bytes, where: str, shrink: int = 1, *, frame: Frame = Frame.TURNED) -> Pixels:
    """Returns the pixels of a photograph, uint8 [H, W, 3] RGB, in a frame.

    Args:
        shrink: a JPEG may be decoded smaller, by at most this factor, which is faster.
    Raises:
        InputError: Pillow cannot read it, it is cut short, or it has too many pixels.
    """
    found = orientation_of(data, where)
    height, width = found.stored
    with _image(data, where) as image:
        if shrink > 1:
            image.draft("RGB", (max(1, width // shrink), max(1, height // shrink)))
        return found.pixels_in(frame, to_rgb(image))


def shrink_for(width: float, height: float) -> int:
    """Returns how much smaller a photograph may be for a box of these sides in pixels.

    The box still has at least as many pixels as the crop of any model.
    """
    return max(1, int(max(width, height) // LARGEST_CROP))


def shown(data: bytes, where: str, frame: Frame = Frame.TURNED) -> Shown:
    """Returns a photograph for a browser, in the frame of its masks.

    A JPEG keeps its bytes except the EXIF block, which holds orientation and location.
    One that is turned, and formats that browsers cannot show, are encoded again.

    Raises:
        InputError: Pillow cannot read it, it is cut short, or it has too many pixels.
    """
    found = orientation_of(data, where)
    size = found.stored
    as_is = frame == Frame.STORED or found.turn == 1
    with _image(data, where) as image:
        known = image.format == "JPEG" and image.mode in ("L", "RGB")
        plain = known and as_is and max(size) <= LARGEST_SHOWN
        if plain:
            image.load()  # reports a file that is cut short
        else:
            scale = min(1.0, LARGEST_SHOWN / max(size))
            height, width = (math.ceil(side * scale) for side in size)
            image.draft("RGB", (width, height))  # a JPEG at 1/2, 1/4 or 1/8 if that suffices
            pixels = np.array(image.convert("RGB")) if image.format == "JPEG" else to_rgb(image)
            picture = Image.fromarray(found.pixels_in(frame, pixels))
            smaller = (width, height) if found.size_in(frame) == size else (height, width)
            if picture.size != smaller and scale < 1:
                picture = picture.resize(smaller, reducing_gap=2.0)
    if plain:
        return Shown(b"".join(_without_exif(data)), "image/jpeg")
    out = io.BytesIO()
    if size[0] * size[1] <= LOSSLESS_PIXELS:
        picture.save(out, "PNG", compress_level=1)
        return Shown(out.getvalue(), "image/png")
    picture.save(out, "JPEG", quality=QUALITY)
    return Shown(out.getvalue(), "image/jpeg")


@contextmanager
def _image(data: bytes, where: str) -> Iterator[Image.Image]:
    """Opens an image for a block that only reads it; any error becomes an InputError."""
    try:
        with picture_of(data) as image:
            yield image
    except Exception as error:
        # Pillow's decoders raise OSError, ValueError, SyntaxError, struct.error,
        # DecompressionBombError, …
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{where}: expected a photograph, cannot read it ({reason}); replace the file"
        ) from error


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
