"""Which objects a sheet shows."""

from __future__ import annotations

from collections.abc import Sequence

BLOCKS = ("best", "median", "worst")


def best_median_worst(
    rows: Sequence[int], values: Sequence[float], each: int = 8
) -> dict[str, list[int]]:
    """The same of any rows by any value."""
    rows = sorted(rows, key=lambda k: -values[k])
    best, worst, middle = (min(each, (len(rows) + extra) // 3) for extra in (2, 1, 0))
    start = max(best, min((len(rows) - middle) // 2, len(rows) - worst - middle))
    return {
        "best": rows[:best],
        "median": rows[start : start + middle],
        "worst": rows[len(rows) - worst :][::-1],
    }
