"""What a run tells: the bar, metrics.csv, metrics.json, the trackers. Of several processes the first one tells, the others are silent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from halfmask import team
from halfmask.engine.display import Display
from halfmask.engine.logs import Evaluations, MetricsCsv
from halfmask.engine.trackers import Trackers
from halfmask.recipes.recipe import Recipe


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
        self._trackers = Trackers(recipe.loggers, folder, recipe.model_dump(mode="json"), resumed_step)
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


class Silence:
    """Records of a process that is not the first: nothing is written or shown."""

    def start(self, title: str, total: int, unit: str, done: int = 0) -> None: ...
    def update(self, done: int, rate: float, losses: Mapping[str, float]) -> None: ...
    def note(self, text: str) -> None: ...
    def stop(self) -> None: ...
    def log(self, row: Mapping[str, Any], numbers: Mapping[str, float]) -> None: ...
    def evaluation(self, position: Mapping[str, Any], blocks: Mapping[str, Any]) -> None: ...
    def close(self, finished: bool) -> None: ...

    def evaluated(self, step: int) -> bool:  # noqa: ARG002
        return True


def records_of(folder: Path, recipe: Recipe, resumed_step: int) -> Records:
    """The records of this process."""
    return RunRecords(folder, recipe, resumed_step) if team.current().leads else Silence()
