"""The measures of a quality score, against formulas written out here."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfmask.evaluation.measures.reliability import (
    bad_found,
    coverage,
    equal_count_bins,
    reliability,
    spearman,
)

Pairs = list[tuple[float, float]]
PAIRS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.2, 0.4, 0.45, 0.6, 0.9, 1.0]), st.floats(0, 1)), max_size=40
)


def ranks(values: list[float]) -> list[float]:
    """Mean rank of each value, counted one by one."""
    return [sum(w < v for w in values) + (sum(w == v for w in values) + 1) / 2 for v in values]


def pearson(a: list[float], b: list[float]) -> float | None:
    ma, mb = sum(a) / len(a), sum(b) / len(b)
    aa, bb = sum((x - ma) ** 2 for x in a), sum((y - mb) ** 2 for y in b)
    return (
        sum((x - ma) * (y - mb) for x, y in zip(a, b, strict=True)) / (aa * bb) ** 0.5
        if aa and bb
        else None
    )


@given(PAIRS)
@settings(max_examples=60, deadline=None)
def test_spearman_is_pearson_of_mean_ranks(pairs: Pairs) -> None:
    first, second = [p[0] for p in pairs], [p[1] for p in pairs]
    expected = pearson(ranks(first), ranks(second)) if len(pairs) > 1 else None
    assert spearman(first, second) == (
        None if expected is None else pytest.approx(expected, abs=1e-9)
    )


def test_spearman_by_hand() -> None:
    assert spearman([0.1, 0.2, 0.3], [1, 2, 4]) == pytest.approx(1)
    assert spearman([3, 2, 1], [1, 2, 4]) == pytest.approx(-1)
    assert spearman([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)  # 1 − 6 Σd² / n(n² − 1)
    assert spearman([1, 1, 1], [1, 2, 3]) is None
    assert spearman([1], [1]) is None
    assert spearman([], []) is None


def test_ten_bins_of_equal_count() -> None:
    rng = np.random.default_rng(0)
    scores, ious = rng.random(103), rng.random(103)
    bins = equal_count_bins(scores, ious)
    assert [b["instances"] for b in bins] == [11] * 3 + [10] * 7
    pairs = sorted(zip(scores, ious, strict=True))
    assert bins[0]["score"] == pytest.approx(sum(p[0] for p in pairs[:11]) / 11)
    assert bins[-1]["iou"] == pytest.approx(sum(p[1] for p in pairs[-10:]) / 10)
    expected = sum(abs(b["score"] - b["iou"]) for b in bins) / 10
    assert reliability(scores, ious)["calibration_error"] == pytest.approx(expected)


def test_a_score_that_is_too_high_by_a_tenth_has_that_error() -> None:
    ious = np.linspace(0.1, 0.8, 50)
    found = reliability(ious + 0.1, ious)
    assert found["calibration_error"] == pytest.approx(0.1)
    assert found["spearman"] == pytest.approx(1)
    assert found["mean_score"] - found["miou"] == pytest.approx(0.1)
    assert reliability(ious, ious)["calibration_error"] == pytest.approx(0)


def test_bad_masks_among_the_worst_scored_fifth() -> None:
    ious = np.array([0.1, 0.9, 0.9, 0.9, 0.3, 0.9, 0.9, 0.9, 0.9, 0.9])
    scores = np.array([0.1, 0.2, 0.9, 0.9, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9])
    assert bad_found(scores, ious) == pytest.approx(0.5), "the two worst-scored hold one of two"
    assert bad_found(scores, ious, share=0.3) == pytest.approx(1)
    assert bad_found(scores, ious * 0 + 1) is None


def test_coverage_keeps_the_best_scored() -> None:
    ious = np.array([0.9, 0.1, 0.8, 0.4, 1.0, 0.9, 0.9, 0.9, 0.9, 0.7])
    rows = coverage(ious, ious)
    assert [r["share"] for r in rows] == pytest.approx([k / 10 for k in range(1, 11)])
    assert rows[0] == {"share": 0.1, "miou": 1.0, "bad": 0.0}
    assert rows[-1]["miou"] == pytest.approx(ious.mean())
    assert rows[-1]["bad"] == pytest.approx(0.2)
    assert rows[8]["bad"] == pytest.approx(1 / 9)
    worst = coverage(1 - ious, ious)
    assert worst[0]["miou"] == pytest.approx(0.1)


@given(PAIRS)
@settings(max_examples=40, deadline=None)
def test_any_pairs_give_json(pairs: Pairs) -> None:
    found = reliability([p[0] for p in pairs], [p[1] for p in pairs])
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert sum(b["instances"] for b in found["bins"]) == found["instances"] == len(pairs)
    if not pairs:
        assert found["miou"] is found["calibration_error"] is found["bad"] is None
