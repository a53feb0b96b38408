"""The order of the masks in a review, its filters, and the progress."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from halfmask.web.review.decisions import Decisions
from halfmask.web.review.index import STATES, ReviewIndex

HOLD_SECONDS = 90.0
"""How long a mask that one reviewer sees is kept from the others."""
HELD_AHEAD = 2
"""Masks that are held for a reviewer besides the current one."""
MOST_HOLDS = 4096


@dataclass(frozen=True)
class Filter:
    """Selects masks.

    Attributes:
        states: names of STATES; an empty set selects all.
        categories: category ids; an empty set selects all.
        low, high: bounds of the score, inclusive.
    """

    states: frozenset[str] = frozenset()
    categories: frozenset[int] = frozenset()
    low: float = 0.0
    high: float = 1.0


class Queue:
    """The masks in the review by *rank*, 0 for the worst score. Ranks never change."""

    def __init__(self, index: ReviewIndex, decisions: Decisions) -> None:
        self.index, self._decisions = index, decisions
        self._ids = np.array([c["id"] for c in index.categories], dtype=np.int64)
        self._classes = index.classes[index.queue]
        self._scores = index.scores[index.queue].astype(np.float64).round(6)
        self._ranks = np.full(len(index.ids), -1, dtype=np.int64)
        self._ranks[index.queue] = np.arange(len(index.queue))
        self._holds: dict[int, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def rank(self, position: int) -> int:
        """Returns the rank of an annotation, −1 if it is not in the review."""
        return int(self._ranks[position]) if 0 <= position < len(self._ranks) else -1

    def page(
        self, wanted: Filter, after: int, count: int, *, backwards: bool, client: str
    ) -> list[int]:
        """Returns ranks that the filter selects.

        Masks that other clients see are left out, except backwards or when no other
        mask is left. The client's current mask (`after`) and the next ones are held for
        it.

        Args:
            wanted: the filter.
            after: returns ranks after this one; −1 starts at the worst score.
            count: the largest number of ranks.
            backwards: returns ranks before `after` instead, nearest first.
            client: identifies the browser window.
        """
        with self._lock:  # a decision between selecting and holding would offer its mask again
            ranks = np.flatnonzero(self._selected(wanted))
            if backwards:
                before: list[int] = ranks[ranks < after][::-1][:count].tolist()
                return before
            ahead = ranks[ranks > after]
            busy = self._held_by_others(client)
            free = ahead[~np.isin(ahead, busy)] if busy else ahead
            if not len(free) and after < 0:
                free = ahead  # no other mask is left
            page: list[int] = free[:count].tolist()
            self._hold([after, *page[:HELD_AHEAD]], client)
        return page

    def count(self, wanted: Filter) -> int:
        """Returns how many masks the filter selects."""
        return int(self._selected(wanted).sum())

    def progress(self, wanted: Filter) -> dict[str, int]:
        """Returns state → masks of the filter's classes and scores; ignores its states."""
        everything = Filter(frozenset(), wanted.categories, wanted.low, wanted.high)
        states = self._decisions.states[self.index.queue][self._selected(everything)]
        counts = np.bincount(states, minlength=len(STATES)).tolist()
        return {state: counts[code] for code, state in enumerate(STATES) if state}

    def by_category(self) -> list[int]:
        """Returns the masks of each category, in the order of `ReviewIndex.categories`."""
        counts: list[int] = np.bincount(self._classes, minlength=len(self._ids)).tolist()
        return counts

    def _selected(self, wanted: Filter) -> NDArray[np.bool_]:
        selected = (self._scores >= wanted.low) & (self._scores <= wanted.high)
        if wanted.categories:
            selected &= np.isin(self._ids[self._classes], list(wanted.categories))
        if wanted.states:
            codes = [STATES.index(state) for state in wanted.states]
            selected &= np.isin(self._decisions.states[self.index.queue], codes)
        return selected

    def _held_by_others(self, client: str) -> list[int]:
        now = time.monotonic()
        self._holds = {rank: hold for rank, hold in self._holds.items() if hold[1] > now}
        return [rank for rank, (holder, _) in self._holds.items() if holder != client]

    def _hold(self, ranks: list[int], client: str) -> None:
        """Holds masks for a client, and releases the ones that it held before."""
        if not client:
            return
        self._holds = {rank: hold for rank, hold in self._holds.items() if hold[0] != client}
        if len(self._holds) < MOST_HOLDS:
            self._holds |= dict.fromkeys(ranks, (client, time.monotonic() + HOLD_SECONDS))
