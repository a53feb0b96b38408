"""The interval knows that masks of one class, and of one photograph, are alike."""

from __future__ import annotations

import numpy as np
import pytest

from halfmask.evaluation.measures.reliability import class_estimate


def width(found: dict[str, float]) -> float:
    return found["high"] - found["low"]


def test_independent_masks_have_the_interval_of_the_mean() -> None:
    rng = np.random.default_rng(0)
    ious = rng.uniform(0.4, 1.0, 400)
    found = class_estimate(ious, np.zeros(400), np.arange(400))
    assert found["miou"] == pytest.approx(ious.mean())
    assert width(found) == pytest.approx(2 * 1.96 * ious.std() / 20, rel=0.1)


@pytest.mark.parametrize("alike", ["classes", "images"])
def test_groups_that_are_alike_widen_it(alike: str) -> None:
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(8), 50)
    ious = (rng.uniform(0.5, 0.9, 8)[groups] + rng.normal(0, 0.02, 400)).clip(0, 1)
    own = np.arange(400)
    grouped = class_estimate(ious, *((groups, own) if alike == "classes" else (own * 0, groups)))
    single = class_estimate(ious, own * 0, own)
    assert width(grouped) > 3 * width(single)
    assert grouped["low"] < ious.mean() < grouped["high"]


def test_one_mask_and_the_same_seed() -> None:
    assert class_estimate([0.7], [1], [5]) == pytest.approx({"miou": 0.7, "low": 0.7, "high": 0.7})
    ious = np.random.default_rng(2).random(60)
    rows = (ious, np.arange(60) % 7, np.arange(60) // 3)
    assert class_estimate(*rows) == class_estimate(*rows)
    assert class_estimate(*rows) != class_estimate(*rows, seed=4)
