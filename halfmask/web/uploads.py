"""Photographs that visitors sent, in memory, under names that nobody can guess."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from halfmask.coco.photographs.orientation import Size
from halfmask.web.budget import MOST_WAITING, WAIT_SECONDS, BusyError

MOST_HELD = 1 << 29
"""Bytes of photographs in memory."""
KEPT_SECONDS = 20.0
"""A photograph that was used in this time makes no room for others."""
SHARES = 4
"""One address's photographs are kept for that time up to this part of the memory."""


@dataclass(kw_only=True)
class Held:
    """A photograph in memory.

    Attributes:
        data: its file.
        size: (H, W) as a viewer shows it.
        owner: address of the client that sent it.
        used: when it was last used, seconds of a monotonic clock.
        readers: requests that read it now.
    """

    data: bytes | bytearray
    size: Size
    owner: str
    used: float
    readers: int = 0


class Uploads:
    """Uploaded photographs; their bytes never exceed a number.

    A new one takes the place of those that were not used for the longest time. One that
    a request reads, or that was used a moment ago, stays; then the new one waits.

    Args:
        most_bytes: of all photographs.
        clock: seconds, monotonic.
        seconds: how long a new photograph waits for room.
    """

    def __init__(
        self,
        most_bytes: int = MOST_HELD,
        *,
        clock: Callable[[], float] = time.monotonic,
        seconds: float = WAIT_SECONDS,
    ) -> None:
        self._most, self._clock, self._seconds = most_bytes, clock, seconds
        self._held: dict[str, Held] = {}
        self._waiting = 0
        self._changed = threading.Condition()

    def add(self, data: bytes | bytearray, size: Size, owner: str = "") -> str:
        """Keeps a photograph of a size (H, W); returns its name.

        Raises:
            BusyError: all others are in use.
        """
        name = secrets.token_urlsafe(18)
        with self._changed:
            if not self._make_room(len(data), owner):
                self._wait(lambda: self._make_room(len(data), owner))
            self._held[name] = Held(data=data, size=size, owner=owner, used=self._clock())
        return name

    @contextmanager
    def reading(self, name: str) -> Iterator[Held | None]:
        """Gives a block a photograph, which stays until its end; None if it is gone."""
        with self._changed:
            held = self._held.get(name)
            if held is not None:
                held.readers += 1
                held.used = self._clock()
        if held is None:
            yield None
            return
        try:
            yield held
        finally:
            with self._changed:
                held.readers -= 1
                held.used = self._clock()
                self._changed.notify_all()

    def _make_room(self, size: int, owner: str) -> bool:
        """Drops photographs until `size` bytes fit; drops none if they cannot."""
        free = self._most - sum(len(held.data) for held in self._held.values())
        dropped: list[str] = []
        for name in sorted(self._held, key=lambda one: self._held[one].used):
            if free >= size:
                break
            if self._may_go(self._held[name]):
                dropped.append(name)
                free += len(self._held[name].data)
        if free < size:
            return False
        for name in dropped:
            del self._held[name]
        return True

    def _may_go(self, held: Held) -> bool:
        if held.readers:
            return False
        own = sum(len(h.data) for h in self._held.values() if h.owner == held.owner)
        return self._clock() - held.used >= KEPT_SECONDS or own > self._most // SHARES

    def _wait(self, has_room: Callable[[], bool]) -> None:
        if self._waiting >= MOST_WAITING:
            raise BusyError
        self._waiting += 1
        until = self._clock() + self._seconds
        try:
            # Photographs become old without a sign, so it looks now and then.
            while not has_room():
                if self._clock() >= until:
                    raise BusyError
                self._changed.wait(0.5)
        finally:
            self._waiting -= 1
