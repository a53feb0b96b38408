"""One training: data, model, fit, and the files of the finished run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from halfmask import distributed
from halfmask.errors import InputError
from halfmask.models.base import SegmentationModel
from halfmask.models.build import build_model, with_embedding_size
from halfmask.models.checkpoint import Checkpoint, load_fitting_weights, save_checkpoint
from halfmask.pictures.curves import training_curves
from halfmask.recipes.recipe import AVERAGE, Recipe
from halfmask.text import plural
from halfmask.training.data import TrainingData, read_training_data
from halfmask.training.folder import MODEL, check_run_folder, for_processes, remove_begun
from halfmask.training.job import RunOptions, TrainingJob, prepare, read_start, set_teacher
from halfmask.training.loop.callback import RESUME_FILE
from halfmask.training.loop.fit import Outcome, fit
from halfmask.training.report import report_run

logger = logging.getLogger("halfmask")


class Stopped(Exception):  # noqa: N818 - no error: the user asked for it
    """A signal stopped a training, which can be resumed.

    Attributes:
        step, steps: steps done, and steps of the whole training.
    """

    def __init__(self, step: int, steps: int) -> None:
        super().__init__(f"stopped at step {step} of {steps}")
        self.step, self.steps = step, steps


def open_run(recipe: Recipe, out: Path, resume: bool) -> tuple[Recipe, bool]:
    """Checks that the run may start in `out`.

    Returns:
        The recipe with the values that its files and the number of processes decide,
        and whether the run is finished already.
    Raises:
        InputError: see `check_run_folder` and `for_processes`.
    """
    members = distributed.current()
    recipe = recipe.model_copy(update={"model": with_embedding_size(recipe.model)})
    recipe = for_processes(recipe, out, resume=resume, world=members.place.world)
    finished = check_run_folder(recipe, out, resume)
    members.wait()
    if finished:
        logger.info("%s: this run is finished", out / MODEL)
    return recipe, finished


def train_single(
    recipe: Recipe,
    out: Path,
    options: RunOptions,
    *,
    resume: bool,
    filled: Path | None = None,
    calibrate: Callable[[Any], None] | None = None,
) -> None:
    """Trains one model by the recipe's stages, into the folder `out`.

    Args:
        recipe: from `open_run`.
        filled: COCO file with a teacher's masks, see `read_training_data`.
        calibrate: fits the trained model's quality score.
    Raises:
        InputError: the recipe does not fit its data or its model, or the loss is not
            finite.
        Stopped: a signal stopped the training.
    """
    members = distributed.current()
    with members.in_turn():
        data = read_training_data(recipe, filled)
        model = build_for(recipe, data)
        set_teacher(model, recipe, None if filled is None else filled.with_name(MODEL))
        data = with_start(recipe, data)
    describe(recipe, data)
    job = TrainingJob(recipe=recipe, data=data, model=model, out=out, options=options)
    outcome = _fit(job, resume)
    if not outcome.finished:
        raise Stopped(outcome.step, outcome.steps)
    if members.is_main:
        if calibrate is not None:
            calibrate(model)
        _finish(job)
        # Last: if the process is killed before, --resume finishes the run.
        (out / RESUME_FILE).unlink(missing_ok=True)
    members.wait()


def _fit(job: TrainingJob, resume: bool) -> Outcome:
    """Fits the model. A run that fails before its first resume point leaves no file."""
    out, options = job.out, job.options
    before = set(out.iterdir()) if out.is_dir() else None
    try:
        prepare(job)
        return fit(
            job.model,
            job.recipe,
            job.data.loaders(job.recipe),
            folder=out,
            evaluate=job.data.evaluation(job.recipe.data.workers) if options.evaluate else None,
            resume=resume,
            progress=options.progress,
        )
    except (InputError, OSError) as error:
        if isinstance(error, OSError):  # a full disk: the system names no file
            error = InputError(f"{error.filename or out}: {error.strerror or error}")
        if (out / RESUME_FILE).is_file():
            kept = f"the last good state is kept: {options.resume_command}"
            raise InputError(f"{error} ({kept})") from error
        if not resume and distributed.current().is_main and out.is_dir():
            remove_begun(out, before)
        raise error


def _finish(job: TrainingJob) -> None:
    """Writes model.safetensors, curves.png and report.html."""
    data, state = job.data, job.model.state_dict()
    categories: list[Any] = [{"id": c["id"], "name": c["name"]} for c in data.categories]
    counts = {i: n for i, n in data.given.counts.items() if n is not None}
    many = {i for i in counts if data.given.group_of(i) == "many"}
    before = job.recipe.init or (job.recipe.distil and job.recipe.distil.teacher)
    made = Checkpoint(
        state=state,
        recipe=job.recipe,
        categories=categories,
        masked=sorted(data.masked | (many if before else set())),
        mask_counts=counts,
    )
    save_checkpoint(job.out / MODEL, made)
    if job.options.curves:
        try:
            training_curves(job.out)
        except InputError as error:  # a run shorter than the first log line
            logger.info("no curves: %s", error)
    if job.options.report:
        report_run(job)


def build_for(recipe: Recipe, data: TrainingData) -> SegmentationModel:
    """Builds the recipe's model, with the weights of `init` if the recipe names one.

    Raises:
        InputError: `init` has other classes, or none of its weights fit.
    """
    torch.manual_seed(recipe.seed)
    names = [c["name"] for c in data.categories]
    model = build_model(recipe.model, len(names) + 1, names=names)
    if recipe.init is None:
        return model
    source, start = read_init(recipe.init)
    theirs = [c["name"] for c in start.categories]
    if names != theirs and len(names) == len(theirs) and (model.has_detector or model.needs_labels):
        raise InputError(
            f"{source}: init: trained on other classes ({len(theirs)}: {', '.join(theirs[:3])} "
            f"…) than {data.name} has ({len(names)}: {', '.join(names[:3])} …), so its labels "
            "would mean something else"
        )
    left = load_fitting_weights(model, start.state)
    if len(left) == len(model.state_dict()):
        raise InputError(f"{source}: init: none of its weights fits the model of this recipe")
    # The quality score is fitted after each training.
    parts = sorted({key.split(".")[0] for key in left} - {"quality_score"})
    logger.info("init: %s%s", recipe.init, f"; new: {', '.join(parts)}" if parts else "")
    return model


def read_init(init: str) -> tuple[Path, Checkpoint]:
    """Reads the checkpoint that `init` names; see `read_start`."""
    return read_start(init, "init")


def with_start(recipe: Recipe, data: TrainingData) -> TrainingData:
    """Returns the data with the masks counted that `init` or a teacher has learned from."""
    if recipe.init is not None:
        data = data.started_from(read_init(recipe.init)[1])
    named = recipe.distil.teacher if recipe.distil else None
    if named is not None and named != AVERAGE:
        data = data.started_from(read_start(named, "distil.teacher")[1])
    return data


def describe(recipe: Recipe, data: TrainingData) -> None:
    """Logs what the recipe learns from."""
    held = 0 if data.development is None else len(data.development)
    logger.info(
        f"{recipe.name}: {plural(len(data.training), 'image')} to learn from, {held} held "
        f"out; {plural(data.main.objects, 'object')}, {data.main.masks} of them with a "
        f"mask; masks given: {data.given.summary()}"
    )
    for index, pictures in data.own.items():
        logger.info(
            f"stage {recipe.stages[index].name} on data of its own: {len(pictures.training)} "
            f"images, {pictures.objects} objects, {pictures.masks} of them with a mask"
        )
