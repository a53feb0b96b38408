"""Photographs that visitors sent: bounded, and none goes while its visitor works with it."""

from __future__ import annotations

import threading
import time

import pytest

from halfmask.web.budget import BusyError
from halfmask.web.uploads import KEPT_SECONDS, Uploads

SIZE = (3, 4)


class Clock:
    """A clock that goes on by a second when it is read, so that waiting ends."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


def kept(uploads: Uploads, *names: str) -> list[bool]:
    found = []
    for name in names:
        with uploads.reading(name) as held:
            found.append(held is not None)
    return found


def test_the_least_recently_used_photograph_makes_room() -> None:
    clock = Clock()
    uploads = Uploads(100, clock=clock)
    names = [uploads.add(bytes(40), SIZE, f"10.0.0.{k}") for k in range(2)]
    clock.now += KEPT_SECONDS
    assert kept(uploads, names[0]) == [True]
    names.append(uploads.add(bytes(40), SIZE, "10.0.0.3"))
    assert kept(uploads, *names) == [True, False, True]
    assert kept(uploads, "unknown") == [False]
    with uploads.reading(names[2]) as held:
        assert held is not None
        assert (held.data, held.size) == (bytes(40), SIZE)


def test_a_photograph_that_was_used_a_moment_ago_stays_and_the_new_one_is_told_busy() -> None:
    clock = Clock()
    uploads = Uploads(160, clock=clock, seconds=0.0)
    names = [uploads.add(bytes(40), SIZE, f"10.0.0.{k}") for k in range(4)]
    with pytest.raises(BusyError):
        uploads.add(bytes(40), SIZE, "10.0.0.9")
    assert kept(uploads, *names) == [True] * 4
    clock.now += KEPT_SECONDS
    with uploads.reading(names[0]), uploads.reading(names[1]):
        later = [uploads.add(bytes(40), SIZE, f"10.0.1.{k}") for k in range(2)]
        with pytest.raises(BusyError):  # the two that are read stay however long it takes
            uploads.add(bytes(120), SIZE)
    assert kept(uploads, *names, *later) == [True, True, False, False, True, True]


def test_one_address_keeps_no_more_than_its_share() -> None:
    clock = Clock()
    uploads = Uploads(160, clock=clock, seconds=0.0)
    first = uploads.add(bytes(40), SIZE, "10.0.0.1")
    greedy = [uploads.add(bytes(40), SIZE, "10.0.0.2") for _ in range(3)]
    second = uploads.add(bytes(40), SIZE, "10.0.0.3")
    assert kept(uploads, first, *greedy, second) == [True, False, True, True, True]


def test_one_too_many_drops_nothing() -> None:
    clock = Clock()
    uploads = Uploads(100, clock=clock, seconds=0.0)
    names = [uploads.add(bytes(50), SIZE, f"10.0.0.{k}") for k in range(2)]
    clock.now += KEPT_SECONDS
    with uploads.reading(names[1]), pytest.raises(BusyError):
        uploads.add(bytes(80), SIZE)
    assert kept(uploads, *names) == [True, True]


def test_who_waits_gets_the_room_of_a_request_that_ends() -> None:
    clock = Clock()
    uploads = Uploads(100, clock=clock, seconds=60.0)
    name = uploads.add(bytes(100), SIZE, "10.0.0.1")
    clock.now += KEPT_SECONDS
    reading, added = threading.Event(), []

    def read() -> None:
        with uploads.reading(name):
            reading.set()
            time.sleep(0.2)
        clock.now += KEPT_SECONDS

    thread = threading.Thread(target=lambda: added.append(uploads.add(bytes(90), SIZE, "b")))
    reader = threading.Thread(target=read)
    reader.start()
    reading.wait()
    thread.start()
    reader.join()
    thread.join(30)
    assert kept(uploads, name, *added) == [False, True]
