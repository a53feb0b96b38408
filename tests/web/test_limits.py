"""What all visitors of a page together may use: memory, bodies, connections, log lines."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.exceptions import HTTPException

from halfmask.web import connections, security
from halfmask.web.budget import ASKING, Budget, BusyError, ClientShares
from halfmask.web.connections import FewLines, connection_limit
from halfmask.web.flow import JSON_COST
from halfmask.web.security import Access, Guard
from halfmask.web.segmenting import MOST_OF_ONE, Segmenter
from halfmask.web.server import PageServer

ROOT = Path(__file__).parents[2]


def together(count: int, work: Callable[[int], object]) -> list[object]:
    """Runs work in threads; returns each result or exception."""
    out: list[object] = [None] * count

    def run(k: int) -> None:
        try:
            out[k] = work(k)
        except BusyError as error:
            out[k] = error

    threads = [threading.Thread(target=run, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return out


def test_a_budget_is_never_exceeded_and_all_of_it_comes_back() -> None:
    budget, most, lock = Budget(10, waiting=100, seconds=60), [0], threading.Lock()

    def work(k: int) -> bool:
        with budget.room(1 + k % 4):
            with lock:
                most[0] = max(most[0], budget.used)
            time.sleep(0.001)
        return True

    assert together(40, work) == [True] * 40
    assert 4 <= most[0] <= 10
    assert budget.used == 0


def test_who_finds_no_room_is_told_to_come_again() -> None:
    budget = Budget(10, waiting=1, seconds=0.05)
    with budget.room(25):  # larger than all there is: alone
        assert budget.used == 25
        answers = together(3, lambda k: budget.room(1).__enter__())
        assert all(isinstance(answer, BusyError) for answer in answers)
    with pytest.raises(ZeroDivisionError), budget.room(5):
        _ = 1 / 0
    with budget.room(10):
        assert budget.used == 10


async def _post(guard: Guard, blocks: int, size: int, hold: asyncio.Event) -> int:
    """Sends a body in blocks, and waits before the last one; returns the status."""
    status = [0]
    sent = [0]

    async def receive() -> dict[str, Any]:
        sent[0] += 1
        if sent[0] == blocks:
            await hold.wait()
        return {"type": "http.request", "body": bytes(size), "more_body": sent[0] < blocks}

    async def send(message: Any) -> None:
        status[0] = message.get("status", status[0])

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/octet-stream")],
    }
    try:
        await guard(scope, receive, send)
    except HTTPException as error:
        return error.status_code
    return status[0]


def test_bodies_of_all_visitors_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "ARRIVING_BYTES", 1000 * JSON_COST)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def run() -> list[int]:
        guard, hold = Guard(app, Access(most_bytes=600)), asyncio.Event()
        first = asyncio.create_task(_post(guard, 2, 300, hold))
        second = asyncio.create_task(_post(guard, 2, 300, hold))
        await asyncio.sleep(0.01)
        third = await _post(guard, 2, 500, hold)  # 300 + 300 + 500
        hold.set()
        alone = await _post(guard, 2, 300, hold)
        return [await first, await second, third, alone, guard._arriving.used]

    assert asyncio.run(run()) == [200, 200, 503, 200, 0]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[PageServer]:
    from fastapi import FastAPI

    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.3)
    app = FastAPI()

    @app.get("/slow")
    def slow() -> str:
        time.sleep(0.6)
        return "done"

    with PageServer(app, port=0) as page:
        yield page


def connect(page: PageServer) -> socket.socket:
    port = int(page.address.rsplit(":", 1)[1].strip("/"))
    return socket.create_connection(("127.0.0.1", port), timeout=30)


@pytest.mark.parametrize(
    "start",
    [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", b"G"],
    ids=["none", "part", "G"],
)
def test_slow_headers_are_closed(server: PageServer, start: bytes) -> None:
    with connect(server) as visitor:
        visitor.sendall(start)
        with suppress(ConnectionResetError):
            assert visitor.recv(100) == b""


def test_drops_of_a_header_do_not_keep_a_connection(server: PageServer) -> None:
    closed = False
    with connect(server) as visitor, suppress(OSError):
        visitor.sendall(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n")
        closed = True
        for _ in range(400):
            visitor.sendall(b"X-A: b\r\n")
            time.sleep(0.05)
        closed = False
    assert closed


def test_a_slow_answer_is_not_cut_off_and_a_second_request_is_answered(server: PageServer) -> None:
    with connect(server) as visitor:
        for _ in range(2):
            visitor.sendall(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while b"done" not in answer:
                block = visitor.recv(1000)
                assert block, answer
                answer += block
            assert answer.startswith(b"HTTP/1.1 200")


CROWD = """
import resource, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96))
from fastapi import FastAPI
from halfmask.web import connections
from halfmask.web.segmenting import MOST_OF_ONE, Segmenter
from halfmask.web.server import PageServer
connections.HEADER_SECONDS = 1.0
app = FastAPI()
@app.get("/")
def hello(): return "hello"
with PageServer(app, port=0) as page:
    print(page.address, flush=True)
    sys.stdin.readline()
    print(time.process_time(), flush=True)
    sys.stdin.readline()
    print(time.process_time(), flush=True)
"""


def test_more_idle_connections_than_descriptors_do_not_spin() -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", CROWD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert run.stdin is not None
    assert run.stdout is not None
    port = int(run.stdout.readline().strip().strip("/").rsplit(":", 1)[1])

    def asked() -> float:
        assert run.stdin is not None
        assert run.stdout is not None
        run.stdin.write("\n")
        run.stdin.flush()
        return float(run.stdout.readline())

    idle = []
    for _ in range(200):
        idle.append(socket.socket())
        idle[-1].setblocking(False)
        idle[-1].connect_ex(("127.0.0.1", port))
    before = asked()
    time.sleep(2)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as visitor:
        visitor.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = visitor.recv(1000)
    spent = asked() - before
    for one in idle:
        one.close()
    _, errors = run.communicate(timeout=60)
    assert answer.startswith(b"HTTP/1.1 200")
    assert spent < 1.0
    assert errors.count("\n") < 40, errors[-2000:]


def test_the_limit_of_connections_leaves_descriptors_for_files() -> None:
    assert 8 <= connection_limit() <= connections.MOST_CONNECTIONS
    assert 4 <= connections.backlog() <= connection_limit()


def test_few_lines_of_many_are_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(connections.time, "monotonic", lambda: clock[0])
    few = FewLines(most=3, seconds=60.0)
    records = [logging.LogRecord("x", 30, "", 0, "line %d", (k,), None) for k in range(100)]
    assert [few.filter(record) for record in records[:50]] == [True] * 3 + [False] * 47
    clock[0] = 61.0
    assert [few.filter(record) for record in records[50:]] == [True] * 3 + [False] * 47
    assert records[50].getMessage() == "line 50 (and 47 lines before it not shown)"
    assert records[51].getMessage() == "line 51"


def test_one_client_does_not_take_the_whole_queue() -> None:
    shares = ClientShares(MOST_OF_ONE)
    with ExitStack() as held:
        for _ in range(MOST_OF_ONE):
            held.enter_context(shares.one("10.0.0.1"))
        with pytest.raises(BusyError), shares.one("10.0.0.1"):
            pass
        with shares.one("10.0.0.2"), shares.one(""):
            pass
    with shares.one("10.0.0.1"):
        pass


def test_the_model_knows_who_asks(tiny_segmenter: Path) -> None:
    segmenter = Segmenter(str(tiny_segmenter), device="cpu")
    pixels = np.zeros((48, 64, 3), dtype=np.uint8)
    asking = ASKING.set("10.0.0.1")
    try:
        with ExitStack() as held:
            for _ in range(MOST_OF_ONE):
                held.enter_context(segmenter._shares.one("10.0.0.1"))
            with pytest.raises(BusyError):
                segmenter.segment(pixels, (1, 1, 20, 20))
        assert segmenter.segment(pixels, (1, 1, 20, 20)).area > 0
    finally:
        ASKING.reset(asking)
        segmenter.close()


def test_the_guard_says_who_asks() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(ASKING.get())

    scope = {"type": "http", "path": "/", "method": "GET", "headers": [(b"host", b"localhost")]}
    scope |= {"query_string": b"", "raw_path": b"/", "client": ("10.0.0.7", 5)}
    asyncio.run(Guard(app, Access(token=None, names=frozenset()))(scope, None, None))  # type: ignore[arg-type]
    assert seen == ["10.0.0.7"]
