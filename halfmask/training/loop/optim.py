"""Optimiser and learning rate of a stage."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from halfmask.errors import InputError
from halfmask.recipes.recipe import Optimiser, Stage

WARMUP_START = 1 / 3
"""Warm-up begins at this share of the rate (paper, hyper-parameters of Detectron)."""


def build_optimiser(
    parameters: Iterable[tuple[str, nn.Parameter]],
    settings: Optimiser,
    steps: int,
    factors: Mapping[str, float] | None = None,
) -> tuple[torch.optim.Optimizer, LambdaLR]:
    """The optimiser over the given (learning) parameters, and its schedule, to be
    advanced once a step.

    Args:
        parameters: name and parameter; names that end in `bias` make up the biases.
        steps: length of the stage, where a cosine ends.
        factors: name → factor of the learning rate, 1 for names that are not there.
    """
    named = list(parameters)
    members: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in named:
        key = ((factors or {}).get(name, 1.0), name.endswith("bias"))
        members.setdefault(key, []).append(parameter)
    groups = []
    # Others before biases: the order of groups is part of a resume point.
    for factor, bias in sorted(members):
        rate = settings.lr * factor * (settings.bias_lr_factor if bias else 1.0)
        decay = settings.weight_decay if settings.decay_biases or not bias else 0.0
        members_of = members[factor, bias]
        groups.append(
            {"params": members_of, "lr": rate, "weight_decay": decay, "part_factor": factor}
        )
    # One kernel for all parameters; on CUDA it would clash with gradient clipping under
    # float16, and foreach is as fast there.
    fused = all(p.device.type == "cpu" for _, p in named)
    optimiser: torch.optim.Optimizer
    if settings.name == "sgd":
        optimiser = torch.optim.SGD(
            groups, lr=settings.lr, momentum=settings.momentum, fused=fused or None
        )
    else:
        optimiser = torch.optim.AdamW(groups, lr=settings.lr, fused=fused or None)
    return optimiser, LambdaLR(optimiser, lr_factor(settings, steps))


def lr_factor(settings: Optimiser, steps: int) -> Callable[[int], float]:
    """Step (from 0) → factor of the learning rate."""
    drops = sorted(settings.steps)

    def factor(step: int) -> float:
        warm = 1.0
        if step < settings.warmup:
            warm = WARMUP_START + (1 - WARMUP_START) * step / settings.warmup
        if settings.schedule == "step":
            return warm * 0.1 ** bisect.bisect_right(drops, step)
        if settings.schedule == "cosine":
            return warm * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))
        return warm

    return factor


def built_to_learn(model: nn.Module) -> set[str]:
    """Names of the parameters that the model's builder left switched on: stages choose
    among them, and revive none.
    """
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def choose_parts(
    model: Any, stage: Stage, learnable: set[str]
) -> tuple[list[nn.Module], dict[str, nn.Parameter]]:
    """The frozen parts of a stage, and its learning parameters by name.

    Raises:
        InputError: the stage names a part that the model does not have, or nothing is
            left to learn.
    """
    parts: dict[str, nn.Module] = model.parts()
    unknown = [name for name in stage.train if name != "all" and name not in parts]
    if unknown:
        raise InputError(
            f"stage {stage.name}: the model has no part {unknown[0]}; its parts are "
            f"{', '.join(parts)}, or all"
        )
    chosen = set(parts) if "all" in stage.train else set(stage.train)
    ids = {id(p) for name in chosen for p in parts[name].parameters()}
    learning = {
        name: p for name, p in model.named_parameters() if id(p) in ids and name in learnable
    }
    if not learning:
        raise InputError(
            f"stage {stage.name}: nothing learns: `train` is {stage.train}, and no parameter "
            "of that is trainable"
        )
    return [module for name, module in parts.items() if name not in chosen], learning


def rate_factors(model: Any, stage: Stage) -> dict[str, float]:
    """Parameter's name → factor of its learning rate, where the stage names one for its
    part.

    Raises:
        InputError: the stage names a part that the model does not have.
    """
    parts: dict[str, nn.Module] = model.parts()
    wanted = stage.optimiser.part_lr_factors
    unknown = [name for name in wanted if name not in parts]
    if unknown:
        known = ", ".join(parts)
        raise InputError(
            f"stage {stage.name}: optimiser.part_lr_factors: the model has no part "
            f"{unknown[0]}; its parts are {known}"
        )
    factor_of = {id(p): factor for name, factor in wanted.items() for p in parts[name].parameters()}
    return {name: factor_of[id(p)] for name, p in model.named_parameters() if id(p) in factor_of}
