"""Fits the rows of added classes to cached regions.

With the box head fixed, both losses of Faster R-CNN are convex in the rows. So there is
one best answer, which does not depend on a learning rate, a schedule or a draw.

T reads the rows. It has learned from the rows of the trained classes alone, and can say
nothing sensible of rows that look like none of these. So the trained rows are the
prior: new ones start at their mean, and may lie as far from it as they do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from halfmask.training.add_class.regions import BoxRegions

BETA = 1 / 9
"""Where smooth L1 turns from squared to absolute; torchvision's."""
ITERATIONS = 100
"""Of L-BFGS, at most."""
HALVINGS = 8
"""Steps of the search for the prior's strength, each on a logarithmic scale."""
WEAKEST, STRONGEST = 1e-7, 1e1
"""Bounds of the strength: a loss is a mean over regions, about 1 at the start."""

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class FittedRows:
    """Rows of n added classes.

    Attributes:
        cls_weight, cls_bias: float32 [n, D] and [n].
        box_weight, box_bias: float32 [4n, D] and [4n].
        loss: of the classes, a mean over the sampled regions.
    """

    cls_weight: Tensor
    cls_bias: Tensor
    box_weight: Tensor
    box_bias: Tensor
    loss: float


def fit_rows(
    regions: BoxRegions, classes: int, *, cls_weight: Tensor, box_weight: Tensor
) -> FittedRows:
    """Fits rows to the regions.

    Args:
        regions: of the data set.
        classes: n.
        cls_weight: float [K, D], the trained rows, background first.
        box_weight: float [4K, D].
    """
    hidden = regions.hidden.float()
    width = hidden.shape[1]

    def classifier(weight: Tensor, bias: Tensor) -> Tensor:
        logits = torch.cat([regions.rest[:, None], hidden @ weight.T + bias], 1)
        losses = F.cross_entropy(logits, regions.labels, reduction="none")
        return (losses * regions.weights).sum() / regions.weights.sum()

    cls, cls_bias = _fit(classifier, cls_weight[1:], classes, width)
    objects = torch.where(regions.labels > 0)[0]
    seen, label, wanted = hidden[objects], regions.labels[objects] - 1, regions.offsets[objects]

    def box_reg(weight: Tensor, bias: Tensor) -> Tensor:
        found = (seen @ weight.T + bias).reshape(-1, classes, 4)[torch.arange(len(label)), label]
        return F.smooth_l1_loss(found, wanted, beta=BETA, reduction="sum") / len(label)

    boxes, box_bias = _fit(box_reg, box_weight.reshape(-1, 4 * width)[1:], classes, width)
    with torch.no_grad():
        loss = float(classifier(cls, cls_bias))
    return FittedRows(
        cls_weight=cls,
        cls_bias=cls_bias,
        box_weight=boxes.reshape(4 * classes, width),
        box_bias=box_bias,
        loss=loss,
    )


def _fit(loss: Loss, trained: Tensor, classes: int, width: int) -> tuple[Tensor, Tensor]:
    """Returns weights [m, D] and biases [m] whose classes are as far from the mean as trained ones.

    A stronger prior keeps them nearer; its strength is found by halving an interval.

    Args:
        loss: of weights [m, D] and biases [m], m a multiple of n.
        trained: float [k, P], the weights of each trained class, P a multiple of D.
        classes: n.
    """
    mean = trained.detach().mean(0)
    far = float((trained.detach() - mean).norm(dim=1).mean())
    moves = torch.zeros((classes, len(mean)), requires_grad=True)
    bias = torch.zeros(classes * len(mean) // width, requires_grad=True)
    low, high = math.log(WEAKEST), math.log(STRONGEST)
    for _ in range(HALVINGS):
        strength = math.exp((low + high) / 2)

        def objective(strength: float = strength) -> Tensor:
            weights = mean + far * moves
            return loss(weights.reshape(-1, width), bias) + strength / 2 * moves.square().sum()

        _minimise(objective, [moves, bias])
        distance = float(moves.detach().norm(dim=1).mean())
        low, high = ((low + high) / 2, high) if distance > 1 else (low, (low + high) / 2)
    return (mean + far * moves.detach()).reshape(-1, width), bias.detach()


def _minimise(objective: Callable[[], Tensor], parameters: list[Tensor]) -> None:
    optimiser = torch.optim.LBFGS(
        parameters,
        max_iter=ITERATIONS,
        tolerance_change=1e-7,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = objective()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(closure)  # type: ignore[no-untyped-call]
