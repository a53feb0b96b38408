"""Which parameters of a model a stage trains, and at which rate."""

from __future__ import annotations

from typing import Any

from torch import nn

from halfmask.errors import InputError
from halfmask.recipes.recipe import Stage


def built_to_learn(model: nn.Module) -> set[str]:
    """Names of the parameters that the model's builder left switched on: stages choose among them, and revive none."""
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def choose_parts(model: Any, stage: Stage, learnable: set[str]) -> tuple[list[nn.Module], dict[str, nn.Parameter]]:
    """The frozen parts of a stage, and its learning parameters by name.

    Raises:
        InputError: the stage names a part that the model does not have, or nothing is left to learn.
    """
    parts: dict[str, nn.Module] = model.parts()
    unknown = [name for name in stage.train if name != "all" and name not in parts]
    if unknown:
        raise InputError(
            f"stage {stage.name}: the model has no part {unknown[0]}; its parts are {', '.join(parts)}, or all"
        )
    chosen = set(parts) if "all" in stage.train else set(stage.train)
    ids = {id(p) for name in chosen for p in parts[name].parameters()}
    learning = {name: p for name, p in model.named_parameters() if id(p) in ids and name in learnable}
    if not learning:
        raise InputError(
            f"stage {stage.name}: nothing learns: `train` is {stage.train}, and no parameter of that is trainable"
        )
    return [module for name, module in parts.items() if name not in chosen], learning


def rate_factors(model: Any, stage: Stage) -> dict[str, float]:
    """Parameter's name → factor of its learning rate, where the stage names one for its part.

    Raises:
        InputError: the stage names a part that the model does not have.
    """
    parts: dict[str, nn.Module] = model.parts()
    wanted = stage.optimiser.part_lr_factors
    unknown = [name for name in wanted if name not in parts]
    if unknown:
        known = ", ".join(parts)
        raise InputError(
            f"stage {stage.name}: optimiser.part_lr_factors: the model has no part {unknown[0]}; its parts are {known}"
        )
    factor_of = {id(p): factor for name, factor in wanted.items() for p in parts[name].parameters()}
    return {name: factor_of[id(p)] for name, p in model.named_parameters() if id(p) in factor_of}
