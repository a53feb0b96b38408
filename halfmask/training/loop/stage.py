"""One stage of a training, as Lightning wants it: which parts learn, which losses,
which optimiser.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from halfmask import distributed
from halfmask.errors import InputError

Optimisation = Callable[[Iterable[tuple[str, nn.Parameter]]], tuple[torch.optim.Optimizer, Any]]


class Batch(Protocol):
    """What a step learns from, on one device: images with targets, or cached regions."""

    def to(self, device: torch.device) -> Batch: ...
    def losses(self, model: Any) -> dict[str, Tensor]:
        """Named losses; the step adds them up."""

    def __len__(self) -> int:
        """Images, or regions."""

    def image_ids(self) -> list[int]: ...


class StageModule(pl.LightningModule):
    """Trains some parts of a model, holds the others still, follows with an average if
    asked to.

    Args:
        model: a SegmentationModel; `parts()` are its names.
        frozen: parts that do not learn: they are in eval mode whatever anyone calls, so
            that no BatchNorm drifts.
        learning: name → parameter that learns; all others are switched off.
        optimisation: makes the optimiser and its schedule of the learning parameters.
        ema: decay of the moving average, or None.
        normaliser: what losses are means of, where several processes train together
            (`distributed.share`).
    """

    def __init__(
        self,
        model: nn.Module,
        frozen: list[nn.Module],
        learning: Mapping[str, nn.Parameter],
        optimisation: Optimisation,
        ema: float | None = None,
        normaliser: distributed.Normaliser = "global",
    ) -> None:
        super().__init__()
        self.model = model
        self._frozen = frozen  # a plain list: the modules are the model's
        self._learning = dict(learning)
        self._optimisation = optimisation
        self._normaliser: distributed.Normaliser = normaliser
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in self._learning)
        self.average = None if ema is None else average_of(model, ema)
        self.losses: dict[str, Tensor] = {}
        self.train()

    def train(self, mode: bool = True) -> StageModule:
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self

    @property
    def best(self) -> nn.Module:
        """The weights to evaluate and save: the average, if there is one."""
        return self.model if self.average is None else self.average.module

    def configure_optimizers(self) -> Any:
        optimiser, schedule = self._optimisation(self._learning.items())
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        return batch.to(device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
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

    def _not_finite(self, batch: Batch) -> str:
        values = ", ".join(f"{name} {value.item():g}" for name, value in self.losses.items())
        ids = ", ".join(map(str, batch.image_ids()))
        return (
            f"the loss is not finite ({values}) on the images with ids {ids}: look at their "
            "boxes and masks (`halfmask doctor`), or lower "
            "the learning rate (stages.N.optimiser.lr) or clip gradients (clip_norm)"
        )


def average_of(model: nn.Module, decay: float) -> AveragedModel:
    """A copy of the model that follows it: call `update_parameters(model)` after each
    step, use `.module`.

    The decay of step n is min(decay, (1 + n) / (10 + n)), so that short runs do not
    keep their random start. BatchNorm's running statistics are averaged as the weights
    are: statistics of today do not fit weights of the last thousand steps.
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
