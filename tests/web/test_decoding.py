"""Photographs are decoded in processes of their own, which are bounded and can be ended."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from halfmask.coco.photographs.orientation import Frame
from halfmask.errors import InputError
from halfmask.web.budget import HELD, BusyError, Holds
from halfmask.web.decoding import pool, wire
from halfmask.web.decoding.photo import Photo, measured
from halfmask.web.decoding.pool import Decoders
from halfmask.web.photographs import decoded, shown


def picture(kind: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (64, 48)) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(out, kind)
    return out.getvalue()


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    found = Decoders(256 << 20, count=1)
    yield found
    found.close()


def photo(decoders: Decoders, data: bytes) -> Photo:
    size = measured(decoders, lambda: nullcontext(data), "x.png").turned
    return Photo(
        decoders=decoders,
        source=lambda: nullcontext(data),
        where="x.png",
        frame=Frame.TURNED,
        size=size,
    )


def test_the_process_answers_as_the_functions_do(decoders: Decoders, tmp_path: Path) -> None:
    data = picture()
    found = photo(decoders, data)
    assert found.size == (48, 64)
    window, size = (3, 5, 43, 45), (20, 20)
    assert np.array_equal(found.pixels(window, size), decoded(data, "x", window=window, size=size))
    assert bytes(found.shown().data) == shown(data, "x").data
    (tmp_path / "x").write_bytes(data)
    with (tmp_path / "x").open("rb") as file:  # a file goes by its descriptor
        assert measured(decoders, lambda: file, "x").stored == (48, 64)


def test_what_is_no_photograph_is_said_to_be_none(decoders: Decoders) -> None:
    for data in (b"", b"%!PS", picture()[:200]):
        with pytest.raises(InputError, match=r"x\.png: expected a photograph"):
            photo(decoders, data).shown()
    with pytest.raises(InputError, match="64 × 48 pixels, more than 0 million"):
        measured(decoders, lambda: nullcontext(picture()), "x", most_pixels=3000)


def test_a_picture_beyond_the_memory_is_refused_and_the_next_one_read(decoders: Decoders) -> None:
    data = b"P6 9000 9000 255\n" + bytes(1000)
    with pytest.raises(InputError, match="takes more than 256 MB of memory to decode; make it"):
        photo(decoders, data).shown()
    assert photo(decoders, picture()).shown().media_type == "image/png"


def test_a_process_that_breaks_down_is_replaced(decoders: Decoders) -> None:
    found = photo(decoders, picture())
    pid = decoders.members[0].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(InputError, match="its decoder broke down"):
        found.shown()
    found.shown()
    assert decoders.members[0].pid != pid


def test_a_process_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Decoders(256 << 20, count=1)
    found = photo(slow, picture())
    pid = slow.members[0].pid
    monkeypatch.setattr(pool, "DECODE_SECONDS", 1)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)  # as one that is at work for hours
    with pytest.raises(InputError, match="it takes more than 1 s to decode"):
        found.shown()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    monkeypatch.setattr(pool, "DECODE_SECONDS", 60)
    found.shown()
    slow.close()


def test_what_a_decoder_returns_counts_until_the_answer_is_sent(decoders: Decoders) -> None:
    with Holds() as held:
        token = HELD.set(held)
        found = photo(decoders, picture()).pixels((0, 0, 64, 48), (48, 64))
        HELD.reset(token)
        assert found.shape == (48, 64, 3)
        assert decoders._results.used == held.counted == 64 * 48 * 3
    assert decoders._results.used == 0


def test_who_finds_no_room_for_a_result_is_told_busy(
    decoders: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = pool.Budget(1000, seconds=0.01)
    monkeypatch.setattr(decoders, "_results", full)
    with full.room(900), pytest.raises(BusyError):
        photo(decoders, picture()).pixels((0, 0, 64, 48), (48, 64))
    assert photo(decoders, picture()).pixels((0, 0, 4, 4), (4, 4)).shape == (4, 4, 3)


ORPHAN = """
import io, sys, time
from contextlib import nullcontext
from halfmask.web.decoding.photo import measured
from halfmask.web.decoding.pool import Decoders
decoders = Decoders(256 << 20, count=1)
try:
    measured(decoders, lambda: nullcontext(b"x"), "x")
except Exception:
    pass
print(decoders.members[0].pid, flush=True)
time.sleep(600)
"""


def test_a_decoder_ends_with_its_page() -> None:
    run = subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    pid = int(run.stdout.readline())
    run.kill()
    run.wait()
    for _ in range(300):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":  # nobody waits for it here
            return
        time.sleep(0.05)
    raise AssertionError("it still runs")


def test_messages_of_any_length_arrive_whole() -> None:
    import socket

    ours, theirs = socket.socketpair()
    payload = bytes(range(256)) * 5000
    sender = threading.Thread(target=wire.send, args=(ours, {"a": "ü" * 9000}, payload))
    sender.start()
    header, size, files = wire.receive(theirs)
    assert (header, size, files) == ({"a": "ü" * 9000}, len(payload), [])
    assert wire.receive_bytes(theirs, size) == payload
    sender.join()
    ours.close()
    with pytest.raises(wire.LostError):
        wire.receive(theirs)
    theirs.close()
