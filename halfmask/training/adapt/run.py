"""Adapts the shipped model to data of any format: what `train DATA` does."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from halfmask.errors import InputError
from halfmask.training.adapt.adapt import adapt
from halfmask.training.adapt.holdout import LEFT
from halfmask.training.adapt.job import STATE
from halfmask.training.adapt.outcome import reason_of
from halfmask.training.adapt.request import AdaptRequest, checked_minutes
from halfmask.training.data import read_training_data
from halfmask.training.dry_run import measure_recipe
from halfmask.training.folder import MODEL, remove_begun
from halfmask.training.job import RunOptions
from halfmask.training.loop.inputs import alone_in
from halfmask.training.run import Run, metrics_of
from halfmask.training.several.processes import place_of
from halfmask.training.single import Stopped


def adapt_to_data(
    read: Callable[..., AdaptRequest],
    out: Path | None,
    options: RunOptions,
    *,
    minutes: float | None,
    resume: bool,
    dry_run: bool,
) -> Run:
    """Adapts the shipped model to a user's data, in this process.

    Args:
        read: `read_request`, which gets `out`.
        out: folder of the run; a dry run needs none.
        minutes: how long it may take; None: 10.
        resume: continue where `out` stopped.
        dry_run: check everything, measure two steps, write nothing.
    Raises:
        InputError: see `read_request` and `adapt`; or `out` holds another run.
    """
    minutes = checked_minutes(minutes)
    if place_of(os.environ).launcher:
        raise InputError("adapting trains in one process: leave torchrun or srun out")
    if dry_run:
        return _planned(read(out=None), out, minutes)
    if out is None:
        raise InputError("train: --out RUN is missing: name a folder for the run")
    if (out / STATE).is_file() and not resume:
        raise InputError(
            f"{out} holds a run already: add --resume to continue it, or name another folder "
            "with --out"
        )
    with clean_on_error(out), alone_in(out):
        request = read(out=out)
        found, step, steps = None, 0, 0
        try:
            found = adapt(request.recipe, out, options, minutes=minutes, steps=request.steps)
            step = steps = found.steps
        except Stopped as stopped:
            step, steps = stopped.step, stopped.steps
    return Run(
        folder=out,
        checkpoint=out / MODEL if found is not None else None,
        step=step,
        steps=steps,
        metrics=metrics_of(out),
        adaptation=found,
        faults=request.faults,
        notes=request.notes,
        resume_command=options.resume_command,
    )


def _planned(request: AdaptRequest, out: Path | None, minutes: float) -> Run:
    """Says what would be trained, and measures two steps if there are masks to learn from."""
    run = Run(folder=out or Path(), steps=0, is_plan=True, faults=request.faults)
    masks = read_training_data(request.recipe, needs_masks=False).masks
    if masks < LEFT:
        notes = [*request.notes, reason_of(None, masks, LEFT)]
        return replace(run, notes=notes)
    notes = [*request.notes, f"the steps are fitted to {minutes:g} minutes when it runs"]
    return replace(run, notes=notes, dry_run=measure_recipe(request.recipe))


@contextmanager
def clean_on_error(out: Path) -> Iterator[None]:
    """Removes what a block wrote if its input is bad; not once a training has begun."""
    before = set(out.iterdir()) if out.is_dir() else None
    try:
        yield
    except InputError:
        if out.is_dir() and not (out / STATE).is_file():
            remove_begun(out, before)
        raise
