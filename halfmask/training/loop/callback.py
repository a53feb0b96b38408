"""Lightning callback of a run: logs, evaluations, resume points, stop on Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn

from halfmask import distributed
from halfmask.errors import InputError
from halfmask.training.loop.interrupts import Interrupted, Interrupts
from halfmask.training.loop.records import LossWindow, NullLog
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
"""Time between resume points, however slow the steps are."""


@dataclass
class RunState:
    """Progress of a run over all stages.

    Attributes:
        epoch: passes over the training images.
        seconds: of training, without evaluations.
    """

    step: int = 0
    epoch: float = 0.0
    seconds: float = 0.0

    def rounded(self, epoch: int, seconds: int) -> dict[str, float]:
        """Returns the state with so many digits of epoch and seconds."""
        return {
            "step": self.step,
            "epoch": round(self.epoch, epoch),
            "seconds": round(self.seconds, seconds),
        }


@dataclass(frozen=True)
class Schedule:
    """Steps between evaluations (0: only at the end), and between resume points."""

    evaluate: int
    save: int


class RunCallback(pl.Callback):
    """Handles every step of every stage of one run.

    Args:
        folder: of the run.
        evaluate: returns the blocks of metrics.json for a model.
        state: progress of the run so far.
    """

    def __init__(
        self,
        folder: Path,
        *,
        schedule: Schedule,
        evaluate: Evaluate | None,
        state: RunState,
        interrupts: Interrupts,
        records: NullLog,
    ) -> None:
        self.state = state
        self._folder, self._schedule, self._evaluate = folder, schedule, evaluate
        self._interrupts = interrupts
        self.records = records
        self._team = distributed.current()
        self._window = LossWindow()
        self._stage, self._stage_name, self._pass_size = 0, "", 1
        self._random: dict[str, Any] | None = None
        self._saved = time.monotonic()

    @property
    def resume_file(self) -> Path:
        return self._folder / RESUME_FILE

    def interrupted(self) -> bool:
        """Returns whether any process has received a signal (collective)."""
        return self._team.any(self._interrupts.received is not None)

    def enter_stage(self, index: int, name: str, pass_size: int) -> None:
        """Starts a stage; `pass_size` images (or regions) are one epoch of it."""
        self._stage, self._stage_name, self._pass_size = index, name, pass_size

    # Lightning's hooks, in the order of a run.
    def on_load_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        self._random = checkpoint["halfmask"]["random"]

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        self._interrupts.install()  # Lightning has just replaced the handler

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        self._interrupts.install()
        self.records.start(
            self._stage_name, total=trainer.max_steps, unit="step", done=trainer.global_step
        )
        if self._random is not None:  # resumed; the interrupted run may owe an evaluation
            if self._team.is_main:  # which saved its own state
                restore_random_state(self._random)
            self._random = None
            self._evaluate_between_steps(module, self.interrupted())
        self._window = LossWindow()
        if self.interrupted():
            trainer.should_stop = True

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.state.step += 1
        end = self._end_of_step(module, batch)
        self.state.epoch += end.images / self._pass_size
        self.state.seconds += self._window.add(end.losses, end.images)
        done = trainer.global_step
        if self.state.step % LOG_EVERY == 0 or done == trainer.max_steps:
            self._log(trainer, done)
        if done == trainer.max_steps:
            return  # `save_boundary` and an evaluation follow
        if end.interrupted or self._due or end.late or self.state.step % self._schedule.save == 0:
            self._save(trainer, module)  # before an evaluation, which is slow and may fail
        self._evaluate_between_steps(module, end.interrupted)
        # Several processes ask each other only after an evaluation, to save time.
        if end.interrupted or ((self._team.alone or self._due) and self.interrupted()):
            trainer.should_stop = True
        self._window.restart()

    def _end_of_step(self, module: StageModule, batch: Any) -> _Step:
        """Sums this step over all processes."""
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

    def save_boundary(self, model: nn.Module, next_stage: int) -> None:
        """Writes the resume point between two stages, which has only weights."""
        self._check_weights(model)
        if self._team.is_main:
            write_resume_point(
                self.resume_file,
                {"halfmask": self._position(next_stage), "model": model.state_dict()},
            )
        self._team.wait()

    def evaluate_now(self, model: nn.Module) -> None:
        """Evaluates the weights, unless this step has an evaluation.

        The main process evaluates, the others wait. The random state stays.

        Raises:
            Interrupted: a signal came; there is no evaluation.
        """
        if self._evaluate is None:
            return
        stopped = False
        if self._team.is_main and not self.records.evaluated(self.state.step):
            try:
                self._measure(self._evaluate, model)
            except Interrupted:
                stopped = True
        if self._team.broadcast(stopped):
            raise Interrupted

    def _measure(self, evaluate: Evaluate, model: nn.Module) -> None:
        self.records.note(f"evaluating the weights of step {self.state.step}")
        devices = range(torch.cuda.device_count())
        with self._interrupts.throwaway(), torch.random.fork_rng(devices), torch.no_grad():
            blocks = evaluate(model)
        self.records.evaluation(self.state.rounded(3, 3), blocks)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Times work outside of the steps. A signal raises Interrupted."""
        begin = time.perf_counter()
        with self._interrupts.throwaway():
            yield
        self.state.seconds += time.perf_counter() - begin

    def evaluate_if_due(self, model: nn.Module) -> None:
        """Evaluates if the schedule says so; if interrupted, again on resume."""
        if self._due:
            with suppress(Interrupted):
                self.evaluate_now(model)

    @property
    def _due(self) -> bool:
        every, step = self._schedule.evaluate, self.state.step
        return self._evaluate is not None and every > 0 and step > 0 and step % every == 0

    def _evaluate_between_steps(self, module: StageModule, interrupted: bool) -> None:
        if self._due and not interrupted:
            self.evaluate_if_due(module.best)
            module.train()

    def _position(self, stage: int) -> dict[str, Any]:
        return {"stage": stage, "course": asdict(self.state), "random": random_state()}

    def _save(self, trainer: pl.Trainer, module: StageModule) -> None:
        self._check_weights(module.model, *trainer.optimizers)
        trainer.save_checkpoint(self.resume_file)
        self._saved = time.monotonic()

    def _check_weights(self, model: nn.Module, *optimisers: torch.optim.Optimizer) -> None:
        """Keeps weights that are not finite out of the resume point."""
        spoiled = not_finite(model, *optimisers)
        if spoiled is not None:
            raise InputError(
                f"after step {self.state.step} {spoiled} are not finite: lower the learning "
                "rate (stages.N.optimiser.lr) or clip gradients (clip_norm)"
            )

    def _log(self, trainer: pl.Trainer, done: int) -> None:
        losses, rate = self._window.means()
        groups = trainer.optimizers[0].param_groups
        # The rate of parts without a factor of their own, if there are any.
        rates = {
            "lr": max(groups, key=lambda group: group.get("part_factor", 1.0))["lr"],
            "images_per_second": rate,
        }
        position = {**self.state.rounded(4, 2), "stage": self._stage_name}
        self.records.log(position, {**rates, "loss": sum(losses.values()), **losses})
        self.records.update(done, rate, losses)


@dataclass(frozen=True)
class _Step:
    """A step of all processes.

    Attributes:
        losses: means over the processes.
        late: whether the last resume point is old.
    """

    losses: Mapping[str, torch.Tensor]
    images: int
    interrupted: bool
    late: bool
