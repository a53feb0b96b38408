"""Checks a recipe and measures two of its steps; writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from halfmask.training.single import build_for, describe

if TYPE_CHECKING:
    from halfmask.recipes.recipe import Recipe


def _without_download(recipe: Recipe) -> Recipe:
    """A dry run fetches nothing; all else that the model's files say is checked."""
    part = "backbone" if recipe.model.kind == "mask_rcnn" else "encoder"
    network = getattr(recipe.model, part)
    if network.weights != "DEFAULT":
        return recipe
    print("weights: DEFAULT: they are fetched when the training begins; here they are random")
    random = recipe.model.model_copy(update={part: network.model_copy(update={"weights": None})})
    return recipe.model_copy(update={"model": random})


def dry_run_of(recipe: Recipe) -> None:
    import torch

    from halfmask.training.data import read_training_data
    from halfmask.training.hide import plan_hiding
    from halfmask.training.loop.cost import measure
    from halfmask.training.loop.optim import built_to_learn

    data = read_training_data(recipe)
    describe(recipe, data)
    if recipe.hide:
        print(plan_hiding(recipe).describe())
    model = build_for(_without_download(recipe), data)
    learnable = built_to_learn(model)
    total = sum(p.numel() for p in model.parameters())
    print(
        f"{recipe.model.kind}: {total:,} parameters: "
        + ", ".join(
            f"{name} {sum(p.numel() for p in part.parameters()):,}"
            for name, part in model.parts().items()
        )
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    loaders = data.loaders(recipe)
    for index, stage in enumerate(recipe.stages):
        cost = measure(model, recipe, stage, loaders.of(index), learnable)
        unit = "regions" if stage.cache_features else "images"
        hours = cost.seconds * stage.batch_size / recipe.devices / cost.images * stage.steps / 3600
        losses = ", ".join(f"{name} {value:.3f}" for name, value in cost.losses.items())
        print(
            f"stage {stage.name}: {', '.join(stage.train)} learn; {stage.steps} steps of "
            f"{stage.batch_size} {unit}; measured on {device} "
            f"with {cost.images}: {cost.seconds:.3f} s a step, {cost.memory / 2**30:.2f} GiB; "
            f"{losses}; about {hours:.2f} h"
        )
    if recipe.rounds > 1:
        print(
            f"rounds: {recipe.rounds} such trainings, and the training file filled in between two"
        )
    if recipe.hide:
        print(f"hide: as much again, {recipe.rounds} more without the hidden classes' masks")
    if recipe.devices > 1:
        print(
            f"devices: {recipe.devices} processes; the steps were those of one of them, what "
            "they say to each other aside"
        )
    print("dry run: nothing was written")
