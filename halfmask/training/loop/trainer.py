"""Builds Lightning's trainer for one stage, for one process or several."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from halfmask import distributed
from halfmask.recipes.recipe import Recipe, Stage
from halfmask.recipes.run import Precision
from halfmask.training.loop.callback import RunCallback
from halfmask.training.loop.layers import depthwise_in_full_precision
from halfmask.training.loop.resume import ResumeFile

M_TRIM_THRESHOLD = -1  # of glibc's malloc.h
KERNELS = 16_384
"""Kernels that oneDNN keeps at most; the user's own limit holds."""
PRECISION: dict[Precision, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def precision_on(device: torch.device, wanted: Precision) -> Precision:
    """Returns the precision of a recipe that a device computes fast; else 32.

    A CPU has bf16 with AMX or AVX512-BF16, and no 16.
    """
    if device.type == "cuda":
        return wanted
    # Older versions of torch do not say what the CPU has.
    has: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    fast = bool(has.get("amx_bf16") or has.get("avx512_bf16"))
    return "bf16" if wanted == "bf16" and fast else "32"


@contextmanager
def fast_on(device: torch.device, recipe: Recipe, model: nn.Module) -> Iterator[None]:
    """Trains a model within the block as its device is fastest at.

    A step of a box segmenter has any number of crops, and each number needs kernels of
    its own. oneDNN keeps 1024, fewer than an encoder needs for two dozen numbers, so it
    would make them anew all the time. It reads the limit at its first convolution. And
    glibc gives a step's memory back to the system, which then clears it for the next.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS))
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    if device.type == "cpu" and precision_on(device, recipe.precision) == "bf16":
        with depthwise_in_full_precision(model):
            yield
    else:
        yield


def build_trainer(
    recipe: Recipe, stage: Stage, *, device: torch.device, callback: RunCallback
) -> pl.Trainer:
    """Returns a trainer for the steps of a stage, with one callback.

    Several processes use DistributedDataParallel. A parameter that no process used in a
    step has no gradient, as with one process, so that weight decay leaves it alone.
    Buffers are not broadcast, because all processes have the same
    (`training.loop.layers`).
    """
    place = distributed.current().place
    strategy = (
        "auto"
        if place.world == 1
        else DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)
    )
    return pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=place.local_world,
        num_nodes=place.hosts,
        strategy=strategy,
        precision=PRECISION[precision_on(device, recipe.precision)],
        max_steps=stage.steps,
        max_epochs=-1,
        gradient_clip_val=stage.optimiser.clip_norm,
        callbacks=[callback],
        logger=False,  # the callback logs, over all stages
        plugins=[ResumeFile(), _environment(place)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=callback.resume_file.parent / "logs",
    )


def _environment(place: distributed.ProcessPlace) -> ClusterEnvironment:
    """Returns the launcher's environment, without requeueing: SIGTERM saves a resume point."""
    if place.world == 1:
        return LightningEnvironment()
    return (
        SLURMEnvironment(auto_requeue=False)
        if place.launcher == "slurm"
        else TorchElasticEnvironment()
    )
