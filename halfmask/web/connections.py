"""Connections of a page: how many, how long one may say nothing, and how much is logged."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 15.0
"""A connection without a whole request's headers for this long is closed."""
ANSWER_SECONDS = 120.0
"""A visitor who does not take an answer in this time is disconnected."""
MOST_CONNECTIONS = 400
READ_BYTES = 1 << 16
"""Bytes that are read from a connection at a time."""
CONNECTION_BYTES = 6 * READ_BYTES
"""Memory of a connection: a read, what is parsed and waits, a piece of an answer and
what the visitor has not taken.
"""
LOG_LINES = 10
"""Lines of a library that are logged in `LOG_SECONDS`; the rest is counted."""
LOG_SECONDS = 60.0
LOGGERS = ("uvicorn.error", "asyncio")


def connection_limit() -> int:
    """Returns how many connections may be open: half of the descriptors of the process.

    At the system's limit, `accept` fails again and again, and the event loop spins.
    """
    with suppress(ImportError):  # not on Windows
        import resource

        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if descriptors != resource.RLIM_INFINITY:
            return max(8, min(MOST_CONNECTIONS, descriptors // 2))
    return MOST_CONNECTIONS


def backlog() -> int:
    """Returns how many connections asyncio accepts before it looks at one of them."""
    return max(4, min(64, connection_limit() // 4))


class PatientProtocol(H11Protocol):
    """Closes a connection whose headers do not come in time, and those beyond the limit."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._deadline: asyncio.TimerHandle | None = None
        self._slow: asyncio.TimerHandle | None = None
        self._most = connection_limit()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._most:
            transport.abort()
        else:
            if hasattr(transport, "max_size"):  # asyncio's own; other loops read little
                transport.max_size = READ_BYTES
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._stop_hurrying()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        if self._is_answering():
            self._stop_waiting()

    def on_response_complete(self) -> None:
        self._wait()
        if not self.flow.write_paused:
            self._stop_hurrying()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._slow is None:
            self._slow = self.loop.call_later(ANSWER_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self._is_answering():
            self._stop_hurrying()

    def _stop_hurrying(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(HEADER_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        if not self._is_answering():
            self.transport.abort()


class FewLines(logging.Filter):
    """Lets some lines of a logger pass in each minute, then one with the number of the rest."""

    def __init__(self, most: int = LOG_LINES, seconds: float = LOG_SECONDS) -> None:
        super().__init__()
        self._most, self._seconds = most, seconds
        self._lock = threading.Lock()
        self._begin, self._count = time.monotonic(), 0

    def filter(self, record: logging.LogRecord) -> bool:
        with self._lock:
            now = time.monotonic()
            if now - self._begin >= self._seconds:
                left = self._count - self._most
                self._begin, self._count = now, 0
                if left > 0:
                    record.msg = f"{record.getMessage()} (and {left} lines before it not shown)"
                    record.args = ()
            self._count += 1
            return self._count <= self._most


@contextmanager
def few_log_lines() -> Iterator[None]:
    """Limits what the server's libraries log within the block."""
    limits = [(logging.getLogger(name), FewLines()) for name in LOGGERS]
    for logger, limit in limits:
        logger.addFilter(limit)
    try:
        yield
    finally:
        for logger, limit in limits:
            logger.removeFilter(limit)
