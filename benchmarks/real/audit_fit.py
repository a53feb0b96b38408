"""The weights of `halfmask audit`'s score: a logistic model, fitted by Newton's method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.result import Options, Result, Row
from halfmask.labelling.audit.score import CLIP, TRANSFORMS, USUAL_SHARE, features_of

SETS = (("coco-more", "train", 49), ("voc-aug", "train", 300), ("facade", "train", 60))
"""Data set, part and photographs: none of them has the shipped model seen."""
RIDGE = 10.0
STEPS = 30
Values = NDArray[np.float64]
Measured = Callable[[str, str, int, int], tuple[NDArray[np.float32], NDArray[np.bool_]]]


def fit_weights(options: Options, *, measured_damage: Measured) -> Result:
    """Fits the weights on damaged masks, and prints them as `score.py` has them."""
    parts = []
    for name, part, photographs in SETS:
        for seed in range(options.seeds):
            parts.append(measured_damage(name, part, photographs, seed))
            options.say(f"{name}, seed {seed}: {len(parts[-1][1])} masks")
    measures = np.concatenate([values for values, _ in parts])
    wrong = np.concatenate([rows for _, rows in parts])
    # Each data set counts alike, whatever its size.
    weight = np.concatenate([np.full(len(rows), 1 / len(rows)) for _, rows in parts])
    mean, spread, weights, bias = logistic(
        features_of(measures), wrong, weight * len(wrong) / len(parts)
    )
    for name, one in zip(TRANSFORMS, zip(mean, spread, weights, strict=True), strict=True):
        options.say(f'    "{name}": ({one[0]:.4g}, {one[1]:.4g}, {one[2]:.4g}),')
    options.say(f"BIAS = {bias:.4g}")
    details: dict[str, Any] = {"mean": mean.tolist(), "spread": spread.tolist()}
    row: Row = {
        "name": "masks in the fit", "peer": None, "peer_value": None, "value": len(wrong), "unit": "masks", "ratio": None, "bar": None, "ok": None,
    }  # fmt: skip
    command = f"python -m benchmarks audit --stage fit --seeds {options.seeds}"
    return Result([row], {}, command, details | {"weights": weights.tolist(), "bias": bias})


def logistic(
    features: Values, wrong: NDArray[np.bool_], weight: Values
) -> tuple[Values, Values, Values, float]:
    """Returns mean and standard deviation of features, weights, and the constant.

    The constant is that of masks of which USUAL_SHARE are wrong.
    """
    mean, spread = features.mean(0), features.std(0) + 1e-6
    scaled = np.clip((features - mean) / spread, -CLIP, CLIP)
    rows = np.concatenate([scaled, np.ones((len(scaled), 1))], 1)
    ridge = np.diag([*[RIDGE] * features.shape[1], 1e-6])
    solution = np.zeros(rows.shape[1])
    for _ in range(STEPS):
        found = 1 / (1 + np.exp(-rows @ solution))
        curve = weight * found * (1 - found) + 1e-9
        slope = rows.T @ (weight * (wrong - found)) - ridge @ solution
        solution = solution + np.linalg.solve((rows * curve[:, None]).T @ rows + ridge, slope)
    share = float((weight * wrong).sum() / weight.sum())
    moved = np.log(USUAL_SHARE / (1 - USUAL_SHARE)) - np.log(share / (1 - share))
    return mean, spread, solution[:-1], float(solution[-1] + moved)
