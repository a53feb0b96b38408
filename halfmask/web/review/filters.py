"""Which annotations of a review a filter selects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfmask.web.review.index import STATES
from halfmask.web.review.log.decisions import Decisions
from halfmask.web.review.table import ORIGINS

DELETED = STATES.index("deleted")


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Selects annotations.

    Attributes:
        states: names of STATES; an empty set selects all but deleted ones.
        categories: category ids; an empty set selects all.
        low, high: bounds of the score, inclusive; what has no score has 0.
        origins: names of ORIGINS, or "all"; an empty set selects those of the review.
        least_area, most_area: bounds of the box's area in pixels, inclusive.
        text: part of the class's name, in any case.
        by: who made the current state; empty: anybody.
        image: row of the photograph; −1: all.
        commented: only with an open comment.
    """

    states: frozenset[str] = frozenset()
    categories: frozenset[int] = frozenset()
    low: float = 0.0
    high: float = 1.0
    origins: frozenset[str] = frozenset()
    least_area: float = 0.0
    most_area: float = float("inf")
    text: str = ""
    by: str = ""
    image: int = -1
    commented: bool = False


class Selection:
    """Applies filters to the annotations of a review.

    Args:
        decisions: of the review.
        people: whether people's masks are reviewed, not those that halfmask filled.
    """

    def __init__(self, decisions: Decisions, *, people: bool) -> None:
        self._decisions, self.table, self._people = decisions, decisions.table, people
        categories = self.table.index.categories
        self._ids = [int(c["id"]) for c in categories]
        self._names = [str(c.get("name")).casefold() for c in categories]

    def of(self, wanted: Filter) -> NDArray[np.bool_]:
        """Returns what the filter selects, bool [n]; never spare rows of the table."""
        table = self.table
        chosen = (table.states > 0) & self._of_origin(wanted.origins) & self._of_state(wanted)
        if wanted.low > 0 or wanted.high < 1:
            scores = table.scores.astype(np.float64).round(6).clip(0)
            chosen &= (scores >= wanted.low) & (scores <= wanted.high)
        rows = self._class_rows(wanted)
        if rows is not None:
            chosen &= _is_in(table.classes, rows)
        if wanted.least_area > 0 or wanted.most_area < float("inf"):
            areas = self.areas()
            chosen &= (areas >= wanted.least_area) & (areas <= wanted.most_area)
        if wanted.by:
            chosen &= table.people == self._decisions.people.get(wanted.by, -1)
        if wanted.image >= 0:
            chosen &= table.images == wanted.image
        if wanted.commented:
            with_comment = np.zeros(len(chosen), dtype=bool)
            with_comment[self._decisions.comments.positions(only_open=True)] = True
            chosen &= with_comment
        return chosen

    def areas(self) -> NDArray[np.float32]:
        """Returns the areas of all boxes in pixels, float32 [n]."""
        boxes = self.table.boxes
        areas: NDArray[np.float32] = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        return areas

    def _of_state(self, wanted: Filter) -> NDArray[np.bool_]:
        if not wanted.states:
            return np.asarray(self.table.states != DELETED)
        return _is_in(self.table.states, [STATES.index(state) for state in wanted.states])

    def _of_origin(self, origins: frozenset[str]) -> NDArray[np.bool_]:
        if "all" in origins:
            return np.asarray(self.table.origins > 0)
        names = origins or {"person" if self._people else "filled", "added"}
        return _is_in(self.table.origins, [ORIGINS.index(name) for name in names])

    def _class_rows(self, wanted: Filter) -> list[int] | None:
        """Returns the rows of the classes that the filter selects; None: all."""
        if not wanted.categories and not wanted.text:
            return None
        text = wanted.text.casefold()
        return [
            row
            for row, number in enumerate(self._ids)
            if (not wanted.categories or number in wanted.categories) and text in self._names[row]
        ]


def _is_in(column: NDArray[Any], values: list[int]) -> NDArray[np.bool_]:
    """Returns which rows of a column have one of some values.

    `np.isin` reads a column twice, and fails if a decision changes it in between.
    """
    return np.isin(column.copy(), values)
