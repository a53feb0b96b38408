"""Which of many measured masks to look at: the best, those in the middle, the worst."""

from __future__ import annotations

from collections.abc import Collection

from halfmask.evaluation.measures.given_boxes import IouTable
from halfmask.pictures.pick import best_median_worst


def examples(
    table: IouTable, category_ids: Collection[int] | None = None, each: int = 8
) -> dict[str, list[int]]:
    """Rows of the table by IoU, no row twice: `best` (best first), `median` (around the
    middle, descending), `worst` (worst first).

    Where there are fewer than 3 · `each` instances they are shared out, so that a block
    gets a third of them, the best first.

    Args:
        category_ids: of these classes only; all when None.
        each: how many for a block, at most.
    """
    rows = [k for k, c in enumerate(table.categories) if category_ids is None or c in category_ids]
    return best_median_worst(rows, table.ious, each)
