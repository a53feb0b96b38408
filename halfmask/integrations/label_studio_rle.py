"""Label Studio's own run-length code for brush masks: bits, not COCO's runs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIZES = (3, 4, 8, 16)
"""Bits of a run's length that a run may choose from, by an index of two bits."""
WORD = 8
CHANNELS = 4
"""The image that is coded is RGBA, all four channels 255 where the mask is."""


def encode_brush(mask: NDArray[np.bool_]) -> list[int]:
    """The bytes of a mask [H, W] as Label Studio's `rle`.

    A head: how many values there are (32 bits), their width − 1 (5 bits), the four sizes − 1 (4 bits each). Then for each run of one value
    the bit 1, the index of the size (2 bits), length − 1 in so many bits, and the value.
    """
    flat = mask.reshape(-1)
    changes = np.flatnonzero(np.diff(flat)) + 1
    bounds = np.concatenate([[0], changes, [flat.size]])
    bits = [f"{flat.size * CHANNELS:032b}{WORD - 1:05b}", *(f"{size - 1:04b}" for size in SIZES)]
    for start, length in zip(bounds[:-1].tolist(), np.diff(bounds).tolist(), strict=True):
        value = f"{255 if flat[start] else 0:0{WORD}b}"
        left = length * CHANNELS
        while left > 0:
            run = min(left, 1 << SIZES[-1])
            index = next(i for i, size in enumerate(SIZES) if run <= 1 << size)
            bits.append(f"1{index:02b}{run - 1:0{SIZES[index]}b}{value}")
            left -= run
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))
