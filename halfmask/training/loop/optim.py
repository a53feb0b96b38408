"""Builds the optimiser and the learning-rate schedule of a stage."""

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
"""Share of the rate at which warm-up starts (paper, Detectron's hyper-parameters)."""
JUMP = 1.1
"""Detectron rescales momentum where a rate changes by more than this factor."""
SMALLEST_RATE = 1e-7
"""It does not where the rate before was no larger."""


class StepMomentum(torch.optim.Optimizer):
    """Caffe2's SGD: its momentum sums up steps, each with the rate of its time.

    v ← momentum · v + lr · (g + weight_decay · w); w ← w − v. Where the rate changes by
    more than a tenth from one step to the next, v is rescaled with it, as in Detectron.

    Args:
        params: parameters, or groups of them with their own `lr` and `weight_decay`.
        lr: learning rate.
        momentum: share of the last step that is kept.
        weight_decay: of groups without their own.
    """

    def __init__(
        self, params: Any, lr: float, momentum: float = 0.9, weight_decay: float = 0.0
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "last_lr": 0.0}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Takes a step; `closure` computes the loss again, if it is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._step(group, _momentum_factor(group["last_lr"], group["lr"]))
            group["last_lr"] = group["lr"]
        return loss

    def _step(self, group: dict[str, Any], correction: float) -> None:
        learning = [p for p in group["params"] if p.grad is not None]
        if not learning:
            return
        for p in learning:
            self.state[p].setdefault("velocity", torch.zeros_like(p))
        velocities = [self.state[p]["velocity"] for p in learning]
        decay = group["weight_decay"]
        grads = [p.grad for p in learning]
        steps = torch._foreach_add(grads, learning, alpha=decay) if decay else grads
        torch._foreach_mul_(velocities, group["momentum"] * correction)
        torch._foreach_add_(velocities, steps, alpha=group["lr"])
        torch._foreach_sub_(learning, velocities)


def _momentum_factor(last: float, rate: float) -> float:
    """Returns the factor of a velocity for a new rate: 1, unless the rate has jumped."""
    if last <= SMALLEST_RATE or rate <= 0:
        return 1.0
    return rate / last if max(rate / last, last / rate) > JUMP else 1.0


def build_optimiser(
    parameters: Iterable[tuple[str, nn.Parameter]],
    *,
    settings: Optimiser,
    steps: int,
    factors: Mapping[str, float] | None = None,
) -> tuple[torch.optim.Optimizer, LambdaLR]:
    """Returns the optimiser of the given parameters, and its schedule by step.

    Args:
        parameters: name and parameter; the names of biases end in `bias`.
        steps: length of the stage, where a cosine ends.
        factors: name → factor of the learning rate, by default 1.
    """
    named = list(parameters)
    members: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in named:
        key = ((factors or {}).get(name, 1.0), name.endswith("bias"))
        members.setdefault(key, []).append(parameter)
    groups = []
    # Biases last: the order of groups is part of a resume point.
    for factor, bias in sorted(members):
        rate = settings.lr * factor * (settings.bias_lr_factor if bias else 1.0)
        decay = settings.weight_decay if settings.decay_biases or not bias else 0.0
        members_of = members[factor, bias]
        groups.append(
            {"params": members_of, "lr": rate, "weight_decay": decay, "part_factor": factor}
        )
    # Fused is faster on CPUs. On CUDA it conflicts with gradient clipping under
    # float16, and foreach is as fast.
    fused = all(p.device.type == "cpu" for _, p in named)
    optimiser: torch.optim.Optimizer
    if settings.name == "sgd" and settings.momentum_of == "steps":
        optimiser = StepMomentum(groups, lr=settings.lr, momentum=settings.momentum)
    elif settings.name == "sgd":
        optimiser = torch.optim.SGD(
            groups, lr=settings.lr, momentum=settings.momentum, fused=fused or None
        )
    else:
        optimiser = torch.optim.AdamW(groups, lr=settings.lr, fused=fused or None)
    return optimiser, LambdaLR(optimiser, lr_factor(settings, steps))


def lr_factor(settings: Optimiser, steps: int) -> Callable[[int], float]:
    """Returns the function from step (from 0) to the factor of the learning rate."""
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
    """Returns the names of the parameters that the model's builder left trainable."""
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def choose_parts(
    model: Any, stage: Stage, learnable: set[str]
) -> tuple[list[nn.Module], dict[str, nn.Parameter]]:
    """Returns the frozen parts of a stage, and its learning parameters by name.

    Args:
        learnable: see `built_to_learn`.
    Raises:
        InputError: the model lacks a part of the stage, or no parameter learns.
    """
    parts: dict[str, nn.Module] = model.parts()
    known = ", ".join(parts)
    unknown = [name for name in stage.train if name != "all" and name not in parts]
    if unknown:
        raise InputError(
            f"stage {stage.name}: the model has no part {unknown[0]}; its parts are {known}, or all"
        )
    chosen = set(parts) if "all" in stage.train else set(stage.train)
    ids = {id(p) for name in chosen for p in parts[name].parameters()}
    learning = {
        name: p for name, p in model.named_parameters() if id(p) in ids and name in learnable
    }
    if not learning:
        raise InputError(
            f"stage {stage.name}: nothing learns: `train` is {stage.train}, and none of its "
            "parameters is trainable"
        )
    return [module for name, module in parts.items() if name not in chosen], learning


def rate_factors(model: Any, stage: Stage) -> dict[str, float]:
    """Returns parameter name → factor of its learning rate, for parts that have one.

    Raises:
        InputError: the model lacks a part of the stage.
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
