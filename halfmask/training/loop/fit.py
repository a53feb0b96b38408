"""The training of a recipe's stages, one after another, that can be left at any step
and taken up again exactly there.
"""

from __future__ import annotations

import logging
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from halfmask import distributed
from halfmask.errors import InputError
from halfmask.recipes.recipe import Recipe, Stage
from halfmask.structures import Target
from halfmask.training.loop.batch_norm import shared_norms
from halfmask.training.loop.batches import ImageBatch, Loader, Stream
from halfmask.training.loop.callback import RESUME_FILE, Evaluate, RunCallback, RunState, Schedule
from halfmask.training.loop.feature_cache import FeatureCache, RegionLoader, build_cache
from halfmask.training.loop.interrupts import Interrupted, Interrupts
from halfmask.training.loop.optim import build_optimiser, built_to_learn, choose_parts, rate_factors
from halfmask.training.loop.records import records_of
from halfmask.training.loop.resume import read_resume_point
from halfmask.training.loop.stage import StageModule
from halfmask.training.loop.trainer import build_trainer

Images = tuple[list[Tensor], list[Target]]
CACHE_BATCH = 4
RANK_SEED = 1_000_003
"""Between the seeds of two processes; larger than those between stages."""


@dataclass(frozen=True)
class Data:
    """Where batches come from.

    Attributes:
        shuffled: (batch size, seed) → loader of (images, targets), shuffled and
            augmented, that can be taken up mid-way. The size is that of the global
            batch, of which the loader gives this process's part.
        in_order: batch size → every training image once, as it is.
        images: how many there are.
        own: stage number → where that stage's batches come from instead.
    """

    shuffled: Callable[[int, int], Loader]
    in_order: Callable[[int], Iterable[Images]]
    images: int
    own: Mapping[int, Data] = field(default_factory=dict)

    def of(self, stage: int) -> Data:
        """Where a stage's batches come from."""
        return self.own.get(stage, self)


@dataclass(frozen=True)
class Outcome:
    """How a training ended: at which step of how many; not finished means stopped by a
    signal and ready to be resumed.
    """

    finished: bool
    step: int
    steps: int
    seconds: float


def fit(
    model: nn.Module,
    recipe: Recipe,
    data: Data,
    folder: Path,
    evaluate: Evaluate | None = None,
    resume: bool = False,
    device: str | None = None,
) -> Outcome:
    """Trains a model in place.

    Args:
        model: a SegmentationModel; afterwards it holds the weights to keep (the
            average, where a stage asks for one).
        folder: gets logs/, metrics.json and resume.ckpt.
        evaluate: model → blocks for metrics.json, on the recipe's rhythm and at the
            end.
        resume: go on from resume.ckpt if the folder has one. On a CPU the weights end
            up bit for bit as without the interruption.
        device: cuda or cpu; None: cuda where there is one. Several processes
            (`halfmask.distributed`) have theirs already.
    Raises:
        InputError: a part that the model does not have, a loss that is not finite, no
            batch, a damaged resume point.
    """
    place = distributed.current().device or torch.device(
        device or ("cuda" if torch.cuda.is_available() else "cpu")
    )
    model.to(place)
    distributed.current().same_weights(model)
    if recipe.channels_last:
        model.to(memory_format=torch.channels_last)
    position = _restore(model, folder / RESUME_FILE if resume else None)
    interrupts = Interrupts()
    rhythm = Schedule(recipe.evaluate_every, recipe.checkpoint_every)
    records = records_of(folder, recipe, position.course.step)
    keeper = RunCallback(folder, rhythm, evaluate, position.course, interrupts, records)
    run = _Run(model, recipe, data, keeper, place, built_to_learn(model))
    interrupts.install()
    finished = False
    try:
        with _quiet(), shared_norms(model):
            if not position.within:
                keeper.evaluate_if_due(model)  # the interrupted run may not have come to it
            for index in range(position.stage, len(recipe.stages)):
                run.stage(index, within=position.within and index == position.stage)
            keeper.evaluate_now(model.to(place))
            finished = True
    except Interrupted:
        pass
    finally:
        records.close(finished)
        interrupts.restore()
    return Outcome(
        finished,
        keeper.course.step,
        sum(stage.steps for stage in recipe.stages),
        keeper.course.seconds,
    )


@dataclass(frozen=True)
class _Position:
    """Where a run begins: a stage, or within it (what the steps need besides weights is
    Lightning's to restore then).
    """

    stage: int = 0
    within: bool = False
    course: RunState = field(default_factory=RunState)


def _restore(model: nn.Module, path: Path | None) -> _Position:
    """Sets the model to a resume point's weights, if there is one. The feature cache
    needs them before Lightning restores the rest.
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


@dataclass(frozen=True)
class _Run:
    model: nn.Module
    recipe: Recipe
    data: Data
    keeper: RunCallback
    device: torch.device
    learnable: set[str]

    def stage(self, index: int, within: bool) -> None:
        """Runs a stage from its beginning, or from the resume point that lies within it."""
        if self.keeper.interrupted():
            raise Interrupted
        stage = self.recipe.stages[index]
        seed = self.recipe.seed + 1000 * index
        frozen, learning = choose_parts(self.model, stage, self.learnable)
        factors = rate_factors(self.model, stage)
        optimisation = partial(
            build_optimiser, settings=stage.optimiser, steps=stage.steps, factors=factors
        )
        module = StageModule(
            self.model, frozen, learning, optimisation, stage.ema, self.recipe.normaliser
        )
        # Each stage has its own beginning of random numbers: nothing but weights
        # crosses the boundary.
        pl.seed_everything(seed, verbose=False)
        stream, pass_size = self._stream(index, stage, seed)
        # What is drawn by the process and not by image (dropout) differs among
        # processes.
        pl.seed_everything(seed + 1 + RANK_SEED * distributed.current().place.rank, verbose=False)
        self.keeper.enter_stage(index, stage.name, pass_size)
        trainer = build_trainer(self.recipe, stage, self.device, self.keeper)
        trainer.fit(
            module, stream, ckpt_path=self.keeper.resume_file if within else None, weights_only=True
        )
        if trainer.global_step < stage.steps:
            raise Interrupted
        if module.average is not None:
            self.model.load_state_dict(module.average.module.state_dict())
        self.keeper.save_boundary(self.model, index + 1)
        self.keeper.evaluate_if_due(self.model.to(self.device))
        if distributed.current().is_main:
            shutil.rmtree(self._cache_folder(index), ignore_errors=True)

    def _stream(self, index: int, stage: Stage, seed: int) -> tuple[Stream, int]:
        data = self.data.of(index)
        if not stage.cache_features:
            loader = data.shuffled(stage.batch_size, seed)
            stream = Stream(
                loader, stage.steps, lambda batch: ImageBatch(batch[0], batch[1], stage.loss)
            )
            return stream, data.images
        if not hasattr(self.model, "mask_regions"):
            raise InputError(
                f"stage {stage.name}: cache_features needs a model with region heads (kind: "
                "mask_rcnn)"
            )
        cache = self._cache(index, stage, data)
        place = distributed.current().place
        return Stream(
            RegionLoader(cache, stage.batch_size, seed, place.rank, place.world), stage.steps
        ), len(cache)

    def _cache(self, index: int, stage: Stage, data: Data) -> FeatureCache:
        """The stage's pooled regions. Of several processes the first one makes them,
        the others find them made.

        Raises:
            Interrupted: a signal, to whichever process.
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

    def _pooled(self, index: int, stage: Stage, data: Data) -> FeatureCache:
        batches = (
            ImageBatch(images, targets, stage.loss)
            for images, targets in data.in_order(CACHE_BATCH)
        )
        records, done = self.keeper.records, 0
        records.start(f"{stage.name}: pooling regions", data.images, "image")
        begin = time.perf_counter()

        def on_batch(images: int) -> None:
            nonlocal done
            done += images
            records.update(done, done / (time.perf_counter() - begin), {})

        with self.keeper.working():
            cache = build_cache(
                self.model.to(self.device),
                batches,
                self._cache_folder(index),
                self.device,
                on_batch,
            )
        records.stop()
        return cache

    def _cache_folder(self, index: int) -> Path:
        return self.keeper.resume_file.with_name(f"features-{index}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning advertises and warns of what is meant here (no validation loop, frozen
    parts in eval mode).
    """
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings(
            "ignore", message="Grad strides do not match"
        )  # of 1×1 convolutions: the same memory
        yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
