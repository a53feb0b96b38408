"""What a run tells: the bar, metrics.csv, metrics.json, the trackers. Of several
processes the first one tells, the others are silent.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from halfmask import distributed
from halfmask.files.atomic import new_file, write_text
from halfmask.progress import Display
from halfmask.recipes.recipe import Recipe
from halfmask.training.loop.trackers import Trackers


class Records(Protocol):
    """Where a keeper's numbers go."""

    def start(self, title: str, total: int, unit: str, done: int = 0) -> None:
        """Begins the bar of a task."""

    def update(self, done: int, rate: float, losses: Mapping[str, float]) -> None:
        """Moves the bar."""

    def note(self, text: str) -> None:
        """Says something beside the bar."""

    def stop(self) -> None:
        """Takes the bar away."""

    def log(self, row: Mapping[str, Any], numbers: Mapping[str, float]) -> None:
        """A row of metrics.csv (position and numbers), and the numbers for the trackers."""

    def evaluated(self, step: int) -> bool:
        """Whether this step has an evaluation."""

    def evaluation(self, position: Mapping[str, Any], blocks: Mapping[str, Any]) -> None:
        """Adds one."""

    def close(self, finished: bool) -> None:
        """At the end, or where the run was stopped."""


class RunRecords:
    """Records in a run's folder.

    Args:
        folder: of the run.
        recipe: names the trackers.
        resumed_step: where the run goes on; 0 for a new one.
    """

    def __init__(self, folder: Path, recipe: Recipe, resumed_step: int) -> None:
        self._trackers = Trackers(
            recipe.loggers, folder, recipe.model_dump(mode="json"), resumed_step
        )
        self._display = Display()
        self._csv = MetricsCsv(folder / "logs" / "metrics.csv", resumed_step)
        self._evaluations = Evaluations(folder / "metrics.json", resumed_step)
        self.start, self.update = self._display.start, self._display.update
        self.note, self.stop = self._display.note, self._display.stop
        self.evaluated = self._evaluations.has

    def log(self, row: Mapping[str, Any], numbers: Mapping[str, float]) -> None:
        self._csv.log({**row, **numbers})
        self._trackers.log(numbers, int(row["step"]))

    def evaluation(self, position: Mapping[str, Any], blocks: Mapping[str, Any]) -> None:
        self._evaluations.add({**position, **blocks})
        self._trackers.log_evaluation(blocks, int(position["step"]))

    def close(self, finished: bool) -> None:
        self._display.stop()
        self._trackers.close(finished)


class NullLog:
    """Records of a process that is not the first: nothing is written or shown."""

    def start(self, title: str, total: int, unit: str, done: int = 0) -> None: ...
    def update(self, done: int, rate: float, losses: Mapping[str, float]) -> None: ...
    def note(self, text: str) -> None: ...
    def stop(self) -> None: ...
    def log(self, row: Mapping[str, Any], numbers: Mapping[str, float]) -> None: ...
    def evaluation(self, position: Mapping[str, Any], blocks: Mapping[str, Any]) -> None: ...
    def close(self, finished: bool) -> None: ...

    def evaluated(self, step: int) -> bool:
        return True


def records_of(folder: Path, recipe: Recipe, resumed_step: int) -> Records:
    """The records of this process."""
    return RunRecords(folder, recipe, resumed_step) if distributed.current().is_main else NullLog()


class MetricsCsv:
    """A table with one row a logged step; new columns (the losses of a later stage)
    widen it.

    Lightning's CSV logger deletes the file of a run that is resumed; here rows up to
    the resumed step stay, later ones go.
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
                # A line that was cut off while it was written lacks columns.
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
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    def _rewrite(self) -> None:
        for row in self._rows:
            self._columns += [name for name in row if name not in self._columns]
        with new_file(self._path) as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(self._rows)


class Evaluations:
    """metrics.json: one object an evaluation, in the order of their steps."""

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
        """Adds an object with `step`, `epoch`, `seconds` and the evaluation's blocks."""
        self._entries.append(entry)
        self._write()

    def _write(self) -> None:
        write_text(self._path, json.dumps(self._entries, indent=1, allow_nan=False) + "\n")
