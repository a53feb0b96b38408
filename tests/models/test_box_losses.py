"""Losses from boxes alone, against formulas written cell by cell, and LAB against OpenCV."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from halfmask.models.box_segmenter.box_losses import (
    NEIGHBOURS,
    colour_loss,
    colour_similarity,
    projection_loss,
    rgb_to_lab,
)


def box_map(size: int, x0: int, y0: int, x1: int, y1: int) -> Tensor:
    inside = torch.zeros(1, size, size)
    inside[:, y0:y1, x0:x1] = 1
    return inside


def sure(mask: Tensor) -> Tensor:
    return (mask * 2 - 1) * 20.0


def test_a_mask_that_touches_all_four_sides_and_leaves_no_gap_costs_nothing() -> None:
    inside = box_map(8, 1, 2, 7, 6)
    cross = torch.zeros(1, 8, 8)
    cross[:, 3, 1:7] = 1
    cross[:, 2:6, 4] = 1
    assert projection_loss(sure(cross), inside).item() == pytest.approx(0, abs=1e-6)
    assert projection_loss(sure(inside), inside).item() == pytest.approx(0, abs=1e-6)
    short = cross.clone()
    short[:, 3, 1:3] = 0  # two columns of six are empty
    assert projection_loss(sure(short), inside).item() == pytest.approx(
        1 - 2 * 4 / (4 + 6), abs=1e-5
    )
    assert projection_loss(sure(torch.zeros(1, 8, 8)), inside).item() == pytest.approx(2, abs=1e-5)


def test_what_lies_outside_the_box_says_nothing_to_the_projection() -> None:
    inside = box_map(8, 2, 2, 6, 6)
    logits = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = projection_loss(logits, inside)
    loss.sum().backward()
    assert logits.grad is not None
    assert (logits.grad * (1 - inside) == 0).all()
    assert (logits.grad * inside != 0).any()


def colour_loss_by_hand(
    logits: np.ndarray, similarity: np.ndarray, inside: np.ndarray, threshold: float
) -> float:
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    size, total, count = len(p), 0.0, 0
    for place, (down, right) in enumerate(NEIGHBOURS):
        for y in range(size - down):
            for x in range(max(0, -right), size - max(0, right)):
                other = (y + down, x + right)
                if not (inside[y, x] > 0 or inside[other] > 0):
                    continue
                if similarity[place, y, x - max(0, -right)] < threshold:
                    continue
                total -= math.log(p[y, x] * p[other] + (1 - p[y, x]) * (1 - p[other]))
                count += 1
    return total / max(count, 1)


@pytest.mark.parametrize("seed", range(5))
def test_colour_loss_is_the_mean_over_like_pairs(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 6, 6, generator=generator) * 3
    lab = torch.rand(2, 3, 6, 6, generator=generator) * 4
    inside = torch.cat([box_map(6, 1, 1, 5, 4), box_map(6, 0, 0, 6, 6)])
    similarity = colour_similarity(lab)
    found = colour_loss(logits, similarity, inside, threshold=0.3)
    for row in range(2):
        expected = colour_loss_by_hand(
            logits[row].numpy(), similarity[row].numpy(), inside[row].numpy(), 0.3
        )
        assert found[row].item() == pytest.approx(expected, rel=1e-5)


def test_similarity_is_of_the_right_pair() -> None:
    lab = torch.zeros(1, 3, 4, 5)
    lab[0, 0, 2, 3] = 10.0
    similarity = colour_similarity(lab)
    for place, (down, right) in enumerate(NEIGHBOURS):
        rows, columns = 4 - down, 5 - abs(right)
        for y in range(rows):
            for x in range(columns):
                one, other = (y, x + max(0, -right)), (y + down, x + max(0, right))
                differ = (one == (2, 3)) != (other == (2, 3))
                wanted = math.exp(-5) if differ else 1.0
                assert similarity[0, place, y, x].item() == pytest.approx(wanted, rel=1e-5)
        assert (similarity[0, place, rows:] == 0).all()
        assert (similarity[0, place, :, columns:] == 0).all()


def test_no_like_pair_is_no_loss_and_a_border_between_unlike_colours_is_free() -> None:
    inside = box_map(6, 0, 0, 6, 6)
    half = torch.zeros(1, 6, 6)
    half[:, :, :3] = 1
    lab = torch.zeros(1, 3, 6, 6)
    lab[:, :, :, 3:] = 100.0
    similarity = colour_similarity(lab)
    assert colour_loss(sure(half), similarity, inside).item() == pytest.approx(0, abs=1e-4)
    other = half.transpose(1, 2).contiguous()
    assert colour_loss(sure(other), similarity, inside).item() > 1
    assert colour_loss(sure(other), torch.zeros_like(similarity), inside).item() == 0


def test_a_sure_and_wrong_map_has_finite_gradients() -> None:
    logits = (
        torch.randn(1, 6, 6, generator=torch.Generator().manual_seed(1)) * 200
    ).requires_grad_()
    inside = box_map(6, 1, 1, 5, 5)
    (
        colour_loss(logits, torch.ones(1, 4, 6, 6), inside) + projection_loss(logits, inside)
    ).sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_lab_is_opencvs() -> None:
    cv2 = pytest.importorskip("cv2")
    rgb = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    rgb[0, :, 0, 0], rgb[0, :, 0, 1] = 0.0, 1.0
    expected = cv2.cvtColor(rgb[0].permute(1, 2, 0).contiguous().numpy(), cv2.COLOR_RGB2LAB)
    found = rgb_to_lab(rgb)[0].permute(1, 2, 0).numpy()
    assert np.abs(found - expected).max() < 0.5  # OpenCV interpolates in tables


def test_no_regions() -> None:
    nothing = torch.zeros(0, 8, 8)
    assert projection_loss(nothing, nothing).shape == (0,)
    assert colour_loss(nothing, torch.zeros(0, 4, 8, 8), nothing).shape == (0,)
