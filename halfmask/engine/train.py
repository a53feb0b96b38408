"""The training of a recipe's stages, one after another, that can be left at any step and taken up again exactly there."""

from __future__ import annotations

import logging
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor, nn

from halfmask.config import Recipe, Stage
from halfmask.engine.batches import ImageBatch
from halfmask.engine.feature_cache import RegionLoader, build_cache
from halfmask.engine.interrupts import Interrupted, Interrupts
from halfmask.engine.keeper import RESUME_FILE, Course, Evaluate, Keeper, Rhythm
from halfmask.engine.module import StageModule
from halfmask.engine.optim import build_optimiser
from halfmask.engine.resume import ResumeFile, read_resume_point
from halfmask.engine.stream import Loader, Stream
from halfmask.engine.trackers import Trackers
from halfmask.errors import InputError
from halfmask.structures import Target

Images = tuple[list[Tensor], list[Target]]
PRECISION: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}
CACHE_BATCH = 4


@dataclass(frozen=True)
class Data:
    """Where batches come from.

    Attributes:
        shuffled: (batch size, seed) → loader of (images, targets), shuffled and augmented, that can be taken up mid-way.
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
    """How a training ended: at which step of how many; not finished means stopped by a signal and ready to be resumed."""

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
        model: a SegmentationModel; afterwards it holds the weights to keep (the average, where a stage asks for one).
        folder: gets logs/, metrics.json and resume.ckpt.
        evaluate: model → blocks for metrics.json, on the recipe's rhythm and at the end.
        resume: go on from resume.ckpt if the folder has one. On a CPU the weights end up bit for bit as without the interruption.
        device: cuda or cpu; None: cuda where there is one.
    Raises:
        InputError: a part that the model does not have, a loss that is not finite, no batch, a damaged resume point.
    """
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model.to(place)
    if recipe.channels_last:
        model.to(memory_format=torch.channels_last)
    position = _restore(model, folder / RESUME_FILE if resume else None)
    interrupts = Interrupts()
    rhythm = Rhythm(recipe.evaluate_every, recipe.checkpoint_every)
    trackers = Trackers(recipe.loggers, folder, recipe.model_dump(mode="json"), position.course.step)
    keeper = Keeper(folder, rhythm, evaluate, position.course, interrupts, trackers)
    run = _Run(model, recipe, data, keeper, place, built_to_learn(model))
    interrupts.install()
    finished = False
    try:
        with _quiet():
            if not position.within:
                keeper.evaluate_if_due(model)  # the interrupted run may not have come to it
            for index in range(position.stage, len(recipe.stages)):
                run.stage(index, within=position.within and index == position.stage)
            keeper.evaluate_now(model.to(place))
            finished = True
    except Interrupted:
        pass
    finally:
        keeper.display.stop()
        trackers.close(finished)
        interrupts.restore()
    return Outcome(finished, keeper.course.step, sum(stage.steps for stage in recipe.stages), keeper.course.seconds)


@dataclass(frozen=True)
class _Position:
    """Where a run begins: a stage, or within it (what the steps need besides weights is Lightning's to restore then)."""

    stage: int = 0
    within: bool = False
    course: Course = field(default_factory=Course)


def _restore(model: nn.Module, path: Path | None) -> _Position:
    """Sets the model to a resume point's weights, if there is one. The feature cache needs them before Lightning restores the rest."""
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
    return _Position(point["halfmask"]["stage"], within, Course(**point["halfmask"]["course"]))


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


@dataclass(frozen=True)
class _Run:
    model: nn.Module
    recipe: Recipe
    data: Data
    keeper: Keeper
    device: torch.device
    learnable: set[str]

    def stage(self, index: int, within: bool) -> None:
        """Runs a stage from its beginning, or from the resume point that lies within it."""
        if self.keeper.interrupted:
            raise Interrupted
        stage = self.recipe.stages[index]
        seed = self.recipe.seed + 1000 * index
        frozen, learning = choose_parts(self.model, stage, self.learnable)
        factors = rate_factors(self.model, stage)
        optimisation = partial(build_optimiser, settings=stage.optimiser, steps=stage.steps, factors=factors)
        module = StageModule(self.model, frozen, learning, optimisation, stage.ema)
        # Each stage has its own beginning of random numbers: nothing but weights crosses the boundary.
        pl.seed_everything(seed, verbose=False)
        stream, pass_size = self._stream(index, stage, seed)
        pl.seed_everything(seed + 1, verbose=False)
        self.keeper.enter_stage(index, stage.name, pass_size)
        trainer = self._trainer(stage)
        trainer.fit(module, stream, ckpt_path=self.keeper.resume_file if within else None, weights_only=True)
        if trainer.global_step < stage.steps:
            raise Interrupted
        if module.average is not None:
            self.model.load_state_dict(module.average.module.state_dict())
        self.keeper.save_boundary(self.model, index + 1)
        self.keeper.evaluate_if_due(self.model.to(self.device))
        shutil.rmtree(self._cache_folder(index), ignore_errors=True)

    def _stream(self, index: int, stage: Stage, seed: int) -> tuple[Stream, int]:
        data = self.data.of(index)
        if not stage.cache_features:
            loader = data.shuffled(stage.batch_size, seed)
            stream = Stream(loader, stage.steps, lambda batch: ImageBatch(batch[0], batch[1], stage.loss))
            return stream, data.images
        if not hasattr(self.model, "mask_regions"):
            raise InputError(f"stage {stage.name}: cache_features needs a model with region heads (kind: mask_rcnn)")
        batches = (ImageBatch(images, targets, stage.loss) for images, targets in data.in_order(CACHE_BATCH))
        display, done = self.keeper.display, 0
        display.start(f"{stage.name}: pooling regions", data.images, "image")
        begin = time.perf_counter()

        def on_batch(images: int) -> None:
            nonlocal done
            done += images
            display.update(done, done / (time.perf_counter() - begin), {})

        with self.keeper.working():
            cache = build_cache(self.model.to(self.device), batches, self._cache_folder(index), self.device, on_batch)
        display.stop()
        return Stream(RegionLoader(cache, stage.batch_size, seed), stage.steps), len(cache)

    def _cache_folder(self, index: int) -> Path:
        return self.keeper.resume_file.with_name(f"features-{index}")

    def _trainer(self, stage: Stage) -> pl.Trainer:
        logs = self.keeper.resume_file.parent / "logs"
        return pl.Trainer(
            accelerator="gpu" if self.device.type == "cuda" else "cpu",
            devices=1,
            precision=PRECISION[self.recipe.precision if self.device.type == "cuda" else "32"],
            max_steps=stage.steps,
            max_epochs=-1,
            gradient_clip_val=stage.optimiser.clip_norm,
            callbacks=[self.keeper],
            logger=False,  # the keeper sends the numbers, over all stages
            plugins=[ResumeFile(), LightningEnvironment()],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=logs,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning advertises and warns of what is meant here (no validation loop, frozen parts in eval mode)."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
