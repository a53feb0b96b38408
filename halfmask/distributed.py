"""The processes that train one model together: who this one is, sums over all of them,
and work that one does for all.

A process alone is a team of one: every function here then gives back what it was given,
and touches no number.

Within a training step (`Team.step`) each function that asks the others has to be called
by all processes, in the same order, whatever their part of the batch holds. Outside of
a step the functions of a model (`share`, `total`, `largest`) ask nobody: an evaluation
that one process makes alone waits for none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch import distributed as dist

from halfmask.errors import InputError

Normaliser = Literal["global", "rank"]
By = Literal["", "torchrun", "slurm"]

STEP_TIMEOUT = timedelta(minutes=30)
"""A process that hears nothing from the others for so long within a step gives up. One
that ends is noticed at once.
"""
WAIT_TIMEOUT = timedelta(days=7)
"""Evaluations, indices and caches are made by one process while the others wait."""
SPECIAL_STEPS = 0xFFFFFFF0
"""SLURM's numbers for a batch script and an interactive shell lie above: these are no
tasks that srun started.
"""


@dataclass(frozen=True)
class Place:
    """This process among `world`; `local_rank` among the `local_world` of its host.
    `by`: who started them.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    by: By = ""

    @property
    def hosts(self) -> int:
        return self.world // self.local_world


def place_of(environment: Mapping[str, str]) -> Place:
    """Reads what torchrun (or `halfmask train devices=N`, which speaks its language) or
    srun says in the environment's variables.

    Raises:
        InputError: the hosts have different numbers of processes, or srun was not told
            how many a host.
    """
    if "TORCHELASTIC_RUN_ID" in environment:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        place = _read(environment, names, "torchrun")
        mend = "give torchrun the same --nproc-per-node on every host"
    elif _is_task(environment):
        names = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE")
        missing = [name for name in names if name not in environment]
        if missing:
            raise InputError(
                f"SLURM: {missing[0]} is not set: ask for processes with --nodes and "
                "--ntasks-per-node"
            )
        place = _read(environment, names, "slurm")
        mend = "ask for processes with --nodes and --ntasks-per-node"
    else:
        return Place()
    if place.world % place.local_world:
        raise InputError(
            f"{place.world} processes do not divide into hosts of {place.local_world}: {mend}"
        )
    return place


def _read(environment: Mapping[str, str], names: tuple[str, str, str, str], by: By) -> Place:
    rank, world, local_rank, local_world = (int(environment[name]) for name in names)
    return Place(rank, world, local_rank, local_world, by)


def _is_task(environment: Mapping[str, str]) -> bool:
    """Whether srun started this process, beside others. A batch script has the job's
    variables too, but is alone.
    """
    step = environment.get("SLURM_STEP_ID", "")
    return (
        step.isdigit()
        and int(step) < SPECIAL_STEPS
        and int(environment.get("SLURM_NTASKS", "1")) > 1
    )


class Team:
    """The processes of one training; see `join`, `current`.

    Attributes:
        place: who this process is.
        device: where it computes; None: whoever asks decides (a process alone).
    """

    def __init__(self, place: Place, device: torch.device | None = None) -> None:
        self.place = place
        self.device = device
        # Groups of our own, so that the order of our sums and that of DDP's, which run
        # at the same time, need not agree.
        self.group: Any = None if self.alone else dist.new_group(timeout=STEP_TIMEOUT)
        self._waiting: Any = (
            None if self.alone else dist.new_group(timeout=WAIT_TIMEOUT, backend="gloo")
        )
        self.normaliser: Normaliser | None = None
        """Of the step that is being taken; None between the steps."""

    @property
    def alone(self) -> bool:
        return self.place.world == 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes, prints and evaluates."""
        return self.place.rank == 0

    @contextmanager
    def step(self, normaliser: Normaliser) -> Iterator[None]:
        """Around the forward pass of a training step."""
        self.normaliser = None if self.alone else normaliser
        try:
            yield
        finally:
            self.normaliser = None

    def summed(self, values: Tensor) -> Tensor:
        """The sum over all processes; every one has to ask."""
        if self.alone:
            return values
        out = values.detach().clone()
        dist.all_reduce(out, group=self.group)
        return out

    def any(self, flag: bool) -> bool:
        """Whether it is so in some process; every one has to ask."""
        return flag if self.alone else bool(self._gathered(int(flag), dist.ReduceOp.MAX))

    def broadcast(self, flag: bool) -> bool:
        """What the first process says; every one has to ask. The others wait for it."""
        return (
            flag
            if self.alone
            else bool(self._gathered(int(flag and self.is_main), dist.ReduceOp.MAX))
        )

    def wait(self) -> None:
        """Until all are here."""
        self.any(False)

    def _gathered(self, value: int, operation: Any) -> int:
        row = torch.tensor([value])
        dist.all_reduce(row, operation, group=self._waiting)
        return int(row)

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """What is done inside is done by the first process, then by the first of each
        host, then by all others: a file that is made there (an index, a downloaded
        network, a cache) is made once a disk. An error ends the process, and so the
        others.
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
        """Every process takes the first one's parameters and buffers."""
        if self.alone:
            return
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, 0, group=self.group)


_team = Team(Place())


def current() -> Team:
    """The team of this process; a team of one unless `join` was called."""
    return _team


def join(place: Place) -> Team:
    """Meets the other processes; once they are met, only gives their team. On GPUs by
    NCCL, else by gloo.

    Raises:
        InputError: a host has more processes than GPUs, or the others are not there.
    """
    global _team
    if place.world == 1 or not _team.alone:
        return _team
    device, backend = torch.device("cpu"), "gloo"
    if torch.cuda.is_available():
        if torch.cuda.device_count() < place.local_world:
            raise InputError(
                f"{place.local_world} processes on a host where each sees "
                f"{torch.cuda.device_count()} GPUs: start one a GPU, and let each "
                "see all of its host (SLURM: --gpus-per-node, not --gpus-per-task); or "
                "CUDA_VISIBLE_DEVICES= to train on the CPU"
            )
        device, backend = torch.device("cuda", place.local_rank), "nccl"
        torch.cuda.set_device(device)
    _set_address(place)
    try:
        dist.init_process_group(
            backend, rank=place.rank, world_size=place.world, timeout=STEP_TIMEOUT
        )
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"process {place.rank} of {place.world} does not find the others: "
            f"{_first_line(error)}; all have to run, and reach "
            f"{os.environ['MASTER_ADDR']}, port {os.environ['MASTER_PORT']}"
        ) from error
    _team = Team(place, device)
    return _team


def leave() -> None:
    """Takes leave of the others, at the end of a training that went well."""
    global _team
    if not _team.alone:
        dist.destroy_process_group()
        _team = Team(Place())


def _set_address(place: Place) -> None:
    """Where the processes meet; torchrun has set it."""
    if place.by == "slurm":
        from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

        environment = SLURMEnvironment(auto_requeue=False)
        os.environ["MASTER_ADDR"] = environment.main_address
        os.environ["MASTER_PORT"] = str(environment.main_port)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def another_ended(error: BaseException) -> str | None:
    """What to tell of an error that means that another process has gone; None for any
    other error.
    """
    text = _first_line(error)
    lost = isinstance(error, dist.DistError) or any(
        word in text.lower() for word in ("gloo", "nccl", "connection")
    )
    if _team.alone or not lost:
        return None
    return (
        f"another of the {_team.place.world} processes has ended, so this one cannot go on ({text})"
    )


# What a model asks within a step.
def in_step() -> bool:
    """Whether a step is being taken together with other processes."""
    return _team.normaliser is not None


def total(count: float) -> float:
    """The sum of a number over all processes of a step."""
    if not in_step():
        return count
    return float(_team.summed(torch.tensor(count, dtype=torch.float64, device=_team.device)))


def mean_scale(count: Tensor | float) -> Tensor | float:
    """What the mean over `count` things of this process has to be multiplied with, so
    that the mean over the processes, which DDP takes of gradients, is the mean over all
    things of all processes: count · processes / sum of the counts.

    1 outside of a step. With `normaliser: rank` 1 as well: each process has the mean
    over its own things.
    """
    if not in_step() or _team.normaliser == "rank":
        return 1.0
    own = torch.as_tensor(count, dtype=torch.float64, device=_team.device).detach()
    factor = own * _team.place.world / _team.summed(own).clamp_min(1e-6)
    return factor.float()


def largest(values: Sequence[int]) -> list[int]:
    """The largest of each number among all processes of a step."""
    if not in_step():
        return list(values)
    row = torch.tensor(values, dtype=torch.int64, device=_team.device)
    dist.all_reduce(row, dist.ReduceOp.MAX, group=_team.group)
    return [int(value) for value in row.tolist()]
