"""Bodies and answers: each byte in a budget, in pieces, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPResponse
from typing import Any

import pytest
from fastapi import FastAPI, Response

from halfmask.web import connections, flow
from halfmask.web.budget import Budget, BusyError, Holds
from halfmask.web.flow import JSON_COST, PIECE, Answer, Body, ClientTurns
from halfmask.web.security import Access, Guard
from halfmask.web.server import PageServer

LARGE = 32 << 20
UPLOAD = Access(most_bytes=1 << 25, uploads=frozenset({"/file"}))


def scope_of(path: str, kind: str, length: int | None) -> dict[str, Any]:
    headers = [(b"host", b"localhost"), (b"content-type", kind.encode())]
    headers += [] if length is None else [(b"content-length", str(length).encode())]
    place = {"path": path, "raw_path": path.encode(), "query_string": b""}
    return {"type": "http", "method": "POST", "headers": headers} | place


@pytest.mark.parametrize(
    ("path", "kind", "declared", "cost"),
    [
        ("/file", "application/octet-stream", True, 1),
        ("/file", "application/octet-stream", False, 2),
        ("/file", "application/json", True, JSON_COST),
        ("/other", "application/octet-stream", True, JSON_COST),
        ("/other", "application/json", False, JSON_COST),
    ],
)
def test_a_body_counts_as_much_as_it_takes(path: str, kind: str, declared: bool, cost: int) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert len((await receive())["body"]) == 100
        seen.append(guard._arriving.used)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": bytes(100)}

    async def send(message: Any) -> None:
        pass

    guard = Guard(app, UPLOAD)
    asyncio.run(guard(scope_of(path, kind, 100 if declared else None), receive, send))
    assert seen == [100 * cost]
    assert guard._arriving.used == 0


def test_json_takes_no_more_memory_than_is_counted() -> None:
    import json
    import tracemalloc

    for piece in ("{}", "[]", '{"":0}', '""', "1.5", '"é"', '{"a":{"b":[]}}'):
        text = "[" + ",".join([piece] * 20_000) + "]"
        tracemalloc.start()
        found = json.loads(text.encode())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert found
        assert peak + 2 * len(text) < JSON_COST * len(text), piece


def test_a_large_answer_goes_out_in_pieces_and_counts_until_the_last() -> None:
    sent: list[Any] = []
    leaving = Budget(3 * PIECE)

    async def send(message: Any) -> None:
        sent.append((message, leaving.used))

    async def run() -> None:
        body = Body(send, most=1, declared=None, cost=1, arriving=Budget(1))  # type: ignore[arg-type]
        with Holds() as held:
            answer = Answer(send, body, held, leaving)
            await answer.send({"type": "http.response.start", "status": 200})
            await answer.send({"type": "http.response.body", "body": bytes(2 * PIECE + 5)})

    asyncio.run(run())
    assert [len(message.get("body", b"")) for message, _ in sent] == [0, PIECE, PIECE, 5]
    assert [message.get("more_body") for message, _ in sent] == [None, True, True, False]
    assert {used for _, used in sent} == {2 * PIECE + 5}
    assert leaving.used == 0


def test_an_answer_without_room_becomes_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "WAIT_SECONDS", 0.1)
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(2 * PIECE)})

    async def send(message: Any) -> None:
        sent.append(message)

    async def run() -> None:
        guard = Guard(app, UPLOAD)
        with guard._leaving.room(flow.ANSWER_BYTES):
            await guard(scope_of("/", "application/json", 0), send, send)  # type: ignore[arg-type]
        await guard(scope_of("/", "application/json", 0), send, send)  # type: ignore[arg-type]

    asyncio.run(run())
    assert [message["status"] for message in sent if "status" in message] == [503, 200]


def test_one_address_waits_for_itself_alone() -> None:
    async def run() -> list[str]:
        turns, log = ClientTurns(2, seconds=0.2), []

        async def ask(client: str, seconds: float) -> None:
            try:
                async with turns.one(client):
                    log.append(client)
                    await asyncio.sleep(seconds)
            except BusyError:
                log.append(f"{client} busy")

        await asyncio.gather(ask("a", 0.1), ask("a", 0.6), ask("a", 0.6), ask("a", 0), ask("b", 0))
        assert not turns._turns
        return log

    assert asyncio.run(run()) == ["a", "a", "b", "a", "a busy"]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[PageServer]:
    monkeypatch.setattr(connections, "ANSWER_SECONDS", 0.5)
    app = FastAPI()

    @app.get("/large")
    def large() -> Response:
        return Response(bytes(LARGE))

    with PageServer(app, port=0) as page:
        yield page


def ask(page: PageServer) -> socket.socket:
    port = int(page.address.rsplit(":", 1)[1].strip("/"))
    visitor = socket.create_connection(("127.0.0.1", port), timeout=30)
    visitor.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return visitor


def test_who_takes_the_answer_gets_it_whole_and_who_does_not_is_disconnected(
    server: PageServer,
) -> None:
    with ask(server) as visitor:
        answer = HTTPResponse(visitor)
        answer.begin()
        assert len(answer.read()) == LARGE
        time.sleep(0.7)  # the time of an answer is over; the connection stays
        visitor.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert visitor.recv(100).startswith(b"HTTP/1.1 404")
    with ask(server) as slow:
        slow.recv(1000)
        time.sleep(1.0)
        got = 0
        with suppress(ConnectionResetError):
            while block := slow.recv(1 << 20):
                got += len(block)
        assert got < LARGE


def test_slow_readers_keep_nobody_from_the_page(
    server: PageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "ANSWER_SECONDS", 30.0)
    readers = [ask(server) for _ in range(8)]  # four fit into the budget
    answers = []

    def page() -> None:
        port = int(server.address.rsplit(":", 1)[1].strip("/"))
        with socket.create_connection(("127.0.0.1", port), timeout=30) as visitor:
            visitor.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answers.append(visitor.recv(100))

    thread = threading.Thread(target=page)
    thread.start()
    thread.join(30)
    for reader in readers:
        reader.close()
    assert answers[0].startswith(b"HTTP/1.1 404")
