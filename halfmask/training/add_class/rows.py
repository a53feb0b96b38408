"""Fits the rows of added classes to cached regions.

With the box head fixed, both losses of Faster R-CNN are convex in the rows. So there is
one best answer, which does not depend on a learning rate, a schedule or a draw.

T reads rows too. It has learned from those of the trained classes alone, and says
nothing sensible of rows that look like none of these: on the world's development seed
the rows that find objects best give masks of IoU 0.09. So there are two fits. The rows
that find objects are the likeliest ones. Those that T reads differ from the mean as
trained rows differ from each other, and lie as far from it: T meets nothing new, and
its masks have an IoU of 0.75 there.
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
ITERATIONS = 60
"""Of L-BFGS, at most."""
SPREAD = 0.1
"""Share of variance that the prior of what T reads spreads over all directions."""
HALVINGS = 8
"""Steps of the search for the prior's strength, each on a logarithmic scale."""
WEAKEST, STRONGEST = 1e-7, 1e0
"""Bounds of the strength: a loss is a mean over regions, about 1 at the start."""

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class FittedRows:
    """Rows of n added classes.

    Attributes:
        cls_weight, cls_bias: float32 [n, D] and [n]: find objects.
        box_weight, box_bias: float32 [4n, D] and [4n]: find objects.
        read_cls, read_box: float32 [n, D] and [4n, D]: what the mask head reads.
        loss: of the classes, a mean over the sampled regions.
    """

    cls_weight: Tensor
    cls_bias: Tensor
    box_weight: Tensor
    box_bias: Tensor
    read_cls: Tensor
    read_box: Tensor
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

    objects = torch.where(regions.labels > 0)[0]
    seen, label, wanted = hidden[objects], regions.labels[objects] - 1, regions.offsets[objects]

    def box_reg(weight: Tensor, bias: Tensor) -> Tensor:
        found = (seen @ weight.T + bias).reshape(-1, classes, 4)[torch.arange(len(label)), label]
        return F.smooth_l1_loss(found, wanted, beta=BETA, reduction="sum") / len(label)

    samples = float(len(label))
    cls, boxes = cls_weight[1:], box_weight.reshape(-1, 4 * width)[1:]
    found = _likeliest(classifier, RowPrior(cls), classes, width=width, samples=samples)
    with torch.no_grad():
        loss = float(classifier(*found))
    placed = _likeliest(box_reg, RowPrior(boxes), classes, width=width, samples=samples)
    return FittedRows(
        cls_weight=found[0],
        cls_bias=found[1],
        box_weight=placed[0],
        box_bias=placed[1],
        read_cls=_typical(classifier, RowPrior(cls, SPREAD), classes, width=width),
        read_box=_typical(box_reg, RowPrior(boxes, SPREAD), classes, width=width),
        loss=loss,
    )


class RowPrior:
    """A Gaussian with the mean and the covariance of trained rows.

    Args:
        trained: float [k, P], a row for each trained class.
        spread: the share of their variance that is spread evenly over all directions:
            there are fewer rows than directions. 1: no direction is preferred.
    """

    def __init__(self, trained: Tensor, spread: float = 1.0) -> None:
        trained = trained.detach()
        count, self.size = trained.shape
        self.mean = trained.mean(0)
        _, values, self._axes = torch.linalg.svd(trained - self.mean, full_matrices=False)
        variance = values.square() / count
        floor = max(spread * float(variance.sum()) / self.size, 1e-12)
        self._floor = floor**0.5
        self._scales = ((1 - spread) * variance + floor).sqrt()
        self.typical = float(self.moves_of(trained).square().sum(1).mean())

    def rows(self, moves: Tensor) -> Tensor:
        """Returns rows [n, P] of moves [n, P], which are standard normal."""
        along = (moves @ self._axes.T) * (self._scales - self._floor)
        rows: Tensor = self.mean + self._floor * moves + along @ self._axes
        return rows

    def moves_of(self, rows: Tensor) -> Tensor:
        """Returns the moves [n, P] of rows [n, P]; `rows` reversed."""
        away = rows - self.mean
        along = (away @ self._axes.T) * (1 / self._scales - 1 / self._floor)
        moves: Tensor = away / self._floor + along @ self._axes
        return moves


def _likeliest(
    loss: Loss, prior: RowPrior, classes: int, *, width: int, samples: float
) -> tuple[Tensor, Tensor]:
    """Returns the weights [m, D] and biases [m] of the greatest posterior density.

    Args:
        loss: of weights and biases, a mean; m is a multiple of n.
        prior: of rows [P], P a multiple of D.
        classes: n.
        samples: the number of regions of objects, which weigh against the prior.
    """
    moves = torch.zeros((classes, prior.size), requires_grad=True)
    bias = torch.zeros(classes * prior.size // width, requires_grad=True)

    def objective() -> Tensor:
        weights = prior.rows(moves).reshape(-1, width)
        return loss(weights, bias) + moves.square().sum() / (2 * samples)

    _minimise(objective, [moves, bias])
    return prior.rows(moves.detach()).reshape(-1, width), bias.detach()


def _typical(loss: Loss, prior: RowPrior, classes: int, *, width: int) -> Tensor:
    """Returns the best weights [m, D] that are as far from the mean as trained ones.

    The prior's strength for that is found by halving an interval. Biases stay 0, as
    trained ones nearly do: else they would take over what the trained rows say of how
    frequent an object is. Arguments as for `_likeliest`.
    """
    moves = torch.zeros((classes, prior.size), requires_grad=True)
    none = torch.zeros(classes * prior.size // width)
    low, high = math.log(WEAKEST), math.log(STRONGEST)
    for _ in range(HALVINGS):
        strength = math.exp((low + high) / 2)

        def objective(strength: float = strength) -> Tensor:
            weights = prior.rows(moves).reshape(-1, width)
            return loss(weights, none) + strength / 2 * moves.square().sum()

        _minimise(objective, [moves])
        far = float(moves.detach().square().sum(1).mean()) > prior.typical
        low, high = ((low + high) / 2, high) if far else (low, (low + high) / 2)
    return prior.rows(moves.detach()).reshape(-1, width)


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
