"""Progress without a terminal: occasional lines with rate and time left."""

from __future__ import annotations

import re

import pytest
from rich.console import Console

from halfmask import progress as module
from halfmask.progress import Display


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_lines_have_count_time_left_rate_and_losses(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    display = Display()
    display.start("masks", 100, "step")
    for step in (10, 20, 30, 40):
        clock.now += 10
        display.update(step, 4.0, {"loss_mask": 0.5})
    display.update(100, 4.0, {"loss_mask": 0.25})
    assert capsys.readouterr().err.splitlines() == [
        "masks: 100 steps",
        "masks: step 20/100  1:20 min left  4/s  mask 0.500",
        "masks: step 40/100  1:00 min left  4/s  mask 0.500",
        "masks: step 100/100  4/s  mask 0.250",
    ]


def test_time_left_counts_from_where_an_earlier_run_stopped(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    display = Display()
    display.start("masks", 7300, "step", done=100)
    clock.now += 20
    display.update(120)
    assert capsys.readouterr().err.splitlines() == [
        "masks: 7200 steps after 100",
        "masks: step 120/7300  1:59 h left  1/s",
    ]


def test_a_short_task_is_not_mentioned_a_long_one_is(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Display(quiet=True) as display:
        display("reading", 0, 2)
        display("reading", 1, 2)
        display("reading", 2, 2)
    assert capsys.readouterr().err == ""
    with Display(quiet=True) as display:
        display("reading", 0, 2)
        for done in (1, 2):
            clock.now += 20
            display("reading", done, 2)
    assert capsys.readouterr().err.splitlines() == [
        "reading: step 1/2  20 s left  0.05/s",
        "reading: step 2/2  0.05/s",
    ]


def test_nothing_to_do_and_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(quiet=True) as display:
        display("reading", 0, 0)

    def fail() -> None:
        with Display(quiet=True) as display:
            display("reading", 0, 3)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    monkeypatch.setattr(module, "PlainConsole", lambda **_: console)
    with Display(quiet=True) as display:
        for done in range(5):
            display("reading", done, 4)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "reading" in shown
    assert "4/4" in shown
    assert "/s" in shown


@pytest.mark.parametrize(("widgets", "bar"), [(object(), True), (None, False)])
def test_a_notebook_has_bars_only_with_ipywidgets(
    monkeypatch: pytest.MonkeyPatch, widgets: object, bar: bool
) -> None:
    monkeypatch.setattr(
        module, "PlainConsole", lambda **_: Console(stderr=True, force_jupyter=True)
    )
    monkeypatch.setattr(
        module.importlib.util, "find_spec", lambda name: widgets if name == "ipywidgets" else None
    )
    assert Display()._has_bar is bar
