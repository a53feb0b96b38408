"""Checks a recipe and measures two steps of each stage; writes nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from halfmask.recipes.recipe import Recipe, Stage
from halfmask.training.data import read_training_data
from halfmask.training.hide import plan_hiding
from halfmask.training.loop.cost import Cost, measure
from halfmask.training.loop.optim import built_to_learn
from halfmask.training.single import build_for, describe

logger = logging.getLogger("halfmask")


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """Cost of one stage.

    Attributes:
        cost: one measured step.
        hours: estimate for the whole stage.
    """

    stage: Stage
    cost: Cost
    hours: float

    def line(self, device: str) -> str:
        stage, cost = self.stage, self.cost
        losses = ", ".join(f"{name} {value:.3f}" for name, value in cost.losses.items())
        return (
            f"stage {stage.name}: {', '.join(stage.train)} learn; {stage.steps} steps of "
            f"{stage.batch_size} {'regions' if stage.cache_features else 'images'}; measured on "
            f"{device} with {cost.images}: {cost.seconds:.3f} s a step, "
            f"{cost.memory / 2**30:.2f} GiB; {losses}; about {self.hours:.2f} h"
        )


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """Size of a recipe's model and cost of its stages.

    Attributes:
        kind: of the model.
        parameters: part → number of parameters.
        total: number of all parameters.
        device: where the steps were measured.
        rounds, hide, devices: of the recipe.
    """

    kind: str
    parameters: dict[str, int]
    total: int
    device: str
    stages: list[StageCost]
    rounds: int
    hide: int
    devices: int

    def lines(self) -> Iterator[str]:
        """Yields the report, line by line."""
        parts = ", ".join(f"{name} {count:,}" for name, count in self.parameters.items())
        yield f"{self.kind}: {self.total:,} parameters: {parts}"
        for stage in self.stages:
            yield stage.line(self.device)
        if self.rounds > 1:
            yield f"rounds: {self.rounds} such trainings; between two, the teacher fills in masks"
        if self.hide:
            yield f"hide: as much again, {self.rounds} more without the hidden classes' masks"
        if self.devices > 1:
            yield (
                f"devices: {self.devices} processes; times are for one process, without "
                "communication"
            )
        yield "dry run: nothing was written"

    def to_json(self) -> dict[str, Any]:
        stages = [{"name": s.stage.name, "hours": s.hours, **asdict(s.cost)} for s in self.stages]
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "stages"}
        return plain | {"stages": stages}


def measure_recipe(recipe: Recipe) -> DryRun:
    """Builds data and model, and takes two steps of each stage.

    Raises:
        InputError: the recipe does not fit its data or its model.
    """
    data = read_training_data(recipe)
    describe(recipe, data)
    if recipe.hide:
        logger.info(plan_hiding(recipe).describe())
    model = build_for(_without_download(recipe), data)
    learnable = built_to_learn(model)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    loaders = data.loaders(recipe)
    stages = []
    for index, stage in enumerate(recipe.stages):
        cost = measure(model, recipe, stage, data=loaders.of(index), learnable=learnable)
        each = stage.batch_size / recipe.devices / cost.images
        hours = cost.seconds * each * stage.steps / 3600
        stages.append(StageCost(stage=stage, cost=cost, hours=hours))
    return DryRun(
        kind=recipe.model.kind,
        parameters={
            name: sum(p.numel() for p in part.parameters()) for name, part in model.parts().items()
        },
        total=sum(p.numel() for p in model.parameters()),
        device=str(device),
        stages=stages,
        rounds=recipe.rounds,
        hide=recipe.hide,
        devices=recipe.devices,
    )


def _without_download(recipe: Recipe) -> Recipe:
    """Replaces weights that would be downloaded by random ones."""
    part = "backbone" if recipe.model.kind == "mask_rcnn" else "encoder"
    network = getattr(recipe.model, part)
    if network.weights != "DEFAULT":
        return recipe
    logger.info(
        "weights: DEFAULT: the training downloads them at its start; the dry run uses random ones"
    )
    random = recipe.model.model_copy(update={part: network.model_copy(update={"weights": None})})
    return recipe.model_copy(update={"model": random})
