"""Trains a recipe's stages one after another; can stop and resume at any step."""

from __future__ import annotations

import logging
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from halfmask import distributed
from halfmask.errors import InputError
from halfmask.progress import Progress
from halfmask.recipes.recipe import Recipe, Stage
from halfmask.structures import Target
from halfmask.training.loop.batches import ImageBatch, Loader, Stream
from halfmask.training.loop.callback import RESUME_FILE, Evaluate, RunCallback, RunState, Schedule
from halfmask.training.loop.feature_cache import FeatureCache, RegionLoader, build_cache
from halfmask.training.loop.interrupts import Interrupted, Interrupts
from halfmask.training.loop.layers import shared_norms
from halfmask.training.loop.optim import built_to_learn
from halfmask.training.loop.records import records_of
from halfmask.training.loop.resume import read_resume_point
from halfmask.training.loop.stage import build_stage, crops_of
from halfmask.training.loop.trainer import build_trainer, fast_on

_Images = tuple[list[Tensor], list[Target]]
CACHE_BATCH = 4
RANK_SEED = 1_000_003
"""Distance of the seeds of two processes; larger than that of two stages."""


@dataclass(frozen=True)
class Loaders:
    """Loaders of (images, targets).

    Attributes:
        shuffled: (batch size, seed) → resumable loader, shuffled and augmented. The
            size is that of the batch of all processes; the loader gives this process
            its part.
        in_order: batch size → every training image once, not augmented.
        images: number of images.
        own: stage number → loaders of that stage alone.
    """

    shuffled: Callable[[int, int], Loader]
    in_order: Callable[[int], Iterable[_Images]]
    images: int
    own: Mapping[int, Loaders] = field(default_factory=dict)

    def of(self, stage: int) -> Loaders:
        """Returns the loaders of a stage."""
        return self.own.get(stage, self)


@dataclass(frozen=True)
class Outcome:
    """End of a training: finished, or stopped by a signal and ready to be resumed."""

    finished: bool
    step: int
    steps: int
    seconds: float


def fit(
    model: nn.Module,
    recipe: Recipe,
    data: Loaders,
    *,
    folder: Path,
    evaluate: Evaluate | None = None,
    resume: bool = False,
    device: str | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Trains a model in place.

    Args:
        model: a SegmentationModel; afterwards it holds the weights to keep (the
            average, where a stage asks for one).
        folder: gets logs/, metrics.json and resume.ckpt.
        evaluate: model → blocks for metrics.json, on the recipe's schedule and at the
            end.
        resume: continue from resume.ckpt if the folder has one. On a CPU the weights
            end up bit for bit as without the interruption.
        device: cuda or cpu; None: cuda where there is one. The device of a team of
            processes (`halfmask.distributed`) takes precedence.
        progress: called with the stage's name, steps done and steps in all.
    Raises:
        InputError: the model lacks a part, the loss is not finite, there is no batch,
            or the resume point is damaged.
    """
    team = distributed.current()
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    target = team.device or torch.device(chosen)
    model.to(target)
    team.same_weights(model)
    if recipe.channels_last:
        model.to(memory_format=torch.channels_last)
    position = _restore(model, folder / RESUME_FILE if resume else None)
    interrupts = Interrupts()
    callback = RunCallback(
        folder,
        schedule=Schedule(recipe.evaluate_every, recipe.checkpoint_every),
        evaluate=evaluate,
        state=position.state,
        interrupts=interrupts,
        records=records_of(folder, recipe, resumed_step=position.state.step, progress=progress),
    )
    run = _Run(
        model=model,
        recipe=recipe,
        data=data,
        callback=callback,
        device=target,
        learnable=built_to_learn(model),
    )
    interrupts.install()
    finished = False
    try:
        with _quiet(), shared_norms(model), fast_on(target, recipe, model):
            run.stages(position)
        finished = True
    except Interrupted:
        pass
    finally:
        callback.records.close(finished)
        interrupts.restore()
    steps = sum(stage.steps for stage in recipe.stages)
    return Outcome(finished, callback.state.step, steps, callback.state.seconds)


@dataclass(frozen=True)
class _Position:
    """Start of a run: a stage, or a step within it, whose state Lightning restores."""

    stage: int = 0
    within: bool = False
    state: RunState = field(default_factory=RunState)


def _restore(model: nn.Module, path: Path | None) -> _Position:
    """Loads the weights of a resume point, if there is one.

    The feature cache needs them before Lightning restores the rest.
    """
    if path is None or not path.is_file():
        return _Position()
    point = read_resume_point(path)
    within = "model" not in point
    prefix = "model."
    weights = (
        {k.removeprefix(prefix): t for k, t in point["state_dict"].items() if k.startswith(prefix)}
        if within
        else point["model"]
    )
    model.load_state_dict(weights)
    return _Position(point["halfmask"]["stage"], within, RunState(**point["halfmask"]["course"]))


@dataclass(frozen=True, kw_only=True)
class _Run:
    model: nn.Module
    recipe: Recipe
    data: Loaders
    callback: RunCallback
    device: torch.device
    learnable: set[str]

    def stages(self, position: _Position) -> None:
        """Runs the remaining stages and the last evaluation."""
        if not position.within:  # the interrupted run may owe an evaluation
            self.callback.evaluate_if_due(self.model)
        for index in range(position.stage, len(self.recipe.stages)):
            self._stage(index, within=position.within and index == position.stage)
        self.callback.evaluate_now(self.model.to(self.device))

    def _stage(self, index: int, within: bool) -> None:
        """Runs a stage from its beginning, or from the resume point within it."""
        if self.callback.interrupted():
            raise Interrupted
        stage = self.recipe.stages[index]
        with crops_of(self.model, stage.crop_size):
            self._train(index, stage, within)
        self.callback.save_boundary(self.model, index + 1)
        self.callback.evaluate_if_due(self.model.to(self.device))
        if distributed.current().is_main:
            shutil.rmtree(self._cache_folder(index), ignore_errors=True)

    def _train(self, index: int, stage: Stage, within: bool) -> None:
        seed = self.recipe.seed + 1000 * index
        module = build_stage(
            self.model, self.recipe, stage, learnable=self.learnable, ema=stage.ema
        )
        # Each stage seeds the random numbers, so that only weights cross the boundary.
        pl.seed_everything(seed, verbose=False)
        stream, pass_size = self._stream(index, stage, seed)
        # Draws that do not depend on the image (dropout) differ among processes.
        pl.seed_everything(seed + 1 + RANK_SEED * distributed.current().place.rank, verbose=False)
        self.callback.enter_stage(index, stage.name, pass_size)
        trainer = build_trainer(self.recipe, stage, device=self.device, callback=self.callback)
        trainer.fit(
            module,
            stream,
            ckpt_path=self.callback.resume_file if within else None,
            weights_only=True,
        )
        if trainer.global_step < stage.steps:
            raise Interrupted
        if module.average is not None:
            self.model.load_state_dict(module.average.module.state_dict())

    def _stream(self, index: int, stage: Stage, seed: int) -> tuple[Stream, int]:
        data = self.data.of(index)
        if not stage.cache_features:
            images = data.shuffled(stage.batch_size, seed)
            return Stream(
                images, stage.steps, lambda pair: ImageBatch(pair[0], pair[1], stage.loss)
            ), (data.images)
        if not hasattr(self.model, "mask_regions"):
            raise InputError(
                f"stage {stage.name}: cache_features needs a model with region heads (kind: "
                "mask_rcnn)"
            )
        cache = self._cache(index, stage, data)
        place = distributed.current().place
        loader = RegionLoader(cache, stage.batch_size, seed, rank=place.rank, world=place.world)
        return Stream(loader, stage.steps), len(cache)

    def _cache(self, index: int, stage: Stage, data: Loaders) -> FeatureCache:
        """Pools the stage's regions in the main process; the others read its files.

        Raises:
            Interrupted: a process received a signal.
        """
        members, cache = distributed.current(), None
        if members.is_main:
            with suppress(Interrupted):
                cache = self._pooled(index, stage, data)
        if members.broadcast(cache is None):
            raise Interrupted
        if cache is None:
            with suppress(Interrupted):
                cache = self._pooled(index, stage, data)
        if members.any(cache is None) or cache is None:
            raise Interrupted
        return cache

    def _pooled(self, index: int, stage: Stage, data: Loaders) -> FeatureCache:
        batches = (
            ImageBatch(images, targets, stage.loss)
            for images, targets in data.in_order(CACHE_BATCH)
        )
        records, done = self.callback.records, 0
        records.start(f"{stage.name}: pooling regions", total=data.images, unit="image")
        begin = time.perf_counter()

        def on_batch(images: int) -> None:
            nonlocal done
            done += images
            records.update(done, done / (time.perf_counter() - begin), {})

        with self.callback.working():
            cache = build_cache(
                self.model.to(self.device),
                batches,
                self._cache_folder(index),
                device=self.device,
                on_batch=on_batch,
            )
        records.stop()
        return cache

    def _cache_folder(self, index: int) -> Path:
        return self.callback.resume_file.with_name(f"features-{index}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences Lightning's advice (no validation loop, frozen parts in eval mode)."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        # Of 1×1 convolutions, where both layouts are the same memory.
        warnings.filterwarnings("ignore", message="Grad strides do not match")
        yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
