"""Photographs of more than 8 bits: scaled to 8 by the range of their own values.

Cameras and scanners store 10, 12 or 14 bits in 16: nearly black if divided by 257.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from halfmask.files.pictures import picture_of

DEPTHS = (8, 10, 12, 14, 16)
"""Bits that are looked for; the fewest that hold the highest value are the range."""
DARK = 64
"""A picture of 8 bits with fewer than one value in a thousand from here on is dark."""
_SHARE = 99.9
_HIGHEST = 281  # TIFF's MaxSampleValue
_LOW_BYTES = {"RGB;16B": "RGB;16L", "RGB;16L": "RGB;16B", "RGB;16N": "RGB;16B"}
_LOW_BYTES |= {
    key.replace("RGB", "RGBA"): v.replace("RGB", "RGBA") for key, v in _LOW_BYTES.items()
}
"""Pillow's layout of 16-bit colours, of which it reads the high bytes, and of the low ones."""

BAND = 1 << 20
"""Values that are scaled at a time; more would only take memory."""

Values = NDArray[Any]
"""Whole numbers, or floats as the file has them."""


@dataclass(frozen=True)
class ValueRange:
    """The values of a photograph of more than 8 bits.

    Attributes:
        low: becomes 0.
        high: becomes 255.
        name: of the range, for messages.
        plain: whether the values leave no doubt about the range.
    """

    low: float
    high: float
    name: str
    plain: bool = True

    def to_bytes(self, values: Values) -> NDArray[np.uint8]:
        """Returns values as uint8: `low` is 0 and `high` 255."""
        flat = np.ravel(values)
        out = np.empty(flat.shape, np.uint8)
        for start in range(0, len(flat), BAND):
            band = flat[start : start + BAND].astype(np.float64)
            band = np.nan_to_num(band, nan=self.low, posinf=self.high, neginf=self.low)
            scaled = (band - self.low) * (255.0 / (self.high - self.low))
            out[start : start + BAND] = np.clip(scaled.round(), 0, 255)
        return out.reshape(values.shape)


def deep_values(image: Image.Image) -> Values | None:
    """Returns the values of an opened image of more than 8 bits, [H, W] or [H, W, C].

    None for an image of 8 bits. Of 16-bit colours Pillow reads the high byte only; it
    is None too where that suffices, since the values use 16 bits.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return np.asarray(image)
    if _layout(image) not in _LOW_BYTES:
        return None
    low = _low_bytes(image)
    values = np.asarray(image)[..., :3].astype(np.uint16)
    if values.max(initial=0) >= 1 << 6:  # 14 bits do not hold it
        return None
    values <<= 8
    values += low[..., :3]
    return values


def is_deep(image: Image.Image) -> bool:
    """Whether an opened image, of which no pixel is read yet, has more than 8 bits."""
    return image.mode.startswith("I") or image.mode == "F" or ";16" in _layout(image)


def range_of(values: Values, image: Image.Image) -> ValueRange:
    """Returns the range of a deep image: the file's own words, else the values'."""
    finite = values if _is_whole(values) else values[np.isfinite(values)]
    low, high = float(finite.min(initial=0)), float(finite.max(initial=0))
    whole = finite.size == values.size
    said = _said(image)
    if said is not None and low >= 0 and high <= said:
        return ValueRange(0, said, f"0 to {said:g}, as the file says", whole)
    if image.mode == "F" and low >= 0 and high <= 1:
        return ValueRange(0, 1, "0 to 1", whole)
    if low < 0 or high >= 1 << DEPTHS[-1]:
        return ValueRange(low, max(high, low + 1), f"{low:g} to {high:g}, its own values", False)
    if image.mode == "F" and not (finite == finite.round()).all() and not DARK <= high <= 255:
        return ValueRange(0, high, f"0 to {high:g}, its own values", False)
    bits = next(depth for depth in DEPTHS if high < 1 << depth)
    return ValueRange(0, (1 << bits) - 1, f"{bits} bits", whole)


def _is_whole(values: Values) -> bool:
    return values.dtype.kind in "iu"


def is_dark(pixels: NDArray[np.uint8]) -> bool:
    """Whether hardly a value uses the upper three quarters of the range."""
    return bool(np.percentile(pixels, _SHARE) < DARK)


def _layout(image: Image.Image) -> str:
    """Pillow's name of the layout in the file; "" if the pixels are read already."""
    tiles: list[Any] = list(getattr(image, "tile", []))
    arguments = tiles[0][3] if tiles else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _low_bytes(image: Image.Image) -> NDArray[np.uint8]:
    """The low bytes of 16-bit colours: the same file, read in the other byte order."""
    file: Any = getattr(image, "fp")  # noqa: B009 - Pillow's stubs do not name it
    place = file.tell()
    file.seek(0)
    data = io.BytesIO(file.read())
    file.seek(place)
    with picture_of(data) as opened:
        twin: Any = opened  # Pillow's stubs do not name `tile`
        tiles = []
        for codec, box, offset, arguments in list[Any](twin.tile):
            layout = _LOW_BYTES[arguments if isinstance(arguments, str) else arguments[0]]
            new = layout if isinstance(arguments, str) else (layout, *arguments[1:])
            tiles.append(type(twin.tile[0])(codec, box, offset, new))
        twin.tile = tiles
        return np.asarray(twin)


def _said(image: Image.Image) -> float | None:
    """The highest value that a TIFF says it may have."""
    tags: Any = getattr(image, "tag_v2", {})
    found = tags.get(_HIGHEST)
    first = found[0] if isinstance(found, tuple) and found else found
    usable = isinstance(first, int) and 0 < first < (1 << DEPTHS[-1]) - 1
    return float(first) if usable else None
