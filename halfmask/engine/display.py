"""The progress bar of a training: images/s, time left, losses. Without a terminal: a line now and then."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger("halfmask")

QUIET_SECONDS = 15.0
"""Time between two lines where nobody watches a bar."""


class Display:
    """Shows one task at a time on stderr."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress: Progress | None = None
        self._title, self._total, self._unit = "", 0, ""
        self._last_line = 0.0

    def start(self, title: str, total: int, unit: str, done: int = 0) -> None:
        """Begins a task of `total` steps, `done` of which an earlier run took."""
        self.stop()
        self._title, self._total, self._unit = title, total, unit
        self._last_line = time.monotonic()
        if not self._console.is_terminal:
            self._print(f"{title}: {total - done} {unit}s" + (f" after {done}" if done else ""))
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
        )
        self._progress = Progress(
            *columns, TextColumn("{task.fields[numbers]}"), console=self._console, refresh_per_second=4
        )
        self._progress.add_task(title, total=total, completed=done, numbers="")
        self._progress.start()

    def update(self, done: int, rate: float, losses: Mapping[str, float]) -> None:
        """Tells how far the task is; `rate` is images (or regions) a second."""
        numbers = f"{rate:.3g}/s  " + "  ".join(
            f"{name.removeprefix('loss_')} {value:.3f}" for name, value in losses.items()
        )
        if self._progress is not None:
            task = self._progress.task_ids[0]
            self._progress.update(task, completed=done, numbers=numbers)
        elif time.monotonic() - self._last_line >= QUIET_SECONDS or done >= self._total:
            self._last_line = time.monotonic()
            self._print(f"{self._title}: {self._unit} {done}/{self._total}  {numbers}")

    def note(self, text: str) -> None:
        """Says beside the bar what goes on while it stands still."""
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], numbers=text)
        else:
            self._print(text)

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
