"""The order of the annotations in a review, its filters, and the progress."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from halfmask.errors import InputError
from halfmask.web.review.filters import Filter, Selection
from halfmask.web.review.index import STATES, ReviewIndex
from halfmask.web.review.log.decisions import Decisions

HOLD_SECONDS = 90.0
"""How long an annotation that one reviewer sees is kept from the others."""
HELD_AHEAD = 2
"""Annotations that are held for a reviewer besides the current one."""
MOST_HOLDS = 4096
MOST_TRAILS = 256
"""Browser windows of which the queue knows what they saw in an order that changes."""
SORTS = ("score", "class", "size", "file")
DISAGREEMENT = "disagreement"
"""The order of people's masks, see `people.doubts`; `order_by` gives it its values."""
Step = Literal["item", "class", "photo"]


@dataclass(frozen=True, kw_only=True)
class Order:
    """How a queue is sorted.

    Attributes:
        sort: one of SORTS, or a name given to `Queue.order_by`.
        reverse: whether the order is turned around.
    """

    sort: str = "score"
    reverse: bool = False


class Queue:
    """The annotations in a review.

    An annotation's *rank* is its place in an order, 0 for the first; the usual order
    begins with the lowest score.

    Args:
        index: of the reviewed file.
        decisions: of the review.
        people: whether people's masks are reviewed; None: if halfmask filled none.
    """

    def __init__(
        self, index: ReviewIndex, decisions: Decisions, people: bool | None = None
    ) -> None:
        self.index, self.table = index, decisions.table
        self.people = not len(index.queue) if people is None else people
        self._selection = Selection(decisions, people=self.people)
        self.selected = self._selection.of
        self._values: dict[str, NDArray[np.float32]] = {}
        self._orders: dict[Order, tuple[int, NDArray[np.int32], NDArray[np.int32]]] = {}
        self._seen: OrderedDict[tuple[str, Order], dict[int, None]] = OrderedDict()
        self._holds: dict[int, tuple[str, float]] = {}
        self.lock = threading.RLock()

    def __len__(self) -> int:
        """Returns the number of annotations in the review that are not deleted."""
        return self.count(Filter())

    @property
    def sorts(self) -> list[str]:
        """Names of the orders."""
        return [*SORTS, *self._values]

    def order_by(self, name: str, values: NDArray[Any]) -> None:
        """Gives every annotation of the file a value to sort by, highest first.

        New values may come at any time; `follow` leads through a changing order.

        Args:
            name: of the order.
            values: float [n]; NaN comes last.
        Raises:
            InputError: there is not one value for each annotation of the file.
        """
        if len(values) != self.table.file_count:
            raise InputError(
                f"{name}: expected {self.table.file_count} values, one for each annotation of "
                f"the file, found {len(values)}"
            )
        with self.lock:
            self._values[name] = np.asarray(values, dtype=np.float32)
            self._orders = {o: known for o, known in self._orders.items() if o.sort != name}

    def is_changing(self, order: Order) -> bool:
        """Whether an order is one of `order_by`."""
        return order.sort in self._values

    def value(self, name: str, position: int) -> float | None:
        """Returns the value of an annotation in an order of `order_by`; None: without one."""
        values = self._values.get(name)
        if values is None or position >= len(values) or not np.isfinite(values[position]):
            return None
        return float(values[position])

    def rank(self, position: int, order: Order = Order()) -> int:
        """Returns the rank of an annotation, −1 if it cannot be reviewed."""
        if not self.table.is_item(position):
            return -1
        return int(self._order(order)[1][position])

    def page(
        self,
        wanted: Filter,
        after: int,
        count: int,
        *,
        order: Order = Order(),
        step: Step = "item",
        backwards: bool = False,
        client: str = "",
    ) -> list[int]:
        """Returns positions that the filter selects, in the order.

        Annotations that other clients see are left out, except backwards or when no
        other is left. The client's current annotation (`after`) and the next ones are
        held for it.

        Args:
            wanted: the filter.
            after: returns what comes after this rank; −1 starts at the first.
            count: the largest number of positions.
            order: of the queue.
            step: class: only those of the same class as the current annotation; photo:
                only those on other photographs.
            backwards: returns what comes before `after` instead, nearest first.
            client: identifies the browser window.
        """
        with self.lock:  # a decision between selecting and holding would offer it again
            positions, _ = self._order(order)
            now = positions[after : after + 1] if after >= 0 else positions[:0]
            chosen = self._reached(wanted, now, step)[positions]
            if backwards:
                behind = max(after, 0)
                before: list[int] = positions[:behind][chosen[:behind]][::-1][:count].tolist()
                return before
            if after < 0:
                self._seen.pop((client, order), None)
            return self._free(
                positions[after + 1 :], chosen[after + 1 :], count=count, now=now, client=client
            )

    def follow(
        self, wanted: Filter, beyond: int, count: int, *, order: Order, step: Step, client: str
    ) -> list[int]:
        """Returns what a client sees after an annotation in an order that changes.

        This is what it saw after that annotation before, then what it has not seen, in
        the order. So new values neither hide an annotation nor bring one again. Whoever
        starts at the first of `page` has seen nothing.

        Args:
            wanted, count, order, step, client: as in `page`.
            beyond: position of the annotation.
        """
        with self.lock:
            positions, _ = self._order(order)
            seen = self._seen.setdefault((client, order), {})
            self._seen.move_to_end((client, order))
            while len(self._seen) > MOST_TRAILS:
                self._seen.popitem(last=False)
            seen.setdefault(beyond)
            trail = np.array([*seen], dtype=np.int32)
            later = trail[int(np.flatnonzero(trail == beyond)[0]) + 1 :]
            ahead = np.concatenate([later, positions[~np.isin(positions, trail)]])
            now = np.array([beyond], dtype=np.int32)
            return self._free(
                ahead, self._reached(wanted, now, step)[ahead], count=count, now=now, client=client
            )

    def _free(
        self,
        ahead: NDArray[np.int32],
        chosen: NDArray[np.bool_],
        *,
        count: int,
        now: NDArray[np.int32],
        client: str,
    ) -> list[int]:
        """Returns what no other client sees of the chosen positions; holds the first."""
        ahead = ahead[chosen]
        busy = self._held_by_others(client)
        free = ahead[~np.isin(ahead, busy)] if busy else ahead
        if not len(free) and not len(now):
            free = ahead  # no other is left
        page: list[int] = free[:count].tolist()
        self._hold([*now.tolist(), *page[:HELD_AHEAD]], client)
        return page

    def _reached(self, wanted: Filter, now: NDArray[np.int32], step: Step) -> NDArray[np.bool_]:
        """Returns what a step from the current annotation (at most one) may lead to."""
        chosen, table = self.selected(wanted), self.table
        if len(now) and step == "class":
            chosen &= table.classes == table.classes[now]
        elif len(now) and step == "photo":
            chosen &= table.images != table.images[now]
        return chosen

    def ordered(self, wanted: Filter, order: Order = Order()) -> NDArray[np.int32]:
        """Returns all positions that the filter selects, int32 [n], in an order."""
        with self.lock:
            positions, _ = self._order(order)
            return positions[self.selected(wanted)[positions]]

    def count(self, wanted: Filter) -> int:
        """Returns how many annotations the filter selects."""
        return int(self.selected(wanted).sum())

    def progress(self, wanted: Filter) -> dict[str, int]:
        """Returns state → annotations that the filter selects; ignores its states."""
        everything = replace(wanted, states=frozenset(STATES))
        states = self.table.states[self.selected(everything)]
        counts = np.bincount(states, minlength=len(STATES)).tolist()
        return {state: counts[code] for code, state in enumerate(STATES) if state}

    def by_category(self) -> list[int]:
        """Returns the annotations of each class in the review that are not deleted."""
        classes = self.table.classes[self.selected(Filter())]
        counts: list[int] = np.bincount(classes, minlength=len(self.index.categories)).tolist()
        return counts

    def _order(self, order: Order) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Returns all positions in an order, and the rank of each position."""
        with self.lock:
            table = self.table
            # Added annotations, and classes and boxes that change, make it anew.
            stamp = len(table) + (table.edits << 32 if order.sort in ("class", "size") else 0)
            known = self._orders.get(order)
            if known is None or known[0] != stamp:
                items = np.flatnonzero(table.states).astype(np.int32)
                positions = items[np.lexsort(self._keys(order.sort, items))]
                if order.reverse:
                    positions = self._reversed(order.sort, positions)
                ranks = np.full(len(table.states), -1, dtype=np.int32)
                ranks[positions] = np.arange(len(positions), dtype=np.int32)
                known = self._orders[order] = (stamp, positions, ranks)
            return known[1], known[2]

    def _reversed(self, sort: str, positions: NDArray[np.int32]) -> NDArray[np.int32]:
        """Returns positions the other way round; those without a value stay last."""
        positions = positions[::-1]
        if sort not in self._values:
            return positions
        return positions[np.argsort(np.isnan(self._column(sort)[positions]), kind="stable")]

    def _keys(self, sort: str, items: NDArray[np.int32]) -> list[NDArray[Any]]:
        """Returns the columns to sort by, the first one last; ties keep the file's order."""
        table = self.table
        scores = np.where(table.scores[items] < 0, 2, table.scores[items])  # those without: last
        if sort == "score":
            return [items, scores]
        if sort == "class":
            return [items, scores, table.classes[items]]
        if sort == "size":
            return [items, self._selection.areas()[items]]
        if sort == "file":
            return [items]
        if sort not in self._values:
            raise InputError(f"the queue cannot be sorted by {sort!r}; it knows {self.sorts}")
        return [items, -self._column(sort)[items]]

    def _column(self, name: str) -> NDArray[np.float32]:
        """Returns the values of an order of `order_by`, also for added annotations."""
        values = np.full(len(self.table.states), np.nan, dtype=np.float32)
        values[: self.table.file_count] = self._values[name]
        return values

    def _held_by_others(self, client: str) -> list[int]:
        now = time.monotonic()
        self._holds = {at: hold for at, hold in self._holds.items() if hold[1] > now}
        return [at for at, (holder, _) in self._holds.items() if holder != client]

    def _hold(self, positions: list[int], client: str) -> None:
        """Holds annotations for a client, and releases the ones that it held before."""
        if not client:
            return
        self._holds = {at: hold for at, hold in self._holds.items() if hold[0] != client}
        if len(self._holds) < MOST_HOLDS:
            self._holds |= dict.fromkeys(positions, (client, time.monotonic() + HOLD_SECONDS))
