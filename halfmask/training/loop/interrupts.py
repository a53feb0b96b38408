"""Ctrl-C and SIGTERM: the training finishes its step, saves and stops."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupted(Exception):  # noqa: N818 - no error: the user asked for it
    """Stops work that can be repeated: an evaluation, the feature cache."""


class Interrupts:
    """Records the first signal between `install` and `restore`; the second one interrupts."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.received: int | None = None
        self._throwaway = False
        self._process = os.getpid()
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Installs the handlers, again if other code replaced them.

        Does nothing outside of the main thread.
        """
        for number in self.SIGNALS:
            current = signal.getsignal(number)
            if current == self._handle:
                continue
            try:
                signal.signal(number, self._handle)
            except ValueError:  # not the main thread
                return
            self._before.setdefault(number, current)

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    @contextmanager
    def throwaway(self) -> Iterator[None]:
        """Lets a signal raise Interrupted at once within the block."""
        if self.received is not None:
            raise Interrupted
        self._throwaway = True
        try:
            yield
        finally:
            self._throwaway = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a loader's worker, which its parent ends
            return
        if self.received is not None:
            # The next one finds what was there before: the command line's own handler.
            signal.signal(number, self._before.get(number, signal.default_int_handler))
            raise KeyboardInterrupt
        self.received = number
        if self._throwaway:
            raise Interrupted
