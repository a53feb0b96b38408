"""Checks a recipe and measures two steps of each stage; writes nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from halfmask.models.backbones.networks import is_weights_name
from halfmask.models.base import SegmentationModel
from halfmask.recipes.recipe import AVERAGE, Recipe
from halfmask.training.data import read_training_data
from halfmask.training.hide import plan_hiding
from halfmask.training.job import set_teacher
from halfmask.training.loop.cost import Cost, measure
from halfmask.training.loop.optim import built_to_learn
from halfmask.training.single import build_for, describe, with_start

logger = logging.getLogger("halfmask")


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """Size of a recipe's model and cost of its stages.

    Attributes:
        parameters: part of the model → number of parameters.
        total: number of all parameters.
        device: where the steps were measured.
        costs: one measured step of each stage.
    """

    recipe: Recipe
    parameters: dict[str, int]
    total: int
    device: str
    costs: list[Cost]

    def hours(self, index: int) -> float:
        """Estimates the time of a stage."""
        stage, cost = self.recipe.stages[index], self.costs[index]
        seconds = cost.seconds * stage.batch_size / self.recipe.devices / cost.images
        return seconds * stage.steps / 3600

    def lines(self) -> Iterator[str]:
        """Yields the report, line by line."""
        recipe = self.recipe
        parts = ", ".join(f"{name} {count:,}" for name, count in self.parameters.items())
        yield f"{recipe.model.kind}: {self.total:,} parameters: {parts}"
        for index, (stage, cost) in enumerate(zip(recipe.stages, self.costs, strict=True)):
            losses = ", ".join(f"{name} {value:.3f}" for name, value in cost.losses.items())
            yield (
                f"stage {stage.name}: {', '.join(stage.train)} learn; {stage.steps} steps of "
                f"{stage.batch_size} {'regions' if stage.cache_features else 'images'}; measured "
                f"on {self.device} with {cost.images}: {cost.seconds:.3f} s a step, "
                f"{cost.memory / 2**30:.2f} GiB; {losses}; about {self.hours(index):.2f} h"
            )
        if recipe.rounds > 1:
            yield f"rounds: {recipe.rounds} such trainings; between two, the teacher fills in masks"
        if recipe.hide:
            yield f"hide: as much again, {recipe.rounds} more without the hidden classes' masks"
        if recipe.devices > 1:
            yield (
                f"devices: {recipe.devices} processes; times are for one process, without "
                "communication"
            )
        yield "dry run: nothing was written"

    def to_json(self) -> dict[str, Any]:
        stages = [
            {"name": stage.name, "hours": self.hours(k), **asdict(self.costs[k])}
            for k, stage in enumerate(self.recipe.stages)
        ]
        sizes = {"parameters": self.parameters, "total": self.total, "device": self.device}
        return {"recipe": self.recipe.name, **sizes, "stages": stages}


def measure_recipe(recipe: Recipe) -> DryRun:
    """Builds data and model, and takes two steps of each stage.

    Raises:
        InputError: the recipe does not fit its data or its model.
    """
    data = with_start(recipe, read_training_data(recipe))
    describe(recipe, data)
    if recipe.hide:
        logger.info(plan_hiding(recipe).describe())
    model = build_for(_without_download(recipe), data)
    _set_teacher(model, recipe)
    learnable = built_to_learn(model)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    loaders = data.loaders(recipe)
    parts = model.parts().items()
    return DryRun(
        recipe=recipe,
        parameters={name: sum(p.numel() for p in part.parameters()) for name, part in parts},
        total=sum(p.numel() for p in model.parameters()),
        device=str(device),
        costs=[
            measure(model, recipe, stage, data=loaders.of(index), learnable=learnable)
            for index, stage in enumerate(recipe.stages)
        ],
    )


def _set_teacher(model: SegmentationModel, recipe: Recipe) -> None:
    """Gives the model its teacher; itself for one that the training makes first."""
    distil = recipe.distil
    if distil is None or distil.teacher is not None or recipe.rounds == 1:
        set_teacher(model, recipe)
        return
    average = distil.model_copy(update={"teacher": AVERAGE})
    set_teacher(model, recipe.model_copy(update={"distil": average}))


def _without_download(recipe: Recipe) -> Recipe:
    """Replaces weights that would be downloaded by random ones."""
    part = "backbone" if recipe.model.kind == "mask_rcnn" else "encoder"
    network = getattr(recipe.model, part)
    if network.weights is None or not is_weights_name(network.weights):
        return recipe
    logger.info(
        f"weights: {network.weights}: the training downloads them at its start; the dry run uses "
        "random ones"
    )
    random = recipe.model.model_copy(update={part: network.model_copy(update={"weights": None})})
    return recipe.model_copy(update={"model": random})
