"""One stage of a training as a LightningModule: learning parts, losses, optimiser."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from halfmask import distributed
from halfmask.errors import InputError
from halfmask.recipes.recipe import Recipe, Stage
from halfmask.training.loop.optim import build_optimiser, choose_parts, rate_factors

Optimisation = Callable[[Iterable[tuple[str, nn.Parameter]]], tuple[torch.optim.Optimizer, Any]]


class StageBatch(Protocol):
    """Input of a step: images with targets, or cached regions."""

    def to(self, device: torch.device) -> StageBatch: ...
    def losses(self, model: Any) -> dict[str, Tensor]:
        """Returns named losses, which the step sums."""

    def __len__(self) -> int:
        """Returns the number of images or regions."""

    def image_ids(self) -> list[int]: ...


class StageModule(pl.LightningModule):
    """Trains some parts of a model and keeps the others frozen.

    Args:
        model: a SegmentationModel.
        frozen: parts that do not learn. They stay in eval mode, so that no BatchNorm
            drifts.
        learning: name → parameter that learns; all others need no gradient.
        optimisation: builds optimiser and schedule from the learning parameters.
        ema: decay of the moving average of the weights, or None.
        normaliser: whether several processes average losses over all items or each over
            its own (`distributed.mean_scale`).
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        frozen: list[nn.Module],
        learning: Mapping[str, nn.Parameter],
        optimisation: Optimisation,
        ema: float | None,
        normaliser: distributed.Normaliser,
    ) -> None:
        super().__init__()
        self.model = model
        self._frozen = frozen  # a plain list: the model owns the modules
        self._learning = dict(learning)
        self._optimisation = optimisation
        self._normaliser: distributed.Normaliser = normaliser
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in self._learning)
        self.average = None if ema is None else average_of(model, ema)
        self.losses: dict[str, Tensor] = {}
        distillation = getattr(getattr(model, "sampler", None), "distillation", None)
        if distillation is not None and distillation.follows:
            distillation.teacher = self.best
        self.train()

    def train(self, mode: bool = True) -> StageModule:
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self

    @property
    def best(self) -> nn.Module:
        """The model to evaluate and save: the average, if there is one."""
        return self.model if self.average is None else self.average.module

    def configure_optimizers(self) -> Any:
        optimiser, schedule = self._optimisation(self._learning.items())
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def transfer_batch_to_device(
        self, batch: StageBatch, device: torch.device, dataloader_idx: int
    ) -> StageBatch:
        return batch.to(device)

    def training_step(self, batch: StageBatch, batch_idx: int) -> Tensor:
        with distributed.current().step(self._normaliser):
            losses = batch.losses(self.model)
        total = torch.stack([loss.float() for loss in losses.values()]).sum()
        self.losses = {name: loss.detach() for name, loss in losses.items()}
        if not math.isfinite(total.item()):
            raise InputError(self._not_finite(batch))
        return total

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.average is not None:
            self.average.update_parameters(self.model)

    def _not_finite(self, batch: StageBatch) -> str:
        values = ", ".join(f"{name} {value.item():g}" for name, value in self.losses.items())
        ids = ", ".join(map(str, batch.image_ids()))
        return (
            f"the loss is not finite ({values}) on the images with ids {ids}: check their "
            "boxes and masks (`halfmask doctor`), lower the learning rate "
            "(stages.N.optimiser.lr) or clip gradients (clip_norm)"
        )


def build_stage(
    model: nn.Module, recipe: Recipe, stage: Stage, *, learnable: set[str], ema: float | None = None
) -> StageModule:
    """Returns a stage of the recipe, ready to train `model`.

    Args:
        learnable: see `built_to_learn`.
        ema: decay of the moving average, or None.
    Raises:
        InputError: see `choose_parts` and `rate_factors`.
    """
    frozen, learning = choose_parts(model, stage, learnable)
    optimisation = partial(
        build_optimiser,
        settings=stage.optimiser,
        steps=stage.steps,
        factors=rate_factors(model, stage),
    )
    return StageModule(
        model,
        frozen=frozen,
        learning=learning,
        optimisation=optimisation,
        ema=ema,
        normaliser=recipe.normaliser,
    )


@contextmanager
def crops_of(model: Any, size: int | None) -> Iterator[None]:
    """Lets a box segmenter cut crops of a stage's own side; None: of its usual one."""
    if size is None:
        yield
        return
    usual, model.reader.size = model.reader.size, size
    try:
        yield
    finally:
        model.reader.size = usual


def average_of(model: nn.Module, decay: float) -> AveragedModel:
    """Returns a moving average of the model's weights and buffers.

    Call `update_parameters(model)` after each step, and use `.module`. The decay of
    step n is min(decay, (1 + n) / (10 + n)), so that short runs forget their random
    start. BatchNorm's running statistics are averaged too, to fit the averaged weights.
    """

    @torch.no_grad()
    def update(averages: list[Tensor], values: list[Tensor], count: Any) -> None:
        if not averages[0].is_floating_point():
            torch._foreach_copy_(averages, values)
            return
        n = int(count)
        torch._foreach_lerp_(averages, values, 1 - min(decay, (1 + n) / (10 + n)))

    average = AveragedModel(model, multi_avg_fn=update, use_buffers=True)  # type: ignore[arg-type]
    average.requires_grad_(False)
    return average
