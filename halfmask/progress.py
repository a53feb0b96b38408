"""Progress of long work: images/s, time left, losses.

It is a bar in a terminal or notebook, and elsewhere, as in a log file, a line now and
then.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping

from rich import progress as bars

from halfmask.errors import printable
from halfmask.terminal import PlainConsole

QUIET_SECONDS = 15.0
"""Time between two lines where nobody watches a bar."""

Progress = Callable[[str, int, int], None]
"""What library functions report to: called with the name of the work, how many steps of
it are done, and of how many. A `Display` is one, and so is any function of three
arguments.
"""


class Display:
    """Shows one task at a time on stderr."""

    def __init__(self, quiet: bool = False) -> None:
        """quiet: where there is no bar, a task that is over in 15 seconds is not mentioned."""
        self._quiet = quiet
        self._console = PlainConsole(stderr=True)
        self._progress: bars.Progress | None = None
        self._title, self._total, self._unit = "", 0, ""
        self._begin, self._first, self._done, self._last_line = 0.0, 0, 0, 0.0

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __call__(self, title: str, done: int, total: int) -> None:
        """Shows `done` of `total` steps of a task; another title begins another bar."""
        if (title, total) != (self._title, self._total):
            self.start(title, total, "step", done=done)
        self.update(done)

    def start(self, title: str, total: int, unit: str, *, done: int = 0) -> None:
        """Begins a task of `total` steps, `done` of which an earlier run took."""
        self.stop()
        self._title, self._total, self._unit = title, total, unit
        self._begin = self._last_line = time.monotonic()
        self._first = self._done = done
        if not self._has_bar:
            if not self._quiet:
                self._print(f"{title}: {total - done} {unit}s" + (f" after {done}" if done else ""))
            return
        columns = (
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(bar_width=24),
            bars.MofNCompleteColumn(),
            bars.TimeRemainingColumn(compact=True),
        )
        self._progress = bars.Progress(
            *columns,
            bars.TextColumn("{task.fields[numbers]}", markup=False),
            console=self._console,
            refresh_per_second=4,
        )
        self._progress.add_task(printable(title), total=total, completed=done, numbers="")
        self._progress.start()

    def update(
        self, done: int, rate: float | None = None, losses: Mapping[str, float] | None = None
    ) -> None:
        """Tells how far the task is.

        Args:
            rate: images (or regions) a second; None: steps a second since the task
                began.
        """
        self._done, now = done, time.monotonic()
        pace = (done - self._first) / max(now - self._begin, 1e-9)
        words = [f"{pace if rate is None else rate:.3g}/s"]
        words += [
            f"{name.removeprefix('loss_')} {value:.3f}" for name, value in (losses or {}).items()
        ]
        if self._progress is not None:
            self._progress.update(
                self._progress.task_ids[0], completed=done, numbers=printable("  ".join(words))
            )
        elif now - self._last_line >= QUIET_SECONDS or (
            done >= self._total and not self._is_short(now)
        ):
            self._last_line = now
            left = (
                [f"{_time((self._total - done) / pace)} left"]
                if 0 < done < self._total and pace > 0
                else []
            )
            self._print(
                "  ".join([f"{self._title}: {self._unit} {done}/{self._total}", *left, *words])
            )

    def note(self, text: str) -> None:
        """Says beside the bar what goes on while it stands still."""
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], numbers=printable(text))
        else:
            self._print(text)

    def stop(self) -> None:
        """Takes the bar away, wherever it stands."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _is_short(self, now: float) -> bool:
        return self._quiet and now - self._begin < QUIET_SECONDS

    @property
    def _has_bar(self) -> bool:
        """A notebook shows bars through ipywidgets only; without it lines are what it can show."""
        if self._console.is_jupyter:
            return importlib.util.find_spec("ipywidgets") is not None
        return self._console.is_terminal

    def _print(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)


def _time(seconds: float) -> str:
    """For example 45 s, 3:07 min, 2:15 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"
