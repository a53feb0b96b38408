"""How far a quality score can be trusted: does it rank masks, does it say their IoU,
does it find the bad ones?
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

BINS = 10
BAD = 0.5
"""A mask with less IoU than this is a bad one."""
WORST = 0.2
"""Share of the masks that a person would look at first."""


def reliability(scores: ArrayLike, ious: ArrayLike) -> dict[str, Any]:
    """All measures of pairs (score, true IoU), one pair a mask, all in [0, 1]; null
    where a value cannot be computed.

    Keys: instances; miou and mean_score; spearman (rank correlation); calibration_error
    (mean |score − IoU| over ten bins of equal count); bad (share of masks with IoU <
    0.5) and bad_found (share of these among the worst-scored fifth); bins, each with
    score, iou, deviation (standard deviation of the IoUs) and instances; coverage, for
    the best-scored 10, 20, … 100 %: share, miou, bad.
    """
    s, y = np.asarray(scores, dtype=np.float64), np.asarray(ious, dtype=np.float64)
    assert s.shape == y.shape, (s.shape, y.shape)
    bins = equal_count_bins(s, y)
    return {
        "instances": len(y),
        "miou": float(y.mean()) if len(y) else None,
        "mean_score": float(s.mean()) if len(y) else None,
        "spearman": spearman(s, y),
        "calibration_error": float(np.mean([abs(b["score"] - b["iou"]) for b in bins]))
        if bins
        else None,
        "bad": float((y < BAD).mean()) if len(y) else None,
        "bad_found": bad_found(s, y),
        "bins": bins,
        "coverage": coverage(s, y),
    }


def spearman(first: ArrayLike, second: ArrayLike) -> float | None:
    """Spearman's rank correlation, ties with their mean rank; None where a side has
    fewer than two different values.
    """
    a, b = _ranks(np.asarray(first, dtype=np.float64)), _ranks(np.asarray(second, dtype=np.float64))
    if len(a) < 2 or a.std() == 0 or b.std() == 0:
        return None
    return float(((a - a.mean()) * (b - b.mean())).mean() / (a.std() * b.std()))


def equal_count_bins(scores: Floats, ious: Floats, bins: int = BINS) -> list[dict[str, Any]]:
    """Masks in order of score, cut into `bins` groups whose sizes differ by one at
    most; fewer where there are fewer masks.
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
    """The part of the bad masks that is among the worst-scored `share` of all; None
    where no mask is bad.
    """
    bad = ious < BAD
    if not bad.any():
        return None
    first = np.argsort(scores, kind="stable")[: round(share * len(scores))]
    return float(bad[first].sum() / bad.sum())


def coverage(scores: Floats, ious: Floats, steps: int = 10) -> list[dict[str, float]]:
    """What is left when only the best-scored part is kept: for each share its mean IoU
    and its share of bad masks.
    """
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
    ious: ArrayLike, classes: ArrayLike, images: ArrayLike, seed: int = 0
) -> dict[str, float]:
    """Mean IoU over masks with a 95 % interval, by a bootstrap over classes and images
    at once.

    Classes are drawn anew and so are images; a mask counts as often as its class times
    as often as its image (the pigeonhole bootstrap). Masks of one class, or of one
    photograph, are alike: an interval over masks alone would be too narrow.

    Args:
        ious: [n] in [0, 1], n ≥ 1.
        classes, images: [n], the ids of each mask's class and image.
        seed: of the draws.
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
    """float64 [REPLICATES, n]: how often each mask's group is drawn when groups are
    drawn with replacement.
    """
    names, place = np.unique(ids, return_inverse=True)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=REPLICATES)
    return drawn[:, place].astype(np.float64)
