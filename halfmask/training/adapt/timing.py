"""Fits the number of steps to the minutes that a training may take on this machine."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from halfmask.recipes.recipe import Recipe
from halfmask.training.data import TrainingData
from halfmask.training.loop.batches import ImageBatch, Stream
from halfmask.training.loop.optim import built_to_learn
from halfmask.training.loop.stage import build_stage, crops_of
from halfmask.training.single import build_for

WARM, TIMED = 2, 6
"""Steps before the clock starts, and steps that are timed."""
LONGEST = 20.0
"""Seconds after which timing stops, with at least one step timed."""
FOLD_SHARE = 0.12
"""Share of the training time that each held-out training gets."""
FEWEST = 20
"""Steps of a training, at least."""
MOST_BASE, MOST_PER_MASK = 150, 2.0
"""Steps of a training, at most: a base and some for each mask. More learn few masks by
heart.
"""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Steps of the trainings.

    Attributes:
        seconds_per_step: as measured.
        fold_steps: of each held-out training; 0 if there is none.
        final_steps: of the training on all masks.
    """

    seconds_per_step: float
    fold_steps: int
    final_steps: int


def most_steps(masks: int) -> int:
    """Returns the steps beyond which a training on so many masks does not gain."""
    return int(MOST_BASE + MOST_PER_MASK * masks)


def fit_steps(seconds_per_step: float, seconds: float, *, masks: int, folds: list[int]) -> Timing:
    """Divides a training time among the held-out trainings and the final one.

    Args:
        seconds: for all trainings together.
        masks: of the final training.
        folds: masks that each held-out training learns from.
    """
    whole = seconds / max(seconds_per_step, 1e-6)
    fold = max(FEWEST, min(int(FOLD_SHARE * whole), *map(most_steps, folds)))
    final = max(FEWEST, min(int(whole - fold * len(folds)), most_steps(masks)))
    return Timing(seconds_per_step=seconds_per_step, fold_steps=fold, final_steps=final)


def with_steps(recipe: Recipe, steps: int) -> Recipe:
    """Returns a recipe of so many steps, divided as its stages were."""
    total = sum(stage.steps for stage in recipe.stages)
    stages = []
    for stage in recipe.stages:
        own = max(1, round(steps * stage.steps / total))
        warmup = min(stage.optimiser.warmup, own // 10)
        optimiser = stage.optimiser.model_copy(update={"warmup": warmup})
        stages.append(stage.model_copy(update={"steps": own, "optimiser": optimiser}))
    return recipe.model_copy(update={"stages": stages})


def final_steps(seconds_per_step: float, left: float, *, masks: int) -> int:
    """Returns the steps of the last training that fit into `left` seconds."""
    fitting = int(left / max(seconds_per_step, 1e-6))
    return max(FEWEST, min(fitting, most_steps(masks)))


def measure_speed(recipe: Recipe, data: TrainingData) -> float:
    """Takes the first steps of a recipe's first stage; returns seconds per step.

    Reading and augmenting the photographs counts. The model is thrown away.
    """
    model: Any = build_for(recipe, data)
    learnable = built_to_learn(model)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    stage = recipe.stages[0]
    module = build_stage(model, recipe, stage, learnable=learnable)
    optimiser = module.configure_optimizers()["optimizer"]
    loader = data.loaders(recipe).of(0).shuffled(stage.batch_size, recipe.seed)
    begin = mark = time.perf_counter()
    for number, (images, targets) in enumerate(Stream(loader, WARM + TIMED)):
        with crops_of(model, stage.crop_size):
            loss = module.training_step(ImageBatch(images, targets, stage.loss).to(device), 0)
        optimiser.zero_grad()
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        now, timed = time.perf_counter(), number + 1 - WARM
        if timed <= 0:
            mark = now
        elif timed == TIMED or now - begin > LONGEST:
            break
    return (now - mark) / timed
