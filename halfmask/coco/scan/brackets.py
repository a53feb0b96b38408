"""Finds the brackets of a JSON text that comes in chunks, with array operations.

Written here since JSON libraries give no byte positions.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

QUOTE, OPEN, CLOSE = ord('"'), ord("{"), ord("}")  # "[" and "]" are 32 less
LOWER = 32
BLANK = b" \t\r\n"
COMMA = ord(",")
_MOST_BETWEEN = 80
"""Most bytes between two items that are looked at one by one."""


class Brackets:
    """Finds brackets outside of strings, chunk after chunk; `deepest` is the greatest depth."""

    def __init__(self) -> None:
        self.depth = self.deepest = 0
        self._inside = 0
        self._escaped = False

    def begin(self, depth: int) -> None:
        """Begins outside of strings at a depth; `deepest` stays."""
        self.depth, self._inside, self._escaped = depth, 0, False

    def find(self, chunk: bytes) -> tuple[NDArray[np.int64], NDArray[np.int8], NDArray[np.int64]]:
        """Returns the brackets of the first three levels.

        Returns:
            Positions in the chunk; +1 for an opening, −1 for a closing bracket; the
                depth after it.
        """
        text = b"_" + chunk[1:] if self._escaped else chunk
        if b"\\" in text:
            text = re.sub(rb"\\.", b"__", text, flags=re.DOTALL)
        self._escaped = text.endswith(b"\\")
        data = np.frombuffer(text, dtype=np.uint8)
        lower = data | LOWER
        at = np.flatnonzero((data == QUOTE) | (lower == OPEN) | (lower == CLOSE))
        kinds = data[at]
        quotes = kinds == QUOTE
        inside = (np.cumsum(quotes) + self._inside) & 1
        self._inside = int(inside[-1]) if len(inside) else self._inside
        bracket = ~quotes & (inside == 0)
        at, opens = at[bracket], (kinds[bracket] | LOWER) == OPEN
        step = np.where(opens, 1, -1).astype(np.int8)
        depth = self.depth + np.cumsum(step, dtype=np.int64)
        self.depth = int(depth[-1]) if len(depth) else self.depth
        self.deepest = int(depth.max(initial=self.deepest))
        near = depth + ~opens <= 3
        return at[near], step[near], depth[near]


def commas_between(text: bytes, spans: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Returns the positions of the commas between items, one less than there are items.

    Args:
        text: holds the items.
        spans: [n, 2], first byte and last byte + 1 of each.
    Returns:
        None unless exactly one comma and else only blanks lie between two of them.
    """
    data = np.frombuffer(text, dtype=np.uint8)
    ends, gaps = spans[:-1, 1], spans[1:, 0] - spans[:-1, 1]
    commas = np.full(len(ends), -1, dtype=np.int64)
    if int(gaps.max(initial=0)) > _MOST_BETWEEN:
        return None
    for k in range(int(gaps.max(initial=0))):
        at = np.flatnonzero(gaps > k)
        found = data[ends[at] + k]
        is_comma = found == COMMA
        if not np.isin(found[~is_comma], list(BLANK)).all() or (commas[at[is_comma]] >= 0).any():
            return None
        commas[at[is_comma]] = ends[at[is_comma]] + k
    return None if (commas < 0).any() else commas
