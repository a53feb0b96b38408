"""Sums over the processes that train one model, and work that one of them does for all.

A process alone is a team of one: every function here returns its argument unchanged.

Within a training step (`Team.step`) all processes must call each collective function,
in the same order, whatever their part of the batch holds. Outside of a step the
functions that models use (`total`, `mean_scale`, `largest`) do not communicate, so one
process can evaluate alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch import distributed as dist

Normaliser = Literal["global", "rank"]
Launcher = Literal["", "torchrun", "slurm"]

STEP_TIMEOUT = timedelta(minutes=30)
"""A process gives up if the others stay silent for this long within a step. It notices
at once when one of them ends.
"""
WAIT_TIMEOUT = timedelta(days=7)
"""One process evaluates, indexes and caches while the others wait."""


@dataclass(frozen=True, kw_only=True)
class ProcessPlace:
    """Ranks of this process among all (`world`) and on its host (`local_world`).

    Attributes:
        launcher: the program that started the processes; empty for a process alone.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    launcher: Launcher = ""

    @property
    def hosts(self) -> int:
        return self.world // self.local_world


class Team:
    """The processes of one training; see `current` and `several.processes.join`.

    Attributes:
        place: number of this process.
        device: device of this process; None if the process is alone and may choose.
        normaliser: of the step in progress; None between the steps.
    """

    def __init__(self, place: ProcessPlace, device: torch.device | None = None) -> None:
        self.place = place
        self.device = device
        # Own groups: DDP's sums run at the same time, and the order may differ.
        self.group: Any = None if self.alone else dist.new_group(timeout=STEP_TIMEOUT)
        self._waiting: Any = (
            None if self.alone else dist.new_group(timeout=WAIT_TIMEOUT, backend="gloo")
        )
        self.normaliser: Normaliser | None = None

    @property
    def alone(self) -> bool:
        return self.place.world == 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes, logs and evaluates."""
        return self.place.rank == 0

    @contextmanager
    def step(self, normaliser: Normaliser) -> Iterator[None]:
        """Surrounds the forward pass of a training step."""
        self.normaliser = None if self.alone else normaliser
        try:
            yield
        finally:
            self.normaliser = None

    def summed(self, values: Tensor) -> Tensor:
        """Returns the sum over all processes (collective)."""
        if self.alone:
            return values
        out = values.detach().clone()
        dist.all_reduce(out, group=self.group)
        return out

    def any(self, flag: bool) -> bool:
        """Returns whether the flag is set in at least one process (collective)."""
        if self.alone:
            return flag
        row = torch.tensor([int(flag)])
        dist.all_reduce(row, dist.ReduceOp.MAX, group=self._waiting)
        return bool(row)

    def broadcast(self, flag: bool) -> bool:
        """Returns the main process's flag in all processes (collective)."""
        return self.any(flag and self.is_main)

    def wait(self) -> None:
        """Waits until all processes arrive here."""
        self.any(False)

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Runs the block in the main process, then once per host, then in all others.

        A file that the block writes (an index, a download, a cache) is so written once
        per disk. An error ends the process, and so the others.
        """
        if self.alone:
            yield
            return
        turn = 0 if self.is_main else 1 if self.place.local_rank == 0 else 2
        for _ in range(turn):
            self.wait()
        yield
        for _ in range(3 - turn):
            self.wait()

    def same_weights(self, model: nn.Module) -> None:
        """Copies the main process's parameters and buffers to all processes."""
        if self.alone:
            return
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, 0, group=self.group)


_team = Team(ProcessPlace())


def current() -> Team:
    """Returns the team of this process."""
    return _team


def use_team(team: Team) -> None:
    """Makes `team` the current one."""
    global _team
    _team = team


def in_step() -> bool:
    """Returns whether a step together with other processes is in progress."""
    return _team.normaliser is not None


def total(count: float) -> float:
    """Returns the sum of a number over all processes of a step."""
    if not in_step():
        return count
    return float(_team.summed(torch.tensor(count, dtype=torch.float64, device=_team.device)))


def mean_scale(count: Tensor | float) -> Tensor | float:
    """Returns the factor that turns a process's mean into its share of the global mean.

    DDP averages gradients over processes. Multiplied by count · processes / sum of the
    counts, that average is the mean over all items of all processes. The factor is 1
    outside of a step, and with `normaliser: rank`, where each process uses its own
    mean.

    Args:
        count: number of items of this process.
    """
    if not in_step() or _team.normaliser == "rank":
        return 1.0
    own = torch.as_tensor(count, dtype=torch.float64, device=_team.device).detach()
    factor = own * _team.place.world / _team.summed(own).clamp_min(1e-6)
    return factor.float()


def largest(values: Sequence[int]) -> list[int]:
    """Returns the elementwise maximum over all processes of a step."""
    if not in_step():
        return list(values)
    row = torch.tensor(values, dtype=torch.int64, device=_team.device)
    dist.all_reduce(row, dist.ReduceOp.MAX, group=_team.group)
    return [int(value) for value in row.tolist()]
