"""Bounds what all requests of a page together use; who finds no room is told to try again."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar

MOST_WAITING = 8
"""Requests that may wait for room; further ones get `BusyError` at once."""
WAIT_SECONDS = 10.0
RETRY_SECONDS = 3
"""When a client that was told *busy* should ask again."""


class BusyError(Exception):
    """Too many requests wait for the model, or for memory."""


class Holds:
    """What a request holds until its last byte is sent.

    Attributes:
        counted: bytes of its answer that are in a budget already.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.counted = 0

    def keep(self, hold: Hold) -> None:
        """Keeps a part of a budget until the request's answer is sent."""
        self._stack.enter_context(hold)
        self.counted += hold.amount

    def __enter__(self) -> Holds:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


ASKING: ContextVar[str] = ContextVar("asking", default="")
"""Address of the client whose request is answered; "" outside of one."""
HELD: ContextVar[Holds | None] = ContextVar("held", default=None)
"""What the request holds; None outside of one."""


def until_sent(hold: Hold) -> None:
    """Keeps a part of a budget as long as the request lasts; outside of one, no time."""
    if (held := HELD.get()) is not None:
        held.keep(hold)
        return
    with hold:
        pass


class ClientShares:
    """Counts what each client holds, so that one does not take everything.

    Args:
        most: how many one client may hold at a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: Counter[str] = Counter()
        self._counting = threading.Lock()

    @contextmanager
    def one(self, client: str) -> Iterator[None]:
        """Holds one for a block; the client "" has no share to keep to.

        Raises:
            BusyError: the client holds its share already.
        """
        with self._counting:
            if client and self._held[client] >= self._most:
                raise BusyError
            self._held[client] += 1
        try:
            yield
        finally:
            with self._counting:
                self._held[client] -= 1
                if not self._held[client]:
                    del self._held[client]


class Budget:
    """An amount that requests share, such as bytes of memory.

    Args:
        most: the amount.
        waiting: requests that may wait.
        seconds: how long each of them waits.
    """

    def __init__(
        self, most: int, *, waiting: int = MOST_WAITING, seconds: float = WAIT_SECONDS
    ) -> None:
        self._most, self._seconds = most, seconds
        self._used = 0
        self._places = waiting
        self._freed = threading.Condition()

    @property
    def used(self) -> int:
        return self._used

    def room(self, amount: int) -> Hold:
        """Takes an amount; one that is larger than all there is goes alone.

        Returns:
            What gives it back, as a context manager.
        Raises:
            BusyError: too many requests wait, or none ended in time.
        """
        with self._freed:
            self._take(amount)
        return Hold(self, amount)

    def room_now(self, amount: int) -> Hold:
        """As `room`, but never waits."""
        with self._freed:
            if not self._fits(amount):
                raise BusyError
            self._used += amount
        return Hold(self, amount)

    def give_back(self, amount: int) -> None:
        """Returns an amount that was taken."""
        with self._freed:
            self._used -= amount
            self._freed.notify_all()

    def _take(self, amount: int) -> None:
        if not self._fits(amount):
            if self._places <= 0:
                raise BusyError
            self._places -= 1
            try:
                if not self._freed.wait_for(lambda: self._fits(amount), self._seconds):
                    raise BusyError
            finally:
                self._places += 1
        self._used += amount

    def _fits(self, amount: int) -> bool:
        return self._used == 0 or self._used + amount <= self._most


class Hold:
    """A part of a budget. Leaving its block gives it back, once."""

    def __init__(self, budget: Budget, amount: int) -> None:
        self._budget, self.amount = budget, amount

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *_: object) -> None:
        amount, self.amount = self.amount, 0
        if amount:
            self._budget.give_back(amount)
