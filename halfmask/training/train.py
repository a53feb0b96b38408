"""Trains by a recipe: hidden classes, rounds, the training itself, its report."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from halfmask.training.single import (
    build_for,
    describe,
    train_single,
    with_embedding_size_of_recipe,
)

if TYPE_CHECKING:
    from halfmask.recipes.recipe import Recipe


def train(
    recipe: Recipe,
    out: Path,
    resume: bool = False,
    resume_command: str = "the same command with --resume",
    report: bool = True,
) -> Path | None:
    """Trains by a recipe into the folder `out`.

    Args:
        resume_command: how to go on, for messages.
        report: write OUT/report.html too; a training that serves another one needs
            none.
    Returns:
        The checkpoint; None if a signal stopped the run, which can then be resumed.
    Raises:
        InputError: the recipe does not fit its data or its model, `out` holds another
            run, or the loss is not finite.
    """
    from halfmask.distributed import current, place_of
    from halfmask.errors import InputError
    from halfmask.training.folder import check_folder, finish_run, for_processes

    members = current()
    if members.alone and recipe.devices > 1 and not place_of(os.environ).by:
        raise InputError(
            f"devices={recipe.devices}: only `halfmask train`, torchrun or srun starts several "
            "processes"
        )
    recipe = for_processes(with_embedding_size_of_recipe(recipe), out, resume, members.place.world)
    finished = check_folder(recipe, out, resume)
    members.wait()
    if finished is not None:
        print(f"{finished}: this run is finished")
        return finished
    from halfmask.training.data import read_training_data
    from halfmask.training.hide import learn_hidden
    from halfmask.training.report import report_run
    from halfmask.training.rounds import teach

    hidden = learn_hidden(recipe, out, resume_command) if recipe.hide else None
    if recipe.hide and hidden is None:
        return None
    filled = teach(recipe, out, resume_command) if recipe.rounds > 1 else None
    if recipe.rounds > 1 and filled is None:
        return None
    with members.in_turn():
        data = read_training_data(recipe, filled)
        model = build_for(recipe, data)
    describe(recipe, data)
    outcome = train_single(recipe, data, model, out, resume, resume_command)
    if not outcome.finished:
        print(
            f"stopped at step {outcome.step} of {outcome.steps}, saved; go on with: {resume_command}"
        )
        return None
    if members.is_main:
        if hidden is not None:
            hidden.fit(model)
        finish_run(recipe, data, model, out)
        if report:
            report_run(recipe, data, model, out)
        (out / "resume.ckpt").unlink(
            missing_ok=True
        )  # the last thing: killed before, the run is finished by --resume
    members.wait()
    return out / "model.safetensors"
