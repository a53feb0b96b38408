"""Joins the processes that torchrun, srun or `launch` started, and leaves them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from torch import distributed as dist

from halfmask import distributed
from halfmask.distributed import STEP_TIMEOUT, Launcher, ProcessPlace, Team
from halfmask.errors import InputError, ProcessFailed

logger = logging.getLogger("halfmask")

SPECIAL_STEPS = 0xFFFFFFF0
"""SLURM numbers batch scripts and interactive shells from here on. srun did not start
them.
"""


def place_of(environment: Mapping[str, str]) -> ProcessPlace:
    """Reads the variables of torchrun (which `launch` sets too) or srun.

    Lightning's TorchElasticEnvironment and SLURMEnvironment read most of the same
    variables. They do not say how many processes a host has, and take a batch script
    for one task of many.

    Raises:
        InputError: the hosts have different numbers of processes, or SLURM does not say
            how many a host has.
    """
    launcher: Launcher
    if "TORCHELASTIC_RUN_ID" in environment:
        names, launcher = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"), "torchrun"
        advice = "give torchrun the same --nproc-per-node on every host"
    elif _is_task(environment):
        names = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE")
        launcher = "slurm"
        advice = "ask for processes with --nodes and --ntasks-per-node"
        missing = [name for name in names if name not in environment]
        if missing:
            raise InputError(f"SLURM: {missing[0]} is not set: {advice}")
    else:
        return ProcessPlace()
    rank, world, local_rank, local_world = (int(environment[name]) for name in names)
    if world % local_world:
        raise InputError(f"{world} processes do not divide into hosts of {local_world}: {advice}")
    return ProcessPlace(
        rank=rank, world=world, local_rank=local_rank, local_world=local_world, launcher=launcher
    )


def _is_task(environment: Mapping[str, str]) -> bool:
    """Whether srun started this process together with others.

    A batch script has the variables of its job too, but is alone.
    """
    step = environment.get("SLURM_STEP_ID", "")
    return (
        step.isdigit()
        and int(step) < SPECIAL_STEPS
        and int(environment.get("SLURM_NTASKS", "1")) > 1
    )


def join(place: ProcessPlace) -> Team:
    """Connects to the other processes, by NCCL on GPUs, else by gloo.

    A process that is connected already keeps its team.

    Raises:
        InputError: a host has more processes than GPUs, or the others do not answer.
    """
    if place.world == 1 or not distributed.current().alone:
        return distributed.current()
    device, backend = torch.device("cpu"), "gloo"
    if torch.cuda.is_available():
        if torch.cuda.device_count() < place.local_world:
            raise InputError(
                f"{place.local_world} processes on a host where each sees "
                f"{torch.cuda.device_count()} GPUs: start one process per GPU, and let each "
                "see all GPUs of its host (SLURM: --gpus-per-node, not --gpus-per-task), or "
                "set CUDA_VISIBLE_DEVICES= to train on the CPU"
            )
        device, backend = torch.device("cuda", place.local_rank), "nccl"
        torch.cuda.set_device(device)
    if place.launcher == "slurm":  # torchrun has set the address
        slurm = SLURMEnvironment(auto_requeue=False)
        os.environ["MASTER_ADDR"] = slurm.main_address
        os.environ["MASTER_PORT"] = str(slurm.main_port)
    try:
        dist.init_process_group(
            backend, rank=place.rank, world_size=place.world, timeout=STEP_TIMEOUT
        )
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"process {place.rank} of {place.world} does not find the others: "
            f"{_first_line(error)}; all must run, and reach "
            f"{os.environ['MASTER_ADDR']}, port {os.environ['MASTER_PORT']}"
        ) from error
    distributed.use_team(Team(place, device))
    return distributed.current()


def leave() -> None:
    """Disconnects from the other processes, at the end of a successful training."""
    if not distributed.current().alone:
        dist.destroy_process_group()
        distributed.use_team(Team(ProcessPlace()))


@contextmanager
def joined(place: ProcessPlace, resume_command: str) -> Iterator[Team]:
    """Runs the block as a member of the team; only the main process logs.

    Raises:
        InputError: the processes do not find each other, or another one has ended.
        ProcessFailed: another one has ended, and the main process reports it.
    """
    was_alone = distributed.current().alone
    team = join(place)
    level = logger.level
    if not team.is_main:
        logger.setLevel(logging.WARNING)
    try:
        yield team
    except RuntimeError as error:
        ended = another_ended(error)
        if ended is None:
            raise
        if not team.is_main:
            raise ProcessFailed(ended, 2) from error
        raise InputError(f"{ended}; resume from the last save with: {resume_command}") from error
    finally:
        logger.setLevel(level)
    if was_alone:
        leave()


def another_ended(error: BaseException) -> str | None:
    """Returns a message if the error means that another process has ended, else None."""
    text, team = _first_line(error), distributed.current()
    lost = isinstance(error, dist.DistError) or any(
        word in text.lower() for word in ("gloo", "nccl", "connection")
    )
    if team.alone or not lost:
        return None
    return f"another of the {team.place.world} processes has ended, so this one stops ({text})"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
