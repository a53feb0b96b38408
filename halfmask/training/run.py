"""The result of `train`: a finished, stopped or planned run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from halfmask.files.kinds import report
from halfmask.training.adapt.outcome import Adaptation
from halfmask.training.dry_run import DryRun

INTERRUPTED = 130
"""Exit code after a signal."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training that is finished, or stopped by a signal and ready to be resumed.

    Attributes:
        folder: of the run.
        checkpoint: model.safetensors; None if the run was stopped, and for a dry run.
        step, steps: steps done, and steps of the whole training.
        metrics: evaluations, as in metrics.json.
        dry_run: report of a dry run that measured steps, else None.
        is_plan: whether this is a dry run.
        adaptation: what adapting to the data gave, else None.
        faults, notes: lines about what could not be read in the data, and about what
            they hold that training does not use.
        resume_command: command that resumes the run.
        is_main: False if another process reports this run.
    """

    folder: Path
    checkpoint: Path | None = None
    step: int = 0
    steps: int
    metrics: list[dict[str, Any]] = field(default_factory=list)
    dry_run: DryRun | None = None
    is_plan: bool = False
    adaptation: Adaptation | None = None
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    resume_command: str = ""
    is_main: bool = True

    @property
    def finished(self) -> bool:
        return self.checkpoint is not None

    @property
    def exit_code(self) -> int:
        """Exit code of the command line; 1 if a part of the data could not be read."""
        if not self.finished and not self.is_plan:
            return INTERRUPTED
        return 1 if self.faults else 0

    def lines(self) -> Iterator[str]:
        """Yields the report of a dry run, or how the run ended."""
        if self.dry_run is not None:
            yield from self.dry_run.lines()
        elif self.is_plan:
            yield "dry run: nothing was written"
        elif self.is_main and self.finished:
            if self.adaptation is not None:
                yield from self.adaptation.lines()
            kept = self.adaptation is not None and self.adaptation.kept == "start"
            yield f"{self.checkpoint}: {'the model as it is' if kept else 'trained'}"
        elif self.is_main:
            stopped = f"stopped at step {self.step} of {self.steps}, saved"
            yield f"{stopped}; resume with: {self.resume_command}"

    def to_json(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "checkpoint": str(self.checkpoint) if self.checkpoint else None,
            "finished": self.finished,
            "step": self.step,
            "steps": self.steps,
            "metrics": self.metrics,
            "dry_run": self.dry_run.to_json() if self.dry_run else None,
            "adaptation": self.adaptation.to_json() if self.adaptation else None,
            "faults": self.faults,
            "notes": self.notes,
        }


REPORT = report("train", "folder", "checkpoint", "steps", "metrics")


def metrics_of(out: Path) -> list[dict[str, Any]]:
    """Reads metrics.json of a run's folder; empty if there is none."""
    path = out / "metrics.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
