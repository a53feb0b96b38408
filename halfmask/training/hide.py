"""Estimates the mask quality on box-only classes.

It hides some masked classes from a first training and measures the quality on them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from halfmask.coco.doctor.estimate import hideable
from halfmask.distributed import current
from halfmask.errors import InputError
from halfmask.models.checkpoint import Checkpoint
from halfmask.progress import Progress
from halfmask.recipes.recipe import AVERAGE, Data, Recipe
from halfmask.training.data import TrainingData, read_training_data
from halfmask.training.job import RunOptions, read_start
from halfmask.training.measure import MeasuredMasks, load_for_measuring, measure_masks
from halfmask.training.quality import report_quality
from halfmask.training.rounds import train_helper
from halfmask.training.section import Pictures

logger = logging.getLogger("halfmask")

HIDDEN = "hidden"
"""Folder of the first training, in the folder of a run."""


@dataclass(frozen=True)
class HidingPlan:
    """Classes to hide, and the first training, which does not see their masks.

    Attributes:
        classes: category ids of the hidden classes, most masks first.
        recipe: of the first training.
        data: training data of the run itself, including the hidden masks.
    """

    classes: list[int]
    recipe: Recipe
    data: TrainingData

    def describe(self) -> str:
        names = [
            f"{self.data.training.file.name_of(i)} ({self.data.main.mask_counts[i]})"
            for i in self.classes
        ]
        return f"hide={len(names)}: a first training without the masks of {', '.join(names)}"


def learn_hidden(recipe: Recipe, out: Path, options: RunOptions) -> MeasuredMasks:
    """Trains without some masked classes in OUT/hidden, and measures their masks.

    Writes OUT/quality.json and OUT/reliability.png. A finished first training is used
    again, an interrupted one resumed.

    Args:
        recipe: of the run; `hide` is at least 1.
    Returns:
        The measured masks, which calibrate the model of the run.
    Raises:
        InputError: see `plan_hiding`.
        Stopped: a signal stopped the training.
    """
    plan = plan_hiding(recipe)
    logger.info(plan.describe())
    checkpoint = train_helper(plan.recipe, out / HIDDEN, options)
    measured = _measure(load_for_measuring(checkpoint), plan, options.progress)
    if current().is_main:
        names = {i: plan.data.training.file.name_of(i) for i in plan.classes}
        report_quality(measured, names, plan.recipe.seed, out=out)
    return measured


def plan_hiding(recipe: Recipe) -> HidingPlan:
    """Chooses the classes to hide by the recipe's seed, across few and many masks.

    Raises:
        InputError: the model has no quality features, too few classes have enough
            masks, or the initial weights have learned a class to hide.
    """
    if recipe.model.kind != "box_segmenter":
        raise InputError(
            f"hide={recipe.hide}: works for a box_segmenter, the recipe's model is a "
            f"{recipe.model.kind}"
        )
    data = read_training_data(recipe)
    classes = _choose(recipe, data)
    names = {data.training.file.name_of(i) for i in classes}
    _refuse_start(recipe, names)
    stages = list(recipe.stages)
    for index, pictures in data.own.items():
        own = stages[index].data
        assert own is not None, index
        stages[index] = stages[index].model_copy(update={"data": _without(own, pictures, names)})
    changes = {"hide": 0, "data": _without(recipe.data, data.main, names), "stages": stages}
    return HidingPlan(classes, recipe.model_copy(update=changes), data)


def _choose(recipe: Recipe, data: TrainingData) -> list[int]:
    counts, enough = data.main.mask_counts, max(1, recipe.data.masked_threshold)
    fitting = hideable(counts, data.main.masked, enough)
    if len(fitting) < recipe.hide:
        raise InputError(
            f"hide={recipe.hide}: {data.name} has {len(fitting)} masked classes with at least "
            f"{enough} masks and at most a third of all; "
            f"hide fewer, or lower data.masked_threshold"
        )
    rng = np.random.default_rng([recipe.seed, recipe.hide])
    return [int(rng.choice(group)) for group in np.array_split(np.array(fitting), recipe.hide)]


def _without(data: Data, pictures: Pictures, hidden: set[str]) -> Data:
    """Returns a data section without the masks of the hidden classes."""
    file = pictures.training.file
    kept = [
        file.name_of(i)
        for i, n in pictures.mask_counts.items()
        if n > 0 and file.name_of(i) not in hidden
    ]
    odd = [name for name in kept if "," in name]
    if not kept or odd:
        why = f"the class name {odd[0]!r} has a comma" if odd else "no other class has masks"
        raise InputError(
            f"hide: {file.name}: {why}, so data.masked cannot say what "
            "the first training learns from"
        )
    return data.model_copy(update={"masked": ",".join(kept)})


def _refuse_start(recipe: Recipe, hidden: set[str]) -> None:
    named = {
        "init": recipe.init,
        "distil.teacher": recipe.distil.teacher if recipe.distil else None,
    }
    for key, name in named.items():
        if name is not None and name != AVERAGE:
            _refuse_masks_of(hidden, *read_start(name, key), key=f"hide={recipe.hide}: {key}")


def _refuse_masks_of(hidden: set[str], source: Path, start: Checkpoint, *, key: str) -> None:
    had = {i for i, n in start.mask_counts.items() if n > 0} | set(start.masked)
    seen = sorted(c["name"] for c in start.categories if c["id"] in had and c["name"] in hidden)
    if seen:
        raise InputError(
            f"{key}: {source} has learnt masks of {seen[0]}, which is to be "
            "hidden: the estimate would be too good; "
            "start from another checkpoint, or leave hide out"
        )


def _measure(model: Any, plan: HidingPlan, progress: Progress) -> MeasuredMasks:
    """Predicts masks in the boxes of hidden classes on the run's training images."""
    pictures = plan.data.training
    labels = torch.tensor([pictures.file.label_of[i] for i in plan.classes])
    rows = {k: _objects(pictures.target(k), labels) for k in range(len(pictures))}
    chosen = {k: row for k, row in rows.items() if len(row)}
    return measure_masks(
        model, pictures, chosen, title="measuring hidden classes", progress=progress
    )


def _objects(target: Any, labels: Tensor) -> Tensor:
    """Rows of a target (int64) whose mask is known and whose class is one of `labels`."""
    return torch.where(target.has_mask & torch.isin(target.labels, labels))[0]
