"""How far a quality score can be trusted.

Does it rank masks, does it predict their IoU, and does it find the bad ones?
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

BINS = 10
BAD = 0.5
"""Masks with a lower IoU count as bad."""
WORST = 0.2
"""Share of the masks that a person reviews first."""


def reliability(scores: ArrayLike, ious: ArrayLike) -> dict[str, Any]:
    """All measures of a score, from one pair (score, true IoU) per mask.

    Keys: instances; miou and mean_score; spearman (rank correlation); calibration_error
    (mean |score − IoU| over ten bins of equal count); bad (share of masks with IoU <
    0.5) and bad_found (share of these among the worst-scored fifth); bins, each with
    score, iou, deviation (standard deviation of the IoUs) and instances; coverage, for
    the best-scored 10, 20, … 100 %: share, miou, bad. A value that cannot be computed
    is null.

    Args:
        scores, ious: [n] in [0, 1].
    """
    s, y = np.asarray(scores, dtype=np.float64), np.asarray(ious, dtype=np.float64)
    assert s.shape == y.shape, (s.shape, y.shape)
    bins, some = equal_count_bins(s, y), len(y) > 0
    errors = [abs(b["score"] - b["iou"]) for b in bins]
    return {
        "instances": len(y),
        "miou": float(y.mean()) if some else None,
        "mean_score": float(s.mean()) if some else None,
        "spearman": spearman(s, y),
        "calibration_error": float(np.mean(errors)) if some else None,
        "bad": float((y < BAD).mean()) if some else None,
        "bad_found": bad_found(s, y),
        "bins": bins,
        "coverage": coverage(s, y),
    }


def spearman(first: ArrayLike, second: ArrayLike) -> float | None:
    """Spearman's rank correlation; None if a side has fewer than two distinct values.

    Ties get their mean rank. Not torchmetrics' function: it adds 1e-6 to the
    denominator, so few masks give a value that is off by up to 4e-6, and it has no
    None.
    """
    a, b = _ranks(np.asarray(first, dtype=np.float64)), _ranks(np.asarray(second, dtype=np.float64))
    if len(a) < 2 or a.std() == 0 or b.std() == 0:
        return None
    return float(((a - a.mean()) * (b - b.mean())).mean() / (a.std() * b.std()))


def equal_count_bins(scores: Floats, ious: Floats, bins: int = BINS) -> list[dict[str, Any]]:
    """Divides masks, ordered by score, into `bins` groups of equal size (± 1).

    Fewer masks than `bins` make a group each.
    """
    order = np.argsort(scores, kind="stable")
    return [
        {
            "score": float(scores[rows].mean()),
            "iou": float(ious[rows].mean()),
            "deviation": float(ious[rows].std()),
            "instances": len(rows),
        }
        for rows in np.array_split(order, bins)
        if len(rows)
    ]


def bad_found(scores: Floats, ious: Floats, share: float = WORST) -> float | None:
    """Share of the bad masks within the worst-scored `share`; None without bad masks."""
    bad = ious < BAD
    if not bad.any():
        return None
    first = np.argsort(scores, kind="stable")[: round(share * len(scores))]
    return float(bad[first].sum() / bad.sum())


def coverage(scores: Floats, ious: Floats, steps: int = 10) -> list[dict[str, float]]:
    """Mean IoU and share of bad masks of the best-scored 1/`steps`, 2/`steps`, … of all."""
    best = ious[np.argsort(-scores, kind="stable")]
    counts = {k / steps: round(k / steps * len(best)) for k in range(1, steps + 1)}
    return [
        {"share": share, "miou": float(best[:n].mean()), "bad": float((best[:n] < BAD).mean())}
        for share, n in counts.items()
        if n
    ]


def _ranks(values: Floats) -> Floats:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    means: Floats = ends - (counts - 1) / 2.0
    return means[place]


REPLICATES = 2000


def class_estimate(
    ious: ArrayLike, classes: ArrayLike, images: ArrayLike, *, seed: int = 0
) -> dict[str, float]:
    """Mean IoU of masks with a 95 % interval, bootstrapped over classes and images.

    Both are drawn with replacement. A mask's weight is the number of draws of its class
    times that of its image (the pigeonhole bootstrap). Masks of one class or one
    photograph are alike, so an interval over masks alone would be too narrow.

    Args:
        ious: [n] in [0, 1], n ≥ 1.
        classes, images: [n], the ids of each mask's class and image.
        seed: Of the random draws.
    Returns:
        miou, low, high.
    """
    y = np.asarray(ious, dtype=np.float64)
    rng = np.random.default_rng(seed)
    weights = _draws(np.asarray(classes), rng) * _draws(np.asarray(images), rng)
    total = weights.sum(1)
    means = (weights @ y)[total > 0] / total[total > 0]
    low, high = np.quantile(means, [0.025, 0.975])
    return {"miou": float(y.mean()), "low": float(low), "high": float(high)}


def _draws(ids: NDArray[np.generic], rng: np.random.Generator) -> NDArray[np.float64]:
    """How often each mask's group is drawn, with replacement: float64 [REPLICATES, n]."""
    names, place = np.unique(ids, return_inverse=True)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=REPLICATES)
    return drawn[:, place].astype(np.float64)
