"""Signals: recorded within a step, immediate in work that can be repeated."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from halfmask.training.loop.interrupts import Interrupted, Interrupts


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    found = Interrupts()
    found.install()
    yield found
    found.restore()
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_recorded_the_second_one_interrupts(
    interrupts: Interrupts, which: int
) -> None:
    assert interrupts.received is None
    os.kill(os.getpid(), which)
    assert interrupts.received == which
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), which)


def test_a_signal_stops_repeatable_work(interrupts: Interrupts) -> None:
    done = []

    def work() -> None:
        with interrupts.throwaway():
            done.append("begun")
            os.kill(os.getpid(), signal.SIGINT)
            done.append("finished")

    with pytest.raises(Interrupted):
        work()
    assert done == ["begun"]
    with pytest.raises(Interrupted):  # and none is begun any more
        work()
    assert done == ["begun"]


def test_the_handler_is_installed_again(interrupts: Interrupts) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    interrupts.install()
    os.kill(os.getpid(), signal.SIGTERM)
    assert interrupts.received == signal.SIGTERM


def test_another_thread_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    interrupts = Interrupts()
    thread = threading.Thread(target=interrupts.install)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before
    interrupts.restore()
