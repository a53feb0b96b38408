"""Self-training: a teacher fills in missing masks, from which the next model learns too."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from halfmask import distributed
from halfmask.coco.file import CocoFile
from halfmask.files.atomic import write_json
from halfmask.inference.complete.complete import FillOptions, fill_missing
from halfmask.recipes.recipe import Distil, Recipe
from halfmask.training.data import read_training_data
from halfmask.training.folder import MODEL
from halfmask.training.job import RunOptions
from halfmask.training.single import open_run, train_single

logger = logging.getLogger("halfmask")

TEACHER = "teacher"
"""Folder of the previous round, in the folder of a run."""


def train_rounds(
    recipe: Recipe,
    out: Path,
    options: RunOptions,
    *,
    resume: bool,
    calibrate: Callable[[Any], None] | None = None,
) -> None:
    """Trains the recipe's rounds, the last one into `out`; arguments as `train_single`."""
    filled = _teach(recipe, out, options) if recipe.rounds > 1 else None
    train_single(recipe, out, options, resume=resume, filled=filled, calibrate=calibrate)


def train_helper(recipe: Recipe, out: Path, options: RunOptions) -> Path:
    """Trains a model that serves another training, or continues where it stopped.

    Returns:
        The checkpoint.
    """
    resume = (out / "recipe.yaml").is_file()
    recipe, finished = open_run(recipe, out, resume)
    if not finished:
        train_rounds(recipe, out, replace(options, report=False), resume=resume)
    return out / MODEL


def _teach(recipe: Recipe, out: Path, options: RunOptions) -> Path:
    """Trains the previous round in OUT/teacher and fills in the missing masks with it.

    The teacher reads the file as in its own training: without the masks that the recipe
    removes, without the held-out images.

    Returns:
        A COCO file of the training images with the teacher's masks.
    """
    folder = out / TEACHER
    filled = folder / "filled.json"
    logger.info(f"round {recipe.rounds - 1} of {recipe.rounds}: the teacher")
    # Only the last round needs an estimate from hidden classes.
    earlier = recipe.model_copy(
        update={"rounds": recipe.rounds - 1, "hide": 0, "distil": _earlier(recipe)}
    )
    model = train_helper(earlier, folder, options)
    members = distributed.current()
    if members.is_main and not filled.is_file():
        _fill(recipe, model, filled, options=options)
    members.wait()
    logger.info(f"round {recipe.rounds} of {recipe.rounds}")
    return filled


def _earlier(recipe: Recipe) -> Distil | None:
    """Returns what teaches the previous round: not itself, in the first one."""
    distil = recipe.distil
    first = recipe.rounds == 2 and recipe.init is None
    return None if distil is not None and distil.teacher is None and first else distil


def _fill(recipe: Recipe, model: Path, filled: Path, *, options: RunOptions) -> None:
    bare = filled.with_name("to_fill.json")
    once = recipe.model_copy(update={"rounds": 1, "hide": 0})
    training = read_training_data(once, in_memory=True).training
    assert isinstance(training.file, CocoFile)
    write_json(bare, training.file.document)
    done = fill_missing(
        model,
        bare,
        FillOptions(redo_filled=True, replace_broken=True),
        images=training.folder,
        out=filled,
        progress=options.progress,
    )
    score = "" if done.mean_score is None else f", mean score {done.mean_score:.2f}"
    logger.info(f"{filled}: {done.filled} masks filled in by the teacher{score}")
