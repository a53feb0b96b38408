"""Opens pictures by a closed list of decoders, and saves those that halfmask draws.

No other code of the package opens one. Pillow tries some forty decoders whatever a file
is called. One of them starts another program (EPS: Ghostscript); most are rarely used
and rarely tested.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from halfmask.files.atomic import written_beside
from halfmask.files.kinds import MARK
from halfmask.files.regular import open_regular

DECODERS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
"""Pillow's names of the formats that are read; docs/reliability.md names them."""
READABLE = "JPEG, PNG, WebP, TIFF, BMP, GIF, PPM"
"""The same in the words of a message. JPEG includes MPO, which holds several."""
MOST_SCANS = 100
"""Scans of a progressive JPEG; encoders write about ten.

Each scan passes over all pixels and may be a few bytes long, so a small file of many
scans takes hours. (The scans of other JPEGs hold some bits for each block.)
"""
MOST_PLAIN = 4_000_000
"""Pixels of a PPM whose numbers are text, which takes a second a million to read."""
_SCAN = b"\xff\xda"  # within a scan's data, 0xFF is always followed by another byte


@contextmanager
def picture_of(source: str | Path | bytes | IO[bytes]) -> Iterator[Image.Image]:
    """Opens a picture, of which the header is read but no pixel decoded.

    Args:
        source: a path, the bytes of a file, or a file object open for reading bytes.
    Raises:
        OSError: there is no such file, it is not a regular file, not a picture of one
            of `DECODERS`, a JPEG of more than `MOST_SCANS` scans, or a plain PPM of
            more than `MOST_PLAIN` pixels.
        Exception: what else Pillow's decoders raise.
    """
    with ExitStack() as stack:
        if isinstance(source, bytes):
            file: IO[bytes] = io.BytesIO(source)
        elif isinstance(source, str | Path):
            file = stack.enter_context(open_regular(source))
        else:
            file = source
        try:
            image = stack.enter_context(Image.open(file, formats=DECODERS))
        except UnidentifiedImageError:
            raise UnidentifiedImageError(f"not a picture; expected {READABLE}") from None
        if image.info.get("progressive"):
            _check_scans(file)
        if image.tile and image.tile[0][0] == "ppm_plain":
            _check_plain(image)
        yield image


def save_marked(picture: Image.Image, path: Path, **options: Any) -> None:
    """Writes a picture whole, in the format of its name, else PNG.

    PNG and JPEG files get a mark, by which a later call knows them as halfmask's.

    Args:
        picture: the picture.
        path: the file; links are not followed.
        options: Pillow's, for the format.
    Raises:
        InputError: the file cannot be written.
    """
    form = Image.registered_extensions().get(path.suffix.lower(), "PNG")
    if form == "PNG":
        note = PngInfo()
        note.add_text("Software", MARK)
        options["pnginfo"] = note
    elif form == "JPEG":
        options["comment"] = MARK.encode()
    with written_beside(path) as file:
        picture.save(file, form, **options)


def _check_scans(file: IO[bytes]) -> None:
    """Raises OSError if a JPEG would take more than `MOST_SCANS` passes over its pixels."""
    place = file.tell()
    file.seek(0)
    scans, end = 0, b""
    while block := file.read(1 << 20):
        scans += (end + block).count(_SCAN)
        end = block[-1:]
    file.seek(place)
    if scans > MOST_SCANS:
        raise OSError(f"a JPEG of {scans} scans, more than {MOST_SCANS}; save it again")


def _check_plain(image: Image.Image) -> None:
    if image.width * image.height > MOST_PLAIN:
        raise OSError(
            f"a plain-text PPM of more than {MOST_PLAIN // 1_000_000} million pixels; save it as "
            "binary PPM or PNG"
        )
