"""Serves the shipped model in a process of its own, and lets many clients upload the
largest allowed pictures all the time.

    python -m tests.reliability.load --minutes 10 --clients 50 --stalling 20

Each client has an address of its own. It uploads a picture of 40 million pixels and 32
MB, looks at it, and draws a box; every fifth client's has 16 bits. The verdict: the
memory of the server with its decoders stays below `STATED_BYTES`, each client is served,
no answer is anything but success or *busy* (503), and no photograph is gone that its
client still works with. Beside them, some clients stall: half an upload, an answer that
they do not read, the most expensive JSON, uploads of unknown length. They only have to
leave the server below its bound.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

from halfmask.web.connections import CONNECTION_BYTES, MOST_CONNECTIONS
from halfmask.web.decoding.pool import DECODER_BYTES, DECODERS, LIBRARY_BYTES, RESULT_BYTES
from halfmask.web.flow import ANSWER_BYTES, ARRIVING_BYTES, JSON_BYTES, PIECE
from halfmask.web.tryout_app import MOST_PIXELS, UPLOAD_BYTES
from halfmask.web.uploads import MOST_HELD

MODEL_BYTES = 1280 << 20
"""Python, PyTorch, the shipped model at work, and what the allocator keeps."""
PARTS = {
    "Python, PyTorch and the model at work": MODEL_BYTES,
    "photographs that are kept": MOST_HELD,
    "bodies that arrive": ARRIVING_BYTES,
    "pixels and pictures from decoders": RESULT_BYTES,
    "other answers being sent": ANSWER_BYTES,
    "connections": MOST_CONNECTIONS * CONNECTION_BYTES,
    "decoders": DECODERS * (DECODER_BYTES + LIBRARY_BYTES),
}
STATED_BYTES = sum(PARTS.values())
"""What the server and its decoders may use together."""
WIDTH, HEIGHT = 8000, 5000
assert WIDTH * HEIGHT == MOST_PIXELS
BOX = [3000, 2000, 900, 900]
PAUSE, PATIENCE = 0.2, 300.0
"""Seconds before a client tries again; and for an answer, or for the first success."""
STALL = 10.0
"""Seconds that a stalling client does nothing."""
GONE, BUSY = "no longer has this photograph", "busy"
OCTETS = {"content-type": "application/octet-stream"}
JSON = {"content-type": "application/json"}


def largest(is_wide: bool) -> bytes:
    """A JPEG of noise, or a PNG of 16 bits, of as many pixels and bytes as are allowed."""
    out = io.BytesIO()
    if is_wide:
        row = np.arange(WIDTH, dtype=np.uint16) * 8
        Image.fromarray(np.tile(row, (HEIGHT, 1))).save(out, "PNG", compress_level=1)
    else:
        noise = np.random.default_rng(0).integers(0, 256, (500, 500, 3), dtype=np.uint8)
        picture = Image.fromarray(np.tile(noise, (HEIGHT // 500, WIDTH // 500, 1)))
        picture.save(out, "JPEG", quality=40)
    data = out.getvalue()
    assert len(data) <= UPLOAD_BYTES, len(data)
    return data + bytes(UPLOAD_BYTES - len(data))  # decoders stop before it


@dataclass
class Server:
    """A running `halfmask serve`."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int = 0

    def memory(self, key: str) -> list[int]:
        """Bytes of VmRSS (now) or VmHWM (the peak): of the server, then of each decoder."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task").glob("*/children")
        found = [pid, *(int(child) for file in children for child in file.read_text().split())]
        return [_status(process, key) for process in found]


def _status(process: int, key: str) -> int:
    """A line of a process's status, bytes; 0 if it has ended."""
    with suppress(OSError, IndexError):
        text = Path(f"/proc/{process}/status").read_text()
        return 1024 * int(text.split(f"{key}:")[1].split()[0])
    return 0


class Watch(threading.Thread):
    """Looks at the server's memory all the time.

    Attributes:
        peaks: the largest sum of the processes' peaks, and the server's own.
    """

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._server, self._ended = server, threading.Event()
        self.peaks = (0, 0)

    def run(self) -> None:
        while not self._ended.wait(0.2):
            with suppress(OSError):
                found = self._server.memory("VmHWM")
                self.peaks = max(self.peaks[0], sum(found)), max(self.peaks[1], found[0])

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()

    def __enter__(self) -> Watch:
        self.start()
        return self


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Starts the server and ends it with Ctrl-C."""
    log = folder / "log.txt"
    command = [sys.executable, "-m", "halfmask", "serve", "box-segmenter", "--port", "0"]
    with log.open("wb") as file:
        process = subprocess.Popen([*command, "--device", "cpu"], stdout=file, stderr=file)
    server = Server(process, log)
    try:
        until = time.monotonic() + PATIENCE
        while (found := re.search(r"http://[\w.]+:(\d+)", log.read_text())) is None:
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(log.read_text())
            time.sleep(0.1)
        server.port = int(found[1])
        yield server
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()
        process.wait()


@dataclass
class Client:
    """One visitor.

    Attributes:
        answers: kind of request and answer → number.
        served: uploads that succeeded.
    """

    port: int
    number: int
    picture: bytes
    answers: Counter[str] = field(default_factory=Counter)
    served: int = 0

    @contextmanager
    def connected(self) -> Iterator[http.client.HTTPConnection]:
        """Gives a block a connection from the client's own address."""
        own = f"127.0.1.{self.number % 250 + 1}"
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=PATIENCE, source_address=(own, 0)
        )
        try:
            yield connection
        finally:
            connection.close()

    def ask(self, what: str, method: str, path: str, body: bytes | None = None) -> Any:
        """Returns the answer's bytes if it is a success, and None if it is not."""
        try:
            with self.connected() as connection:
                # A refusal may come, and the connection close, before all is sent.
                with suppress(BrokenPipeError, ConnectionResetError):
                    connection.request(method, path, body, OCTETS if what == "upload" else JSON)
                answer = connection.getresponse()
                data = answer.read()
        except Exception as error:
            self.answers[f"{what}: {error!r}"] += 1
            return None
        self.answers[f"{what}: {_kind(answer.status, data)}"] += 1
        return data if answer.status == 200 else None

    def visit(self, until: float) -> None:
        """Uploads, looks and draws until `until`, and until it was served."""
        last = until + PATIENCE
        while (now := time.monotonic()) < until or (not self.served and now < last):
            answer = self.ask("upload", "POST", "/api/photos", self.picture)
            if answer is not None:
                self.served += 1
                photo = f"/api/photos/{json.loads(answer)['photo']}"
                self.ask("look", "GET", photo)
                box = json.dumps({"box": BOX, "label": 0}).encode()
                self.ask("draw", "POST", f"{photo}/segment", box)
            time.sleep(PAUSE)


def stall(client: Client, until: float) -> None:
    """Holds as much of the server's memory as a client can, again and again."""
    objects = b"[" + b"{}," * (JSON_BYTES // 3 - 1) + b"{}]"
    path = "/api/photos"
    while time.monotonic() < until:
        with suppress(OSError, http.client.HTTPException), client.connected() as half:
            half.putrequest("POST", path)
            half.putheader("content-type", OCTETS["content-type"])
            half.putheader("content-length", str(len(client.picture)))
            half.endheaders(client.picture[: len(client.picture) // 2])
            client.ask("objects", "POST", f"{path}/none/segment", objects)
            pieces = (client.picture[k : k + PIECE] for k in range(0, UPLOAD_BYTES, PIECE))
            with client.connected() as unknown:
                unknown.request("POST", path, pieces, OCTETS, encode_chunked=True)
                sent = json.loads(unknown.getresponse().read())
            if "photo" in sent:
                with client.connected() as unread:
                    unread.request("GET", f"{path}/{sent['photo']}")
                    time.sleep(STALL)
            time.sleep(STALL)


def _kind(status: int, data: bytes) -> str:
    if status == 200:
        return "success"
    if status == 503 and BUSY.encode() in data:
        return "busy"
    if status == 404 and GONE.encode() in data:
        return "gone"
    return f"{status} {data[:200]!r}"


def crowd(server: Server, clients: int, stalling: int, *, seconds: float) -> list[Client]:
    """Lets the clients visit at the same time; returns those that do not stall."""
    narrow, wide = largest(False), largest(True)
    until = time.monotonic() + seconds
    visitors = [Client(server.port, k, narrow if k % 5 else wide) for k in range(clients)]
    threads = [threading.Thread(target=visitor.visit, args=(until,)) for visitor in visitors]
    stallers = [Client(server.port, clients + k, narrow) for k in range(stalling)]
    threads += [threading.Thread(target=stall, args=(one, until)) for one in stallers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return visitors


def faults(server: Server, visitors: list[Client], peak: int, say: Callable[[str], None]) -> int:
    """Says what was answered and what is wrong; returns the number of faults."""
    answers = sum((visitor.answers for visitor in visitors), Counter[str]())
    for what, count in sorted(answers.items()):
        say(f"{what}: {count}")
    wrong = [what for what in answers if what.split(": ")[1] not in ("success", "busy")]
    hungry = [visitor.number for visitor in visitors if not visitor.served]
    served = [visitor.served for visitor in visitors]
    say(f"uploads that succeeded: {min(served)} to {max(served)} of each client")
    found = [f"answered neither with success nor with busy: {what}" for what in wrong]
    found += [f"never served: clients {hungry}"] * bool(hungry)
    found += [f"{peak >> 20} MiB are more than stated"] * (peak > STATED_BYTES)
    found += ["the server ended"] * (server.process.poll() is not None)
    found += ["a traceback in the log"] * ("Traceback" in server.log.read_text())
    for fault in found:
        say(f"FAULT: {fault}")
    return len(found)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--stalling", type=int, default=0)
    options = parser.parse_args()
    console = Console(width=150, highlight=False)

    def say(text: str) -> None:
        console.print(text, markup=False)

    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as server:
        rest = sum(server.memory("VmRSS"))
        with Watch(server) as watch:
            visitors = crowd(
                server, options.clients, options.stalling, seconds=60 * options.minutes
            )
        after = sum(server.memory("VmRSS")) if server.process.poll() is None else 0
        wrong = faults(server, visitors, watch.peaks[0], say)
    say(
        f"memory: {rest >> 20} MiB at rest, {watch.peaks[0] >> 20} MiB at the most (the server "
        f"{watch.peaks[1] >> 20}), {after >> 20} MiB at the end; stated: {STATED_BYTES >> 20} MiB"
    )
    say("FAILED" if wrong else "held")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
