"""Boxes that are off as a detector's are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from halfmask.models.box_segmenter.box_noise import (
    LEAST_IOU,
    LEVELS,
    OUTWARD,
    Jitter,
    between,
    detector_boxes,
)

MEASURED = Path(__file__).parents[2] / "benchmarks" / "results" / "detector_boxes.json"


def test_the_table_is_the_measured_one() -> None:
    corners = json.loads(MEASURED.read_text(encoding="utf-8"))["corners"]
    for size, values in OUTWARD.items():
        measured = corners[size]["outward"]["any side"]
        assert [float(level) / 100 for level in measured] == pytest.approx(LEVELS)
        assert list(measured.values()) == pytest.approx(values, abs=1e-4)


def test_quantiles_are_interpolated_as_numpy_does() -> None:
    levels, shares = torch.tensor(LEVELS), torch.rand(3, 50)
    values = torch.tensor([OUTWARD[name] for name in "SML"])
    found = between(levels, values, shares)
    for row in range(3):
        wanted = np.interp(shares[row].numpy(), LEVELS, values[row].numpy())
        np.testing.assert_allclose(found[row].numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize(("side", "size"), [(20.0, "S"), (60.0, "M"), (200.0, "L")])
def test_sides_err_as_measured(side: float, size: str) -> None:
    torch.manual_seed(0)
    box = torch.tensor([[100.0, 100.0, 100 + side, 100 + side / 1.2]])
    moved = detector_boxes(box.repeat(1500, 1))
    sides = (box[:, 2:] - box[:, :2]).repeat(1, 2)
    outward = (moved - box) / sides * torch.tensor([-1.0, -1, 1, 1])
    values = dict(zip(LEVELS, OUTWARD[size], strict=True))
    for column in range(4):
        # The draws that are too far off are left out, so the tails are a little thinner.
        for level in (0.25, 0.5, 0.75):
            found = float(outward[:, column].quantile(level))
            assert found == pytest.approx(values[level], abs=0.025)
    low = torch.maximum(moved[:, :2], box[:, :2])
    high = torch.minimum(moved[:, 2:], box[:, 2:])
    common = (high - low).clamp_min(0).prod(1)
    union = (moved[:, 2:] - moved[:, :2]).prod(1) + sides[0, :2].prod() - common
    assert float((common / union).min()) >= LEAST_IOU - 1e-6


def test_a_third_of_the_boxes_are_loose() -> None:
    torch.manual_seed(0)
    boxes = torch.tensor([[10.0, 10, 110, 90]]).repeat(900, 1)
    moved, loose = Jitter(detector=True).move_boxes(boxes)
    assert float(loose.float().mean()) == pytest.approx(1 / 3, abs=0.05)
    assert torch.equal(moved[~loose], boxes[~loose])
    assert not torch.equal(moved[loose], boxes[loose])
    assert detector_boxes(boxes[:0]).shape == (0, 4)
