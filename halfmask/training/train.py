"""Trains by a recipe, in this process or in several, or adapts the shipped model to data."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from halfmask.coco.reading.read_as import ReadAs
from halfmask.distributed import ProcessPlace, current
from halfmask.errors import InputError, ProcessFailed
from halfmask.files.atomic import write_json
from halfmask.files.guard import Output, guard
from halfmask.models.build import with_embedding_size
from halfmask.progress import Progress
from halfmask.recipes.recipe import Recipe, load_recipe
from halfmask.training.adapt.request import is_recipe, read_request, refuse_placeholders
from halfmask.training.adapt.run import adapt_to_data
from halfmask.training.dry_run import measure_recipe
from halfmask.training.folder import (
    MODEL,
    check_run_folder,
    for_processes,
    guard_recipe,
    run_outputs,
)
from halfmask.training.hide import learn_hidden
from halfmask.training.job import RunOptions, show_nothing
from halfmask.training.loop.callback import RESUME_FILE
from halfmask.training.loop.inputs import alone_in
from halfmask.training.loop.resume import read_resume_point
from halfmask.training.rounds import train_rounds
from halfmask.training.run import INTERRUPTED, REPORT, Run, metrics_of
from halfmask.training.several.launch import end_with_launcher, launch
from halfmask.training.several.processes import joined, place_of
from halfmask.training.single import Stopped, open_run


def train(
    recipe: str | Path | Recipe,
    overrides: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    images: str | Path | None = None,
    val: str | Path | None = None,
    minutes: float | None = None,
    resume: bool = False,
    accept_changes: bool = False,
    dry_run: bool = False,
    report: bool = True,
    crowd_masks: bool = False,
    read_as: str | None = None,
    json: str | Path | None = None,
    resume_command: str | None = None,
    progress: Progress | None = None,
) -> Run:
    """Trains a model by a recipe, or adapts the shipped model to data.

    Data (a COCO file, a YOLO folder, …) in place of a recipe adapt the shipped box
    segmenter by the recipe `adapt`, for some minutes. The adapted model is kept only if
    it is better on masks that it did not learn from; see `adapt`.

    A recipe with `devices` above 1 starts that many processes, unless torchrun or srun
    has started them. They show their own progress.

    Args:
        recipe: recipe file, name of a shipped recipe, or recipe; or data of any format
            that `convert` reads.
        overrides: `key=value` for keys of a file or a shipped recipe, for example
            `stages.0.steps=100`.
        out: folder of the run; a dry run needs none.
        images: data only: folder of the photographs; None: where the data say.
        val: data only: other data to measure the result on.
        minutes: data only: how long it may take, 10 by default.
        resume: continue the run in `out` from its last resume point.
        accept_changes: with `resume`: go on although the data, the photographs or the
            versions of halfmask and PyTorch have changed since the run began.
        dry_run: check everything, measure two steps of each stage, write nothing.
        report: draw curves.png and write report.html.
        crowd_masks: data only, COCO files: masks with iscrowd 1 are masks of objects.
        read_as: data only: how COCO files write boxes or polygons; see `ReadAs.of`.
        json: writes the result to this JSON file.
        resume_command: command that resumes the run, for messages.
        progress: called with a task's name, its steps done and its steps in all.
    Returns:
        The run; its `checkpoint` is None if a signal stopped it.
    Raises:
        InputError: the recipe does not fit its data or its model, the data cannot be
            read, `out` holds another run or something else, an output is an input (see
            `guard`), or the loss is not finite.
        ProcessFailed: another process of the training failed, and has said why.
    """
    _check_recipe(recipe, overrides)
    as_ = ReadAs.of(crowd_masks, read_as)
    outputs = [*run_outputs(out), Output(json, "--json", REPORT)]
    guard(outputs, inputs=[recipe, images, val], photographs=[images])
    options = RunOptions(
        resume_command=resume_command or "",
        curves=report,
        report=report,
        accept_changes=accept_changes,
        progress=progress or show_nothing,
    )
    if not isinstance(recipe, Recipe) and not is_recipe(recipe):
        options_of = {"out": out, "images": images, "val": val, "minutes": minutes}
        command = _command(recipe, [*overrides, *as_.flags], **options_of)
        request = partial(
            read_request, recipe, overrides, images=images, val=val, read_as=as_, progress=progress
        )
        done = adapt_to_data(
            request,
            None if out is None else Path(out),
            replace(options, resume_command=resume_command or command),
            minutes=minutes,
            resume=resume,
            dry_run=dry_run,
        )
    else:
        _refuse_unused(recipe, as_, images=images, val=val, minutes=minutes)
        settings = _settings(recipe, overrides)
        guard_recipe(settings, outputs)
        words = None if isinstance(recipe, Recipe) else [str(recipe), *overrides]
        done = _by_recipe(settings, words, out=out, options=options, resume=resume, dry_run=dry_run)
    if json is not None:
        write_json(json, done.to_json(), indent=2)
    return done


def _by_recipe(
    settings: Recipe,
    words: list[str] | None,
    *,
    out: str | Path | None,
    options: RunOptions,
    resume: bool,
    dry_run: bool,
) -> Run:
    """Trains by a recipe, which the `words` of a command name."""
    steps = sum(stage.steps for stage in settings.stages)
    if dry_run:
        settings = for_processes(settings, Path(), resume=False, world=settings.devices)
        measured = measure_recipe(settings)
        return Run(folder=Path(out or "."), steps=steps, dry_run=measured, is_plan=True)
    if out is None:
        raise InputError("train: --out RUN is missing: name a folder for the run")
    named = None if words is None else ["train", *words, "--out", str(out)]
    if not options.resume_command:
        command = "the same call with resume=True"
        command = command if named is None else " ".join(["halfmask", *named, "--resume"])
        options = replace(options, resume_command=command)
    return _train_recipe(settings, Path(out), options, arguments=named, resume=resume)


def _train_recipe(
    recipe: Recipe, out: Path, options: RunOptions, *, arguments: list[str] | None, resume: bool
) -> Run:
    """Trains here, or in several processes that the `arguments` of halfmask start."""
    place = place_of(os.environ)
    if recipe.devices == 1 or place.launcher or not current().alone:
        return _train_here(recipe, out, options, resume=resume, place=place)
    if arguments is None:
        raise InputError(
            f"devices={recipe.devices}: several processes need a recipe file, or torchrun or "
            "srun, which start them"
        )
    arguments = [*arguments, *["--resume"] * resume]
    return _train_by_several(recipe, out, options, arguments=arguments, resume=resume)


def _check_recipe(recipe: object, overrides: Sequence[str]) -> None:
    if isinstance(recipe, Recipe) and overrides:
        raise InputError("overrides: need a recipe file or the name of a shipped recipe")
    if not isinstance(recipe, str | Path | Recipe):
        raise InputError(
            "train: expected a recipe file, the name of a shipped recipe, a Recipe or data, "
            f"found {recipe!r}"
        )


def _settings(recipe: str | Path | Recipe, overrides: Sequence[str]) -> Recipe:
    settings = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, list(overrides))
    refuse_placeholders(settings)
    return settings


def _refuse_unused(recipe: object, read_as: ReadAs, **options: object) -> None:
    """Refuses options that are for data in place of a recipe."""
    if read_as.changes:
        raise InputError(
            f"{recipe}: a recipe names its own data; {read_as.flags[0]} is for data in its place: "
            f"write a copy, halfmask convert to-coco FILE COPY {shlex.join(read_as.flags)}, and "
            "name it in data.annotations"
        )
    unused = [f"--{name}" for name, value in options.items() if value is not None]
    if unused:
        raise InputError(
            f"{recipe}: a recipe names its own data; {unused[0]} is for data in its place (set "
            "data.annotations, data.images, data.validation or stages.0.steps)"
        )


def _command(data: str | Path, overrides: Sequence[str], **options: object) -> str:
    """Returns the command that resumes an adaptation."""
    given = [w for k, v in options.items() if v is not None for w in (f"--{k}", str(v))]
    return shlex.join(["halfmask", "train", str(data), *overrides, *given, "--resume"])


def _train_here(
    recipe: Recipe, out: Path, options: RunOptions, *, resume: bool, place: ProcessPlace
) -> Run:
    end_with_launcher()
    stopped = None
    with joined(place, options.resume_command) as team:
        if not team.is_main:
            options = replace(options, progress=show_nothing)
        try:
            with alone_in(out) if team.is_main else nullcontext():
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
    steps = sum(stage.steps for stage in recipe.stages)
    return Run(
        folder=out,
        checkpoint=out / MODEL if step is None else None,
        step=steps if step is None else step,
        steps=steps,
        metrics=metrics_of(out),
        resume_command=options.resume_command,
        is_main=is_main,
    )
