"""Label Studio's masks: brushes (RGBA in thi.ng's rle-pack, a bit stream) and bitmasks (PNG)."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from halfmask.files.pictures import picture_of

_SIZES = (3, 4, 8, 16)
"""Bits of the four kinds of run length."""


def pack_brush(mask: NDArray[Any]) -> list[int]:
    """Returns the bytes of a mask [H, W] with four equal channels, 255 on the mask."""
    flat = np.asarray(mask).reshape(-1) > 0
    edges = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [len(flat)]])
    bits = [f"{4 * len(flat):032b}", f"{7:05b}", *(f"{size - 1:04b}" for size in _SIZES)]
    for start, length in zip(edges[:-1].tolist(), np.diff(edges).tolist(), strict=True):
        value, left = (255 if flat[start] else 0), 4 * length
        while left:
            piece = min(left, 1 << _SIZES[-1])
            kind = next(k for k, size in enumerate(_SIZES) if piece <= 1 << size)
            bits.append(f"1{kind:02b}{piece - 1:0{_SIZES[kind]}b}{value:08b}")
            left -= piece
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def unpack_brush(rle: object, image_size: tuple[int, int]) -> NDArray[np.uint8]:
    """Returns the mask uint8 [H, W] of 0 and 1, which is 1 where alpha is not 0.

    Raises:
        ValueError: not a list of bytes, or a stream that is cut short or of another
            size.
    """
    height, width = image_size
    if not isinstance(rle, list) or not all(type(v) is int and 0 <= v < 256 for v in rle):
        raise ValueError("the brush RLE is no list of bytes")
    stream = _Bits(bytes(rle))
    count, word = stream.read(32), stream.read(5) + 1
    if count != 4 * height * width or word != 8:
        raise ValueError(
            f"the brush RLE holds {count} values of {word} bits, expected {4 * height * width} of 8"
        )
    sizes = [stream.read(4) + 1 for _ in range(4)]
    alpha = np.zeros(height * width, dtype=np.uint8)  # every fourth value; the others do not count
    done = 0
    while done < count:
        is_run = stream.read(1)
        end = done + 1 + stream.read(sizes[stream.read(2)])
        if end > count:
            raise ValueError("the brush RLE is longer than its image")
        if is_run:
            alpha[done // 4 : end // 4] = stream.read(word)
        else:
            values = [stream.read(word) for _ in range(end - done)]
            alpha[done // 4 : end // 4] = values[3 - done % 4 :: 4]
        done = end
    return (alpha.reshape(height, width) > 0).astype(np.uint8)


class _Bits:
    """Reads numbers of any bit width from bytes, highest bit first."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def read(self, width: int) -> int:
        first, end = self.place // 8, self.place + width
        if end > 8 * len(self.data):
            raise ValueError("the brush RLE is cut short")
        window = int.from_bytes(self.data[first : (end + 7) // 8], "big")
        self.place = end
        return (window >> (-end % 8)) & ((1 << width) - 1)


def unpack_bitmask(address: object, image_size: tuple[int, int]) -> NDArray[np.uint8]:
    """Returns the mask uint8 [H, W] of a bitmask region: 1 where alpha is not 0.

    Args:
        address: `imageDataURL`: a PNG with black pixels on transparent ground.
        image_size: (H, W).
    Raises:
        ValueError: no such PNG, no transparency in it, or another size.
    """
    head, _, text = address.partition(",") if isinstance(address, str) else ("", "", "")
    if not re.fullmatch(r"data:image/\w+;base64", head):
        raise ValueError("the bitmask is no data:image/png;base64 address")
    try:
        with picture_of(base64.b64decode(text, validate=True)) as image:
            if (image.height, image.width) != image_size:
                raise ValueError(
                    f"the bitmask has {image.width} × {image.height} pixels, expected "
                    f"{image_size[1]} × {image_size[0]}"
                )
            if not image.has_transparency_data:
                raise ValueError("the bitmask has no transparency, so no background")
            alpha = np.asarray(image.convert("RGBA"))[..., 3]
    except (OSError, SyntaxError, Image.DecompressionBombError, binascii.Error) as error:
        raise ValueError(f"the bitmask is no PNG: {str(error)[:80]}") from error
    return (alpha > 0).astype(np.uint8)
