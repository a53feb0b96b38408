"""Keeps a run while it trains: logs, evaluations, resume points, the bar, the stop on Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn

from halfmask import distributed
from halfmask.errors import InputError
from halfmask.training.loop.interrupts import Interrupted, Interrupts
from halfmask.training.loop.records import Records
from halfmask.training.loop.resume import (
    not_finite,
    random_state,
    restore_random_state,
    write_resume_point,
)
from halfmask.training.loop.stage import StageModule

Evaluate = Callable[[nn.Module], Mapping[str, Any]]

RESUME_FILE = "resume.ckpt"
LOG_EVERY = 10
SAVE_SECONDS = 300.0
"""No more than this much work is lost to a crash, however slow the steps are."""


@dataclass
class RunState:
    """How far a run is, over all stages: steps, passes over the training images,
    seconds of training (evaluations aside).
    """

    step: int = 0
    epoch: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """Steps between evaluations (0: only at the end) and between resume points."""

    evaluate: int
    save: int


class RunCallback(pl.Callback):
    """Sees every step of every stage of one run in `folder`."""

    def __init__(
        self,
        folder: Path,
        rhythm: Schedule,
        evaluate: Evaluate | None,
        course: RunState,
        interrupts: Interrupts,
        records: Records,
    ) -> None:
        self.course = course
        self._folder, self._rhythm, self._evaluate = folder, rhythm, evaluate
        self._interrupts = interrupts
        self.records = records
        self._team = distributed.current()
        self._window = _Window()
        self._stage, self._stage_name, self._pass_size = 0, "", 1
        self._random: dict[str, Any] | None = None
        self._saved = time.monotonic()

    @property
    def resume_file(self) -> Path:
        return self._folder / RESUME_FILE

    def interrupted(self) -> bool:
        """Whether a signal came, to whichever process; every one has to ask."""
        return self._team.any(self._interrupts.received is not None)

    def enter_stage(self, index: int, name: str, pass_size: int) -> None:
        """Before each stage; `pass_size` images (or regions) are one epoch of it."""
        self._stage, self._stage_name, self._pass_size = index, name, pass_size

    # Lightning's hooks, in the order of a run.
    def on_load_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        self._random = checkpoint["halfmask"]["random"]

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        self._interrupts.install()  # Lightning has just put its own handler in front

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        self._interrupts.install()
        self.records.start(self._stage_name, trainer.max_steps, "step", trainer.global_step)
        if (
            self._random is not None
        ):  # resumed: an evaluation may be due that the interrupted run did not finish
            if self._team.is_main:  # it is the first process's
                restore_random_state(self._random)
            self._random = None
            self._evaluate_between_steps(module, self.interrupted())
        self._window = _Window()
        if self.interrupted():
            trainer.should_stop = True

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.course.step += 1
        end = self._end_of_step(module, batch)
        self.course.epoch += end.images / self._pass_size
        self.course.seconds += self._window.add(end.losses, end.images)
        done = trainer.global_step
        if self.course.step % LOG_EVERY == 0 or done == trainer.max_steps:
            self._log(trainer, done)
        if done == trainer.max_steps:
            return  # the boundary's point and evaluation follow
        if end.interrupted or self._due or end.late or self.course.step % self._rhythm.save == 0:
            self._save(trainer, module)  # before an evaluation too: it takes long, and may fail
        self._evaluate_between_steps(module, end.interrupted)
        # A process alone asks itself at no cost; the others need to only where an
        # evaluation took its time.
        if end.interrupted or ((self._team.alone or self._due) and self.interrupted()):
            trainer.should_stop = True
        self._window.restart()

    def _end_of_step(self, module: StageModule, batch: Any) -> _Step:
        """What this step was, over all processes, and whether it is to be the last."""
        late = self._team.is_main and time.monotonic() - self._saved > SAVE_SECONDS
        interrupted = self._interrupts.received is not None
        if self._team.alone:
            return _Step(module.losses, len(batch), interrupted, late)
        values = [loss.double() for loss in module.losses.values()]
        flags = values[0].new_tensor([len(batch), interrupted, late])
        *means, images, stop, save = self._team.summed(torch.cat([torch.stack(values), flags]))
        losses = {
            name: mean / self._team.place.world
            for name, mean in zip(module.losses, means, strict=True)
        }
        return _Step(losses, int(images), bool(stop), bool(save))

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self.records.stop()

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        self.records.stop()

    def on_save_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["halfmask"] = self._position(self._stage)

    # Between the stages.
    def save_boundary(self, model: nn.Module, next_stage: int) -> None:
        """The resume point between two stages: weights alone."""
        self._check_weights(model)
        if self._team.is_main:
            write_resume_point(
                self.resume_file,
                {"halfmask": self._position(next_stage), "model": model.state_dict()},
            )
        self._team.wait()

    def evaluate_now(self, model: nn.Module) -> None:
        """Adds an evaluation of these weights, unless this step has one. Training's
        random numbers stay as they are. The first process evaluates, the others wait.

        Raises:
            Interrupted: Ctrl-C; nothing is added.
        """
        if self._evaluate is None:
            return
        stopped = False
        if self._team.is_main and not self.records.evaluated(self.course.step):
            try:
                self._measure(self._evaluate, model)
            except Interrupted:
                stopped = True
        if self._team.broadcast(stopped):
            raise Interrupted

    def _measure(self, evaluate: Evaluate, model: nn.Module) -> None:
        self.records.note(f"evaluating the weights of step {self.course.step}")
        devices = range(torch.cuda.device_count())
        with self._interrupts.throwaway(), torch.random.fork_rng(devices), torch.no_grad():
            blocks = evaluate(model)
        position = {
            "step": self.course.step,
            "epoch": round(self.course.epoch, 3),
            "seconds": round(self.course.seconds, 3),
        }
        self.records.evaluation(position, blocks)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Around work outside of the steps that counts as training and is thrown away
        on Ctrl-C (Interrupted).
        """
        begin = time.perf_counter()
        with self._interrupts.throwaway():
            yield
        self.course.seconds += time.perf_counter() - begin

    def evaluate_if_due(self, model: nn.Module) -> None:
        """The same on the recipe's rhythm; Ctrl-C only leaves its note: the evaluation
        is made up for when the run is resumed.
        """
        if self._due:
            with suppress(Interrupted):
                self.evaluate_now(model)

    @property
    def _due(self) -> bool:
        every, step = self._rhythm.evaluate, self.course.step
        return self._evaluate is not None and every > 0 and step > 0 and step % every == 0

    def _evaluate_between_steps(self, module: StageModule, interrupted: bool) -> None:
        if self._due and not interrupted:
            self.evaluate_if_due(module.best)
            module.train()

    def _position(self, stage: int) -> dict[str, Any]:
        return {"stage": stage, "course": asdict(self.course), "random": random_state()}

    def _save(self, trainer: pl.Trainer, module: StageModule) -> None:
        self._check_weights(module.model, *trainer.optimizers)
        trainer.save_checkpoint(self.resume_file)
        self._saved = time.monotonic()

    def _check_weights(self, model: nn.Module, *optimisers: torch.optim.Optimizer) -> None:
        """What is not finite must not replace the last good resume point."""
        spoiled = not_finite(model, *optimisers)
        if spoiled is not None:
            raise InputError(
                f"after step {self.course.step} {spoiled} are not finite: lower the learning "
                "rate (stages.N.optimiser.lr) or clip "
                "gradients (clip_norm)"
            )

    def _log(self, trainer: pl.Trainer, done: int) -> None:
        losses, rate = self._window.means()
        groups = trainer.optimizers[0].param_groups
        # Of the parts that learn at the stage's own rate, where there are any.
        rates = {
            "lr": max(groups, key=lambda group: group.get("part_factor", 1.0))["lr"],
            "images_per_second": rate,
        }
        position = {
            "step": self.course.step,
            "epoch": round(self.course.epoch, 4),
            "seconds": round(self.course.seconds, 2),
        }
        total = {"loss": sum(losses.values())}
        self.records.log({**position, "stage": self._stage_name}, {**rates, **total, **losses})
        self.records.update(done, rate, losses)


@dataclass(frozen=True)
class _Step:
    """A step of all processes: mean losses, images, whether a signal came, whether the
    last resume point is old.
    """

    losses: Mapping[str, torch.Tensor]
    images: int
    interrupted: bool
    late: bool


@dataclass
class _Window:
    """Means since the last log."""

    losses: list[Mapping[str, torch.Tensor]] = field(default_factory=list)
    images: int = 0
    seconds: float = 0.0
    begin: float = field(default_factory=time.perf_counter)

    def add(self, losses: Mapping[str, torch.Tensor], images: int) -> float:
        """Notes a step; returns its seconds, loading included."""
        seconds = time.perf_counter() - self.begin
        self.losses.append(losses)
        self.images += images
        self.seconds += seconds
        return seconds

    def restart(self) -> None:
        """The next step begins now."""
        self.begin = time.perf_counter()

    def means(self) -> tuple[dict[str, float], float]:
        """Mean of each loss and images a second; empties the window."""
        values = {
            name: torch.stack([step[name].float() for step in self.losses if name in step])
            .mean()
            .item()
            for name in self.losses[-1]
        }
        rate = self.images / max(self.seconds, 1e-9)
        self.losses, self.images, self.seconds = [], 0, 0.0
        return values, rate
