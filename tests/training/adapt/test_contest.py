"""The numbers that decide whether an adapted model is kept, and what it promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from halfmask.training.adapt.contest import Contest, expected_quality, student_t
from halfmask.training.adapt.section import adaptation_section
from halfmask.training.measure import MeasuredMasks


def contest(start: list[float], adapted: list[float], unseen: bool = False) -> Contest:
    count = len(start)
    return Contest(
        start=np.array(start),
        adapted=np.array(adapted),
        box=np.full(count, 0.5),
        ellipse=np.full(count, 0.6),
        classes=[i % 4 for i in range(count)],
        images=list(range(count)),
        unseen=np.arange(count) < (count // 2 if unseen else 0),
    )


def test_a_clear_gain_wins_and_a_loss_does_not() -> None:
    noise = np.random.default_rng(0).normal(0, 0.03, 80)
    start = 0.7 + noise
    assert contest(list(start), list(start + 0.05 + noise[::-1])).won
    assert not contest(list(start), list(start - 0.05 + noise[::-1])).won
    assert not contest(list(start), list(start)).won


def test_a_gain_within_its_standard_error_does_not_win() -> None:
    swings = np.array([0.3, -0.29] * 20)
    found = contest([0.5] * 40, list(0.5 + swings))
    assert 0 < found.gain < found.doubt
    assert not found.won


def test_unseen_classes_must_not_lose() -> None:
    noise = np.random.default_rng(1).normal(0, 0.02, 80)
    start = 0.7 + noise
    shift = np.where(np.arange(80) < 40, -0.05, 0.15)
    assert contest(list(start), list(start + shift + noise[::-1])).won
    lost = contest(list(start), list(start + shift + noise[::-1]), unseen=True)
    assert lost.gain > lost.doubt
    assert not lost.won
    parts = lost.to_json()
    assert parts["unseen_classes"]["masks"] == parts["new_photographs"]["masks"] == 40
    assert parts["unseen_classes"]["adapted"] < parts["unseen_classes"]["start"]


def test_the_report_names_both_parts(tmp_path: Path) -> None:
    numbers = contest([0.7, 0.8, 0.6, 0.9], [0.8, 0.9, 0.7, 0.9], unseen=True).to_json()
    held = {"by": "classes", "names": ["owl", "cat"], **numbers}
    state = {"held_out": held, "expected": None, "reason": "kept the adapted model"}
    said = " ".join(adaptation_section(tmp_path, state).text)
    assert "They were measured on 4 held-out masks." in said
    assert "2 masks on new photographs: the mean IoU went from 75.0 to 80.0 %" in said
    assert "2 masks of classes without any mask: the mean IoU went from 75.0 to 85.0 %" in said
    assert "owl, cat" in said


def test_the_json_holds_all_four_means() -> None:
    found = contest([0.7, 0.8], [0.8, 0.9]).to_json()
    assert found["start"] == pytest.approx(0.75)
    assert found["adapted"] == pytest.approx(0.85)
    assert found["gain"] == pytest.approx(0.1)
    assert (found["box"], found["ellipse"], found["masks"], found["classes"]) == (0.5, 0.6, 2, 2)


@pytest.mark.parametrize(
    ("freedom", "table"), [(3, 3.182), (4, 2.776), (5, 2.571), (10, 2.228), (30, 2.042)]
)
def test_student_t_is_that_of_the_tables(freedom: float, table: float) -> None:
    assert student_t(freedom) == pytest.approx(table, rel=0.002)


def measured(shifts: list[float], each: int = 20) -> tuple[MeasuredMasks, torch.Tensor]:
    """Masks of a class for each shift of its IoU above its score of 0.8."""
    classes = [k for k in range(len(shifts)) for _ in range(each)]
    scores = torch.full((len(classes),), 0.8)
    ious = scores + torch.tensor([shifts[k] for k in classes])
    count = len(classes)
    masks = MeasuredMasks(
        features=torch.zeros(count, 10),
        ious=ious,
        classes=classes,
        images=list(range(count)),
        annotations=list(range(count)),
    )
    return masks, scores


def width(shifts: list[float], classes: list[int]) -> float:
    masks, scores = measured(shifts)
    found = expected_quality(torch.full((len(classes),), 0.8), classes, masks, held_out=scores)
    assert found is not None
    assert found.miou == pytest.approx(0.8)
    assert 0 <= found.low < 0.8 < found.high <= 1
    return found.high - found.low


def test_the_interval_grows_with_the_differences_between_classes() -> None:
    many = [i % 8 for i in range(80)]
    assert width([0.1, -0.1, 0.1, -0.1], many) > width([0.02, -0.02, 0.01, 0.0], many)
    assert width([0.02, -0.02], [1] * 80) > width([0.02, -0.02], many)  # one class: all its own


def test_without_anything_measured_the_interval_is_wide_but_there() -> None:
    found = expected_quality(torch.full((40,), 0.7), [1, 2] * 20, None, held_out=None)
    assert found is not None
    assert found.high - found.low > 0.15
    assert expected_quality(torch.zeros(0), [], None, held_out=None) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.integers(1, 6))
def test_the_interval_holds_the_mean_and_stays_in_0_to_1(scores: list[float], some: int) -> None:
    classes = [k % some for k in range(len(scores))]
    found = expected_quality(torch.tensor(scores), classes, None, held_out=None)
    assert found is not None
    assert 0 <= found.low <= found.miou + 1e-6 <= found.high + 2e-6 <= 1 + 2e-6


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """Classes whose mean IoU differs from their mean score by a normal draw."""
    rng, hits, trials = np.random.default_rng(3), 0, 300
    for _ in range(trials):
        shifts = rng.normal(0, 0.05, 9)
        masks, scores = measured(list(shifts[:4]), each=15)
        truth = float(np.mean([0.8 + shifts[4 + k % 5] for k in range(50)]))
        classes = [k % 5 for k in range(50)]
        found = expected_quality(torch.full((50,), 0.8), classes, masks, held_out=scores)
        assert found is not None
        hits += found.low <= truth <= found.high
    assert hits / trials > 0.93
