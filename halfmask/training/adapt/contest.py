"""Compares the adapted model with the one that it started from, on held-out masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from halfmask.evaluation.measures.reliability import class_estimate
from halfmask.training.measure import MeasuredMasks

Floats = NDArray[np.float64]

PRIOR_SPREAD, PRIOR_CLASSES = 0.04, 4.0
"""How far a class's mean IoU lies from its mean score before anything is measured: the
standard deviation, and how many measured classes it is worth.
"""


@dataclass(frozen=True, kw_only=True)
class Contest:
    """IoUs of the same held-out masks, float64 [n] each.

    Attributes:
        start: drawn by the starting model.
        adapted: drawn by models that did not learn from them; None if none was trained.
        box, ellipse: the box itself, and the ellipse in it.
        classes, images: ids of each mask.
        unseen: bool [n]: of a class that the adapted model did not learn from at all.
    """

    start: Floats
    adapted: Floats | None
    box: Floats
    ellipse: Floats
    classes: list[int]
    images: list[int]
    unseen: NDArray[np.bool_]

    @property
    def gain(self) -> float:
        """Mean IoU that adapting adds, in [-1, 1]."""
        return self._gain(np.ones(len(self.start), dtype=bool))[0]

    @property
    def doubt(self) -> float:
        """Standard error of `gain`."""
        return self._gain(np.ones(len(self.start), dtype=bool))[1]

    def _gain(self, rows: NDArray[np.bool_]) -> tuple[float, float]:
        """Mean gain of some masks and its standard error, by classes and photographs.

        A quarter of a 95 % interval's width is about one standard error.
        """
        if self.adapted is None or not rows.any():
            return 0.0, 0.0
        gains = (self.adapted - self.start)[rows]
        groups = np.asarray(self.classes)[rows], np.asarray(self.images)[rows]
        found = class_estimate(gains, *groups)
        return float(gains.mean()), (found["high"] - found["low"]) / 4

    @property
    def won(self) -> bool:
        """Whether adapting helps by more than its standard error.

        Classes that the model did not learn from must not lose more than theirs.
        """
        gain, doubt = self.gain, self.doubt
        unseen, unsure = self._gain(self.unseen)
        return gain > max(doubt, 0.0) and unseen >= -unsure

    def means(self) -> dict[str, float | None]:
        """Returns the mean IoU of each column, in [0, 1]."""
        columns = {name: getattr(self, name) for name in ("start", "adapted", "box", "ellipse")}
        return {name: None if c is None else float(c.mean()) for name, c in columns.items()}

    def part(self, rows: NDArray[np.bool_]) -> dict[str, Any] | None:
        """Returns both models' means on some masks, and their number; None without any."""
        if not rows.any():
            return None
        adapted = None if self.adapted is None else float(self.adapted[rows].mean())
        return {
            "start": float(self.start[rows].mean()),
            "adapted": adapted,
            "masks": int(rows.sum()),
        }

    def to_json(self) -> dict[str, Any]:
        """Returns means, gain and its doubt, numbers of masks, and both parts."""
        return {
            **self.means(),
            "unseen_classes": self.part(self.unseen),
            "new_photographs": self.part(~self.unseen),
            "gain": self.gain,
            "doubt": self.doubt,
            "won": self.won,
            "masks": len(self.start),
            "classes": len(set(self.classes)),
            "photographs": len(set(self.images)),
        }


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The mean IoU to expect on objects without masks, with a 95 % interval."""

    miou: float
    low: float
    high: float
    masks: int

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def expected_quality(
    scores: Tensor, classes: list[int], measured: MeasuredMasks | None, *, held_out: Tensor | None
) -> Expected | None:
    """Estimates the mean IoU of masks that have no truth.

    The estimate is the mean of the model's scores. Its interval grows with how far the
    held-out classes' mean IoU lies from their mean score, and with how few classes make
    up the masks: the next class may lie as far off.

    Args:
        scores: float32 [n], of the masks to judge.
        classes: their category ids.
        measured: masks with a truth, of classes that the model did not learn from.
        held_out: float32, scores of `measured` by a fit that has not seen their class.
    """
    if not len(scores):
        return None
    shifts = np.zeros(0)
    if measured is not None and held_out is not None:
        ids = np.asarray(measured.classes)
        off = (measured.ious - held_out).double().numpy()
        shifts = np.array([off[ids == i].mean() for i in np.unique(ids)])
    count = len(shifts)
    squares = PRIOR_CLASSES * PRIOR_SPREAD**2 + float((shifts**2).sum())
    spread = float(np.sqrt(squares / (PRIOR_CLASSES + count)))
    shares = np.unique(np.asarray(classes), return_counts=True)[1] / len(classes)
    own = float((shares**2).sum())  # 1 / the number of classes, if equally many
    sampling = float(scores.double().var(correction=0)) / len(scores)
    error = np.sqrt(spread**2 * (own + 1 / (PRIOR_CLASSES + count)) + sampling)
    reach = student_t(PRIOR_CLASSES + count - 1) * float(error)
    centre = float(scores.double().mean())
    return Expected(
        miou=centre, low=max(0.0, centre - reach), high=min(1.0, centre + reach), masks=len(scores)
    )


def student_t(freedom: float) -> float:
    """Returns the 97.5 % quantile of Student's t distribution, for at least 3 degrees.

    Hill's expansion about the normal quantile; within 0.5 % from 3 degrees on.
    """
    z, v = 1.959964, freedom
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    fourth = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + first / v + second / v**2 + third / v**3 + fourth / v**4
