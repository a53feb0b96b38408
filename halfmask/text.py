"""Lists, counts and names in messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def listed(items: Sequence[object], limit: int) -> str:
    """The items, separated by commas; beyond `limit` of them the rest is counted.

    Example: ``listed(["a", "b", "c"], 2)`` is ``"a, b and 1 more"``.
    """
    shown = ", ".join(str(item) for item in items[:limit])
    return shown + (f" and {len(items) - limit} more" if len(items) > limit else "")


def lines_of(lines: Sequence[str], limit: int) -> list[str]:
    """Indented lines for a report; beyond `limit` of them the rest is counted."""
    more = [f"  … and {len(lines) - limit} more"] if len(lines) > limit else []
    return [*(f"  {line}" for line in lines[:limit]), *more]


def plural(count: int, noun: str, ending: str = "s") -> str:
    """For example ``1 mask``, ``2,000 masks``; ``plural(2, "class", "es")``."""
    return f"{count:,} {noun}" + ending * (count != 1)


def with_counts(counts: Mapping[str, int]) -> list[str]:
    """Names with their counts, most first: ``["person (3)", "cat (1)"]``."""
    return [f"{name} ({n})" for name, n in sorted(counts.items(), key=lambda row: -row[1])]
