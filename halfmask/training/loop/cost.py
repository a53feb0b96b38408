"""Measures the cost of a stage with two of its steps."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass, fields, replace
from itertools import islice
from typing import Any

import torch
from torch import nn

from halfmask.errors import InputError
from halfmask.recipes.recipe import Recipe, Stage
from halfmask.training.loop.batches import ImageBatch, RegionBatch
from halfmask.training.loop.fit import CACHE_BATCH, Loaders
from halfmask.training.loop.stage import StageBatch, build_stage, crops_of
from halfmask.training.loop.trainer import precision_on

CPU_IMAGES = 2
"""Images on a CPU, which may lack the memory for a whole batch."""


@dataclass(frozen=True)
class Cost:
    """Cost of one step.

    Attributes:
        images: of the batch; regions in a stage that caches features.
        memory: peak in bytes, of the device, or on a CPU of the process.
    """

    images: int
    seconds: float
    memory: int
    losses: dict[str, float]


def measure(
    model: nn.Module, recipe: Recipe, stage: Stage, *, data: Loaders, learnable: set[str]
) -> Cost:
    """Takes two steps of a stage on the model's device, and times the second one.

    The model changes.

    Args:
        data: loaders of this stage (`Loaders.of`).
        learnable: see `built_to_learn`.
    Raises:
        InputError: an unknown part, an image that cannot be read, a loss that is not
            finite.
    """
    device = next(model.parameters()).device
    if recipe.channels_last:
        model.to(memory_format=torch.channels_last)
    module = build_stage(model, recipe, stage, learnable=learnable)
    optimiser = module.configure_optimizers()["optimizer"]
    precision = precision_on(device, recipe.precision)
    mixed = precision != "32"
    dtype = torch.float16 if precision == "16" else torch.bfloat16
    batch, seconds = _batch(model, recipe, stage, data=data), 0.0
    for _ in range(2):
        start = time.perf_counter()
        with torch.autocast(device.type, dtype, enabled=mixed), crops_of(model, stage.crop_size):
            loss = module.training_step(batch, 0)
        optimiser.zero_grad()
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    losses = {name: float(value) for name, value in module.losses.items()}
    return Cost(len(batch), seconds, _peak(device), losses)


def _batch(model: Any, recipe: Recipe, stage: Stage, *, data: Loaders) -> StageBatch:
    device = next(model.parameters()).device
    own = max(1, stage.batch_size // recipe.devices)  # of each process
    size = own if device.type == "cuda" else min(own, CPU_IMAGES)
    if stage.cache_features:
        size = min(size, CACHE_BATCH)  # its batch_size counts regions
    pairs = data.shuffled(size, recipe.seed)
    batches = (ImageBatch(images, targets, stage.loss).to(device) for images, targets in pairs)
    if not stage.cache_features:
        return next(batches)
    found = 0
    for batch in islice(batches, -(-data.images // size)):
        regions = model.mask_regions(batch.images, batch.targets)
        columns = {f.name: getattr(regions, f.name) for f in fields(regions)}
        found = len(next(iter(columns.values())))
        if found:
            break
    if not found:
        raise InputError(
            f"stage {stage.name}: no region of the {data.images} images matches an object with "
            "a mask"
        )
    rows = torch.arange(own, device=device) % found  # repeats regions to fill a batch
    filled = {name: values[rows] for name, values in columns.items()}
    return RegionBatch(replace(regions, **filled), batch.image_ids())


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )
