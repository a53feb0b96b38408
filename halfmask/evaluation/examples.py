"""Which of many measured masks to look at: the best, those in the middle, the worst."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from halfmask.evaluation.given_boxes import IouTable

BLOCKS = ("best", "median", "worst")


def examples(table: IouTable, category_ids: Collection[int] | None = None, each: int = 8) -> dict[str, list[int]]:
    """Rows of the table by IoU, no row twice: `best` (best first), `median` (around the middle, descending), `worst` (worst first).

    Where there are fewer than 3 · `each` instances they are shared out, so that a block gets a third of them, the best first.

    Args:
        category_ids: of these classes only; all when None.
        each: how many for a block, at most.
    """
    rows = [k for k, c in enumerate(table.categories) if category_ids is None or c in category_ids]
    return best_median_worst(rows, table.ious, each)


def best_median_worst(rows: Sequence[int], values: Sequence[float], each: int = 8) -> dict[str, list[int]]:
    """The same of any rows by any value."""
    rows = sorted(rows, key=lambda k: -values[k])
    best, worst, middle = (min(each, (len(rows) + extra) // 3) for extra in (2, 1, 0))
    start = max(best, min((len(rows) - middle) // 2, len(rows) - worst - middle))
    return {
        "best": rows[:best],
        "median": rows[start : start + middle],
        "worst": rows[len(rows) - worst :][::-1],
    }
