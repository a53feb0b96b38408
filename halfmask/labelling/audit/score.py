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
    "iou": (0.7005, 0.26, 0.4479),
    "expected": (0.8122, 0.08075, 0.06788),
    "shortfall": (0.1117, 0.2403, -0.4677),
    "boundary": (0.28, 0.1724, -0.8134),
    "surprise": (0.3094, 1.892, 0.539),
    "sure_missing": (0.05346, 0.1088, 0.1228),
    "sure_beyond": (0.06589, 0.1599, 0.295),
    "shift_gain": (0.01604, 0.04353, 0.4004),
    "shift": (0.05832, 0.1038, 0.05437),
    "border_gain": (0.02861, 0.0565, 0.2076),
    "border_offset": (-0.03053, 1.749, 0.004012),
    "size_ratio": (0.05342, 0.9645, 0.01941),
    "holes": (0.007866, 0.03328, -0.002878),
    "hole_doubt": (0.006982, 0.02948, 0.5367),
    "islands": (0.01085, 0.07667, 0.2953),
    "ragged": (0.01448, 0.05958, -0.2804),
    "box_iou": (0.8789, 0.269, -1.589),
    "box_side": (0.4832, 2.417, 0.137),
    "outside": (0.07633, 0.2579, 0.4291),
    "other_box": (-0.7238, 0.5143, 0.2274),
    "spill": (0.1048, 0.05136, -0.01237),
    "gap": (0.2368, 0.1132, -0.04425),
    "edge": (1.522, 0.7534, 0.1224),
    "edge_border": (0.7905, 0.2693, -0.3663),
    "edge_shift": (0.753, 0.2602, -0.8064),
    "twin": (0.03678, 0.0814, -0.04322),
    "log_side": (6.053, 1.337, 0.2428),
    "abs_size_ratio": (0.4166, 0.8715, -0.03848),
    "abs_offset": (1.135, 1.331, 0.05486),
    "root_shortfall": (0.2359, 0.2729, 0.1092),
    "steep_surprise": (1.278, 1.645, 0.04438),
    "root_holes": (0.02504, 0.08508, 0.4244),
    "root_box_side": (0.2526, 0.6476, -1.071),
    "root_shift_gain": (0.07613, 0.1012, -0.0188),
    "root_border_gain": (0.1037, 0.1337, 0.0196),
}
"""Feature → mean and standard deviation in the fit, and weight."""
BIAS = -2.576
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
