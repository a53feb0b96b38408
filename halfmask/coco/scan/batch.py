"""Items of a list of a large JSON file, and what reads many of them at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

MIB = 1 << 20
LONGEST = 256 * MIB
"""Largest item in bytes; an item must fit into memory."""
LONGEST_AGAIN = 4 * MIB
"""Most bytes after the last item of a chunk that are looked at a second time."""
DEEPEST = 100
"""Depth from which Python's JSON reader alone reads, which has a limit."""


Spans = NDArray[np.int64]
"""[n, 2], first byte and last byte + 1 of each of n items."""


@dataclass(frozen=True, kw_only=True)
class ListBatch:
    """Consecutive items of one of the lists.

    Attributes:
        key: name of the list.
        first: position of the first item in its list.
        items: JSON values; none if they are in `decoded`.
        spans: first byte and last byte + 1 of each item in the file; (-1, -1) for an
            item that is neither object nor list.
        decoded: what `decode` returned for these items.
        start: where the text that `decode` got begins in the file.
    """

    key: str
    first: int
    items: list[Any] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)
    decoded: Any = None
    start: int = 0


class Decode(Protocol):
    """Reads many items at once, faster than Python's JSON reader."""

    def __call__(self, key: str, text: bytes, spans: Spans, *, is_guess: bool) -> Any:
        """Returns the items; None for a text that it leaves to Python's JSON reader.

        It must not accept a text that is no JSON.

        Args:
            key: name of their list.
            text: between two items may lie more than a comma and blanks.
            spans: where the items lie in the text.
            is_guess: whether a span may be less or more than one item; then None is
                returned unless each is one object.
        """
