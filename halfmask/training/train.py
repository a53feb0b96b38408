"""Trains by a recipe, in this process or in several."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from halfmask.distributed import ProcessPlace, current
from halfmask.errors import InputError, ProcessFailed
from halfmask.models.build import with_embedding_size
from halfmask.progress import Progress
from halfmask.recipes.recipe import Recipe, load_recipe
from halfmask.training.dry_run import DryRun, measure_recipe
from halfmask.training.folder import MODEL, check_run_folder, for_processes
from halfmask.training.hide import learn_hidden
from halfmask.training.job import RunOptions, show_nothing
from halfmask.training.launch import end_with_launcher, launch
from halfmask.training.loop.callback import RESUME_FILE
from halfmask.training.loop.resume import read_resume_point
from halfmask.training.processes import joined, place_of
from halfmask.training.rounds import train_rounds
from halfmask.training.single import Stopped, open_run

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
        dry_run: report of a dry run, else None.
        resume_command: command that resumes the run.
        is_main: False if another process reports this run.
    """

    folder: Path
    checkpoint: Path | None = None
    step: int = 0
    steps: int
    metrics: list[dict[str, Any]] = field(default_factory=list)
    dry_run: DryRun | None = None
    resume_command: str = ""
    is_main: bool = True

    @property
    def finished(self) -> bool:
        return self.checkpoint is not None

    @property
    def exit_code(self) -> int:
        """Exit code of the command line."""
        return 0 if self.finished or self.dry_run else INTERRUPTED

    def lines(self) -> Iterator[str]:
        """Yields the report of a dry run, or how the run ended."""
        if self.dry_run is not None:
            yield from self.dry_run.lines()
        elif self.is_main and self.finished:
            yield f"{self.checkpoint}: trained"
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
        }


def train(
    recipe: str | Path | Recipe,
    overrides: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    resume: bool = False,
    dry_run: bool = False,
    report: bool = True,
    resume_command: str | None = None,
    progress: Progress | None = None,
) -> Run:
    """Trains a model by a recipe.

    A recipe with `devices` above 1 starts that many processes, unless torchrun or srun
    has started them. They show their own progress.

    Args:
        recipe: recipe file, name of a shipped recipe, or recipe.
        overrides: `key=value` for keys of a file or a shipped recipe, for example
            `stages.0.steps=100`.
        out: folder of the run; a dry run needs none.
        resume: continue the run in `out` from its last resume point.
        dry_run: check everything, measure two steps of each stage, write nothing.
        report: draw curves.png and write report.html.
        resume_command: command that resumes the run, for messages.
        progress: called with a task's name, its steps done and its steps in all.
    Returns:
        The run; its `checkpoint` is None if a signal stopped it.
    Raises:
        InputError: the recipe does not fit its data or its model, `out` holds another
            run, or the loss is not finite.
        ProcessFailed: another process of the training failed, and has said why.
    """
    if isinstance(recipe, Recipe) and overrides:
        raise InputError("overrides: need a recipe file or the name of a shipped recipe")
    if not isinstance(recipe, str | Path | Recipe):
        raise InputError(
            "train: expected a recipe file, the name of a shipped recipe or a Recipe, found "
            f"{recipe!r}"
        )
    settings = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, list(overrides))
    steps = sum(stage.steps for stage in settings.stages)
    if dry_run:
        settings = for_processes(settings, Path(), resume=False, world=settings.devices)
        return Run(folder=Path(out or "."), steps=steps, dry_run=measure_recipe(settings))
    if out is None:
        raise InputError("train: --out RUN is missing: name a folder for the run")
    arguments = ["train", str(recipe), *overrides, "--out", str(out)]
    if resume_command is None and isinstance(recipe, Recipe):
        resume_command = "the same call with resume=True"
    options = RunOptions(
        resume_command=resume_command or " ".join(["halfmask", *arguments, "--resume"]),
        curves=report,
        report=report,
        progress=progress or show_nothing,
    )
    place = place_of(os.environ)
    if settings.devices == 1 or place.launcher or not current().alone:
        return _train_here(settings, Path(out), options, resume=resume, place=place)
    if isinstance(recipe, Recipe):
        raise InputError(
            f"devices={settings.devices}: several processes need a recipe file, or torchrun or "
            "srun, which start them"
        )
    if resume:
        arguments.append("--resume")
    return _train_by_several(settings, Path(out), options, arguments=arguments, resume=resume)


def _train_here(
    recipe: Recipe, out: Path, options: RunOptions, *, resume: bool, place: ProcessPlace
) -> Run:
    end_with_launcher()
    stopped = None
    with joined(place, options.resume_command) as team:
        if not team.is_main:
            options = replace(options, progress=show_nothing)
        try:
            _train_all(recipe, out, options, resume=resume)
        except Stopped as signal:
            stopped = signal.step
    return _run(recipe, out, options, step=stopped, is_main=team.is_main)


def _train_all(recipe: Recipe, out: Path, options: RunOptions, *, resume: bool) -> None:
    recipe, finished = open_run(recipe, out, resume)
    if finished:
        return
    calibrate = learn_hidden(recipe, out, options).calibrate if recipe.hide else None
    train_rounds(recipe, out, options, resume=resume, calibrate=calibrate)


def _train_by_several(
    recipe: Recipe, out: Path, options: RunOptions, *, arguments: list[str], resume: bool
) -> Run:
    # Checked here too, so that every process does not report the same error.
    sized = recipe.model_copy(update={"model": with_embedding_size(recipe.model)})
    kept = for_processes(sized, out, resume=resume, world=recipe.devices)
    check_run_folder(kept, out, resume)
    code = launch(arguments, recipe.devices, options.resume_command)
    if code not in (0, INTERRUPTED):
        raise ProcessFailed(f"a process ended with exit code {code}, see its message", code)
    step = None
    if code:
        points = [read_resume_point(path) for path in out.rglob(RESUME_FILE)]
        step = max((point["halfmask"]["course"]["step"] for point in points), default=0)
    return _run(recipe, out, options, step=step, is_main=False)


def _run(recipe: Recipe, out: Path, options: RunOptions, *, step: int | None, is_main: bool) -> Run:
    """Describes the run in `out`; `step` is None if it is finished."""
    steps, metrics = sum(stage.steps for stage in recipe.stages), out / "metrics.json"
    return Run(
        folder=out,
        checkpoint=out / MODEL if step is None else None,
        step=steps if step is None else step,
        steps=steps,
        metrics=json.loads(metrics.read_text(encoding="utf-8")) if metrics.is_file() else [],
        resume_command=options.resume_command,
        is_main=is_main,
    )
