"""Bounds what all requests of a page together use; who finds no room is told to try again."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

MOST_WAITING = 8
"""Requests that may wait for room; further ones get `BusyError` at once."""
WAIT_SECONDS = 10.0


ASKING: ContextVar[str] = ContextVar("asking", default="")
"""Address of the client whose request is answered; "" outside of one."""


class BusyError(Exception):
    """Too many requests wait for the model, or for memory."""


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

    @contextmanager
    def room(self, amount: int) -> Iterator[None]:
        """Holds an amount for a block; one that is larger than all there is goes alone.

        Raises:
            BusyError: too many requests wait, or none ended in time.
        """
        with self._freed:
            self._take(amount)
        try:
            yield
        finally:
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
