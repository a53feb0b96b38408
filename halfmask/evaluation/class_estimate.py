"""The mean IoU to expect on classes that were not measured, from some that were, with an interval."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

REPLICATES = 2000


def class_estimate(ious: ArrayLike, classes: ArrayLike, images: ArrayLike, seed: int = 0) -> dict[str, float]:
    """Mean IoU over masks with a 95 % interval, by a bootstrap over classes and images at once.

    Classes are drawn anew and so are images; a mask counts as often as its class times as often as its image (the pigeonhole
    bootstrap). Masks of one class, or of one photograph, are alike: an interval over masks alone would be too narrow.

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
    """float64 [REPLICATES, n]: how often each mask's group is drawn when groups are drawn with replacement."""
    names, place = np.unique(ids, return_inverse=True)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=REPLICATES)
    return drawn[:, place].astype(np.float64)
