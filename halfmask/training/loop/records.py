"""Records of a run: progress, metrics.csv, metrics.json, trackers.

Only the main process has some.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from halfmask import distributed
from halfmask.files.atomic import new_file, write_text
from halfmask.files.held import open_in_place
from halfmask.progress import Display, Progress
from halfmask.recipes.recipe import Recipe
from halfmask.training.loop.trackers import Trackers


class NullLog:
    """Receives the numbers of a training and writes nothing, in all but the main process."""

    def start(self, title: str, *, total: int, unit: str, done: int = 0) -> None:
        """Starts the bar of a task."""

    def update(self, done: int, rate: float, losses: Mapping[str, float]) -> None:
        """Updates the bar."""

    def note(self, text: str) -> None:
        """Shows a text beside the bar."""

    def stop(self) -> None:
        """Removes the bar."""

    def log(self, row: Mapping[str, Any], numbers: Mapping[str, float]) -> None:
        """Adds position and numbers to metrics.csv, and sends the numbers to trackers."""

    def evaluated(self, step: int) -> bool:
        """Returns whether this step has an evaluation."""
        return True

    def evaluation(self, position: Mapping[str, Any], blocks: Mapping[str, Any]) -> None:
        """Adds an evaluation."""

    def close(self, finished: bool) -> None:
        """Ends the records of a finished or stopped run."""


class _Counts(Display):
    """A display that reports its counts to a function."""

    def __init__(self, progress: Progress | None) -> None:
        super().__init__(quiet=True)
        self._report = progress

    def start(self, title: str, total: int, unit: str, *, done: int = 0) -> None:
        self._title, self._total = title, total
        self.update(done)

    def update(
        self, done: int, rate: float | None = None, losses: Mapping[str, float] | None = None
    ) -> None:
        if self._report is not None:
            self._report(self._title, done, self._total)

    def note(self, text: str) -> None:
        """Shows nothing."""


class RunRecords(NullLog):
    """Records in the folder of a run.

    Args:
        recipe: names the trackers.
        resumed_step: where the run continues; 0 for a new one.
        progress: a `Display` shows rates, losses and notes too.
    """

    def __init__(
        self, folder: Path, recipe: Recipe, *, resumed_step: int, progress: Progress | None
    ) -> None:
        settings = recipe.model_dump(mode="json")
        self._trackers = Trackers(
            recipe.loggers, folder, settings=settings, resumed_step=resumed_step
        )
        self._display = progress if isinstance(progress, Display) else _Counts(progress)
        self._csv = MetricsCsv(folder / "logs" / "metrics.csv", resumed_step)
        self._evaluations = Evaluations(folder / "metrics.json", resumed_step)

    def start(self, title: str, *, total: int, unit: str, done: int = 0) -> None:
        self._display.start(title, total, unit, done=done)

    def update(self, done: int, rate: float, losses: Mapping[str, float]) -> None:
        self._display.update(done, rate, losses)

    def note(self, text: str) -> None:
        self._display.note(text)

    def stop(self) -> None:
        self._display.stop()

    def evaluated(self, step: int) -> bool:
        return self._evaluations.has(step)

    def log(self, row: Mapping[str, Any], numbers: Mapping[str, float]) -> None:
        self._csv.log({**row, **numbers})
        self._trackers.log(numbers, int(row["step"]))

    def evaluation(self, position: Mapping[str, Any], blocks: Mapping[str, Any]) -> None:
        self._evaluations.add({**position, **blocks})
        self._trackers.log_evaluation(blocks, int(position["step"]))

    def close(self, finished: bool) -> None:
        self._display.stop()
        self._trackers.close(finished)


def records_of(
    folder: Path, recipe: Recipe, *, resumed_step: int, progress: Progress | None
) -> NullLog:
    """Returns the records of this process; arguments as `RunRecords`."""
    if not distributed.current().is_main:
        return NullLog()
    return RunRecords(folder, recipe, resumed_step=resumed_step, progress=progress)


class MetricsCsv:
    """A table with one row per logged step; the losses of later stages add columns.

    Lightning's CSV logger deletes the file of a resumed run. This one keeps the rows up
    to the resumed step.
    """

    def __init__(self, path: Path, resumed_step: int = 0) -> None:
        self._path = path
        self._columns: list[str] = []
        self._rows: list[dict[str, Any]] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and resumed_step > 0:
            with path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                self._columns = list(reader.fieldnames or [])
                # A line that a killed process left unfinished lacks columns.
                self._rows = [
                    row
                    for row in reader
                    if None not in row.values() and int(row["step"]) <= resumed_step
                ]
        self._rewrite()

    def log(self, row: dict[str, Any]) -> None:
        """Adds a row; it has a `step`."""
        self._rows.append(row)
        if any(name not in self._columns for name in row):
            self._rewrite()
            return
        with open_in_place(self._path) as raw:
            raw.seek(0, io.SEEK_END)
            with io.TextIOWrapper(raw, encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self._columns).writerow(row)

    def _rewrite(self) -> None:
        for row in self._rows:
            self._columns += [name for name in row if name not in self._columns]
        with new_file(self._path) as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(self._rows)


class Evaluations:
    """metrics.json: one object per evaluation, in the order of steps."""

    def __init__(self, path: Path, resumed_step: int = 0) -> None:
        self._path = path
        self._entries: list[dict[str, Any]] = []
        if path.is_file() and resumed_step > 0:
            entries = json.loads(path.read_text(encoding="utf-8"))
            self._entries = [entry for entry in entries if entry["step"] <= resumed_step]
        self._write()

    def has(self, step: int) -> bool:
        return any(entry["step"] == step for entry in self._entries)

    def add(self, entry: dict[str, Any]) -> None:
        """Adds an object of `step`, `epoch`, `seconds` and the evaluation's blocks."""
        self._entries.append(entry)
        self._write()

    def _write(self) -> None:
        write_text(self._path, json.dumps(self._entries, indent=1, allow_nan=False) + "\n")


@dataclass
class LossWindow:
    """Losses and speed since the last log."""

    losses: list[Mapping[str, torch.Tensor]] = field(default_factory=list)
    images: int = 0
    seconds: float = 0.0
    begin: float = field(default_factory=time.perf_counter)

    def add(self, losses: Mapping[str, torch.Tensor], images: int) -> float:
        """Adds a step; returns its seconds, including the loading."""
        seconds = time.perf_counter() - self.begin
        self.losses.append(losses)
        self.images += images
        self.seconds += seconds
        return seconds

    def restart(self) -> None:
        """Starts the clock of the next step."""
        self.begin = time.perf_counter()

    def means(self) -> tuple[dict[str, float], float]:
        """Returns the mean of each loss and images per second, and empties the window."""
        values = {
            name: torch.stack([step[name].float() for step in self.losses if name in step])
            .mean()
            .item()
            for name in self.losses[-1]
        }
        rate = self.images / max(self.seconds, 1e-9)
        self.losses, self.images, self.seconds = [], 0, 0.0
        return values, rate
