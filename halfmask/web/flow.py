"""What comes in and goes out of a page: counted in budgets, in pieces, and never waiting."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from halfmask.web.budget import MOST_WAITING, RETRY_SECONDS, WAIT_SECONDS, Budget, BusyError, Holds

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_SECONDS = 60.0
"""A request that sends nothing for this long is refused."""
ARRIVING_BYTES = 320 << 20
"""Memory of all requests' bodies at the same time; a request beyond it is told *busy*."""
JSON_COST = 34
"""Memory for each byte of JSON: `{},` is an object of 88 bytes, beside the text twice."""
JSON_BYTES = 1 << 23
"""Bytes of a body that is no upload."""
ANSWER_BYTES = 1 << 27
"""Bytes of all large answers that are being sent, beside pictures of the decoders."""
PIECE = 1 << 16
"""Bytes of an answer that are handed to a connection at a time."""
POLL_SECONDS = 0.05
OF_ONE = 16
"""Requests of one address that are answered at the same time; further ones wait."""
BUSY = (
    "the server is busy with other visitors' requests; nothing is lost, try again in a few seconds"
)


def busy_answer() -> JSONResponse:
    """Returns the answer to a request that finds no room."""
    return JSONResponse({"detail": BUSY}, 503, {"retry-after": str(RETRY_SECONDS)})


class ClientTurns:
    """Lets each address have some requests at a time, so that none takes all threads.

    Args:
        most: requests of one address.
        seconds: how long a further one waits.
    """

    def __init__(self, most: int = OF_ONE, seconds: float = WAIT_SECONDS) -> None:
        self._most, self._seconds = most, seconds
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._users: Counter[str] = Counter()

    @asynccontextmanager
    async def one(self, client: str) -> AsyncIterator[None]:
        """Holds a turn for a block.

        Raises:
            BusyError: the address's other requests last too long.
        """
        turn = self._turns.setdefault(client, asyncio.Semaphore(self._most))
        self._users[client] += 1
        try:
            try:
                await asyncio.wait_for(turn.acquire(), self._seconds)
            except TimeoutError:
                raise BusyError from None
            try:
                yield
            finally:
                turn.release()
        finally:
            self._users[client] -= 1
            if not self._users[client]:
                del self._users[client], self._turns[client]


class Body:
    """The body of a request, counted as it arrives.

    Args:
        receive: of the connection.
        most: bytes that it may have.
        declared: bytes that it says it has; None if it does not say.
        cost: memory for each byte.
        arriving: the memory of all bodies.
    """

    def __init__(
        self, receive: Receive, *, most: int, declared: int | None, cost: int, arriving: Budget
    ) -> None:
        self._receive, self._most, self._left = receive, most, most
        self._declared, self._cost, self._arriving = declared, cost, arriving
        self._held = 0
        self.is_answered = False

    def forget(self) -> None:
        """Gives the memory back; the request is answered."""
        held, self._held = self._held, 0
        self._arriving.give_back(held)

    async def receive(self) -> Message:
        """Returns the next message of the connection.

        Raises:
            HTTPException: the body is too large, does not come, or finds no room.
        """
        if self.is_answered:  # now only the visitor's disconnection can follow
            return await self._receive()
        if self._declared:
            self._hold(self._declared)
            self._declared, self._cost = 0, 0
        try:
            message = await asyncio.wait_for(self._receive(), BODY_SECONDS)
        except TimeoutError:
            raise HTTPException(408, "the request did not come in time") from None
        size = len(message.get("body", b""))
        self._left -= size
        if self._left < 0:
            raise HTTPException(413, f"larger than {self._most >> 20} MB")
        self._hold(size)
        return message

    def _hold(self, size: int) -> None:
        amount = size * self._cost
        if not amount:
            return
        try:
            self._arriving.room_now(amount)
        except BusyError:
            raise HTTPException(503, BUSY, {"retry-after": str(RETRY_SECONDS)}) from None
        self._held += amount


class Answer:
    """The answer to a request: counted, and sent in pieces as the visitor takes them.

    A connection would take an answer of any size at once, and keep what a slow visitor
    does not take.

    Attributes:
        is_refused: there was no room for it, and nothing of it was sent.
    """

    waiting = 0

    def __init__(self, send: Send, body: Body, held: Holds, leaving: Budget) -> None:
        self._send, self._body, self._held, self._leaving = send, body, held, leaving
        self._start: Message | None = None
        self.is_refused = False

    async def send(self, message: Message) -> None:
        """Passes a message on."""
        self._body.is_answered = True
        if message["type"] == "http.response.start":
            self._start = message
            return
        if self.is_refused or message["type"] != "http.response.body":
            return
        body = memoryview(message.get("body", b""))
        if self._start is not None:
            if not await self._find_room(len(body) - self._held.counted):
                self.is_refused = True
                return
            start, self._start = self._start, None
            await self._send(start)
        more = message.get("more_body", False)
        for begin in range(0, len(body), PIECE):
            piece, rest = bytes(body[begin : begin + PIECE]), begin + PIECE < len(body)
            await self._send({**message, "body": piece, "more_body": more or rest})
        if not body:
            await self._send(message)

    async def _find_room(self, size: int) -> bool:
        if size <= PIECE:
            return True
        until = time.monotonic() + WAIT_SECONDS
        is_one_too_many = Answer.waiting >= MOST_WAITING
        Answer.waiting += 1
        try:
            while True:
                with suppress(BusyError):
                    self._held.keep(self._leaving.room_now(size))
                    return True
                if is_one_too_many or time.monotonic() >= until:
                    return False
                await asyncio.sleep(POLL_SECONDS)
        finally:
            Answer.waiting -= 1
