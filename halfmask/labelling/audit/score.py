"""How likely a mask is wrong, from its measures; the weights are a plain table.

A logistic model on transformed measures. It was fitted by `python -m benchmarks audit
--stage fit --seeds 1` on masks that the shipped model has not seen. A part of them was
damaged on purpose (moved, grown, shrunk, exchanged, with holes). The score is the
probability of such damage where one mask in twenty is damaged. That data has no object
twice, so a near-duplicate gets a score of its own: see `wrongness`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from halfmask.coco.doctor.checks import SAME_MASK
from halfmask.labelling.audit.measures import MEASURES
from halfmask.labelling.audit.result import WRONG

Values = NDArray[np.float64]

CLIP = 4.0
"""Standard deviations up to which a feature counts; the fit has no data beyond."""
USUAL_SHARE = 0.05
"""Share of wrong masks that the scores are made for."""
_COLUMN = {name: k for k, name in enumerate(MEASURES)}


def _identity(values: Values) -> Values:
    return values


def _root(values: Values) -> Values:
    return np.asarray(np.sqrt(np.maximum(values, 0)))


def _steep(values: Values) -> Values:
    return np.asarray(np.log1p(20 * np.maximum(values, 0)))


TRANSFORMS: dict[str, tuple[str, Callable[[Values], Values]]] = {
    **{name: (name, _identity) for name in MEASURES},
    "abs_size_ratio": ("size_ratio", np.abs),
    "abs_offset": ("border_offset", np.abs),
    "root_shortfall": ("shortfall", _root),
    "steep_surprise": ("surprise", _steep),
    "root_holes": ("holes", _root),
    "root_box_side": ("box_side", _root),
    "root_shift_gain": ("shift_gain", _root),
    "root_border_gain": ("border_gain", _root),
}
"""Feature of the logistic model → measure and transformation."""

WEIGHTS: dict[str, tuple[float, float, float]] = {
    "iou": (0.7116, 0.2618, 0.619),
    "expected": (0.834, 0.08162, 0.04632),
    "shortfall": (0.1224, 0.2435, -0.6191),
    "boundary": (0.3017, 0.1876, -0.9241),
    "surprise": (0.4071, 2.073, 0.3415),
    "sure_missing": (0.06352, 0.1217, 0.3372),
    "sure_beyond": (0.06095, 0.157, 0.1485),
    "shift_gain": (0.01627, 0.0452, 0.5167),
    "shift": (0.05726, 0.1039, 0.09177),
    "border_gain": (0.02719, 0.05754, 0.3058),
    "border_offset": (0.1578, 1.714, -0.13),
    "size_ratio": (0.1001, 0.9141, -0.307),
    "holes": (0.007851, 0.03282, -0.7358),
    "hole_doubt": (0.006967, 0.02825, 1.319),
    "islands": (0.009818, 0.07287, 0.2745),
    "ragged": (0.01466, 0.06261, -0.1297),
    "box_iou": (0.8795, 0.2682, -2.684),
    "box_side": (0.4507, 2.263, 0.6567),
    "outside": (0.07674, 0.2583, 1.376),
    "other_box": (-0.7242, 0.5144, -0.03916),
    "spill": (0.09657, 0.04965, -0.04346),
    "gap": (0.1608, 0.09526, -0.0009215),
    "edge": (1.515, 0.7429, 0.04345),
    "edge_border": (0.7908, 0.2691, -0.3076),
    "edge_shift": (0.7528, 0.2599, -0.8134),
    "twin": (0.03679, 0.08202, -0.06444),
    "log_side": (6.054, 1.336, 0.2934),
    "abs_size_ratio": (0.3976, 0.8292, 0.05104),
    "abs_offset": (1.079, 1.341, 0.01973),
    "root_shortfall": (0.2466, 0.2739, -0.0006058),
    "steep_surprise": (1.315, 1.678, 0.3275),
    "root_holes": (0.02496, 0.08502, 0.3809),
    "root_box_side": (0.2456, 0.6248, -3.271),
    "root_shift_gain": (0.0747, 0.1034, -0.05709),
    "root_border_gain": (0.09644, 0.1338, 0.174),
}
"""Feature → mean and standard deviation in the fit, and weight."""
BIAS = -2.575
"""The constant, moved from the fit's share of damaged masks to USUAL_SHARE."""


def features_of(measures: NDArray[np.float32]) -> Values:
    """Returns the features of masks, float64 [n, len(TRANSFORMS)]; measures are [n, F]."""
    wide = measures.astype(np.float64)
    return np.stack([change(wide[:, _COLUMN[name]]) for name, change in TRANSFORMS.values()], 1)


def wrongness(measures: NDArray[np.float32]) -> Values:
    """Returns how likely masks are wrong, float64 [n] in [0, 1]; measures are [n, F].

    A mask that repeats another one, as `doctor` finds near-duplicates, has at least
    WRONG: a model agrees with both of them.
    """
    rows = np.array([WEIGHTS[name] for name in TRANSFORMS])
    features = (features_of(measures) - rows[:, 0]) / rows[:, 1]
    logits = np.clip(features, -CLIP, CLIP) @ rows[:, 2] + BIAS
    found: Values = 1 / (1 + np.exp(-logits))
    is_twin = measures[:, _COLUMN["twin"]] > SAME_MASK
    return np.where(is_twin, np.maximum(found, WRONG), found)
