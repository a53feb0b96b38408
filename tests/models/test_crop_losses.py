"""The losses of crops: only what lies in the box counts."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from halfmask.models.box_segmenter.losses import boundary, crop_losses


def test_what_is_predicted_outside_the_box_costs_nothing() -> None:
    logits = torch.randn(2, 8, 8, requires_grad=True)
    inside = torch.zeros(2, 8, 8)
    inside[:, 2:6, 2:6] = 1
    masks = (torch.rand(2, 8, 8) > 0.5).float()
    entropy, dice = crop_losses(logits, masks, inside > 0)
    part = logits.detach()[:, 2:6, 2:6]
    truth = masks[:, 2:6, 2:6]
    assert entropy.item() == pytest.approx(
        float(F.binary_cross_entropy_with_logits(part, truth)), abs=1e-6
    )
    probs = part.sigmoid()
    expected = 1 - (2 * (probs * truth).sum((1, 2)) + 1) / (
        probs.sum((1, 2)) + truth.sum((1, 2)) + 1
    )
    assert dice.item() == pytest.approx(float(expected.mean()), abs=1e-6)
    (entropy + dice).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad[inside == 0], torch.zeros_like(logits.grad[inside == 0]))


def test_regions_count_by_their_weight() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 8, 8, generator=generator)
    masks, inside = (
        (torch.rand(3, 8, 8, generator=generator) > 0.5).float(),
        torch.ones(3, 8, 8, dtype=torch.bool),
    )
    alone = [crop_losses(logits[k : k + 1], masks[k : k + 1], inside[k : k + 1]) for k in range(3)]
    weighted = crop_losses(logits, masks, inside, weight=torch.tensor([1.0, 0.5, 0.0]))
    for part in range(2):
        expected = (alone[0][part] + 0.5 * alone[1][part]) / 1.5
        assert weighted[part].item() == pytest.approx(expected.item(), rel=1e-5)
    even = crop_losses(logits, masks, inside, weight=torch.ones(3))
    plain = crop_losses(logits, masks, inside)
    assert [v.item() for v in even] == pytest.approx([v.item() for v in plain], rel=1e-6)
    assert crop_losses(logits, masks, inside, weight=torch.zeros(3))[0].item() == 0


def test_the_border_of_a_square_is_a_ring_of_two_cells() -> None:
    masks = torch.zeros(2, 9, 9)
    masks[0, 3:6, 3:6] = 1
    found = boundary(masks)
    ring = torch.zeros(9, 9)
    ring[2:7, 2:7] = 1
    ring[4, 4] = 0
    assert torch.equal(found[0], ring)
    assert not found[1].any(), "no mask, no border"
    assert not boundary(torch.ones(1, 4, 4)).any(), "the region's edge is none"
    assert boundary(torch.zeros(0, 4, 4)).shape == (0, 4, 4)


def test_the_border_counts_more() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 8, 8, generator=generator)
    masks, counts = torch.zeros(2, 8, 8), torch.ones(2, 8, 8, dtype=torch.bool)
    masks[:, 2:6, 3:7] = 1
    weights = 1 + 4 * boundary(masks)
    expected = F.binary_cross_entropy_with_logits(logits, masks, weights, reduction="none").sum(
        (1, 2)
    ) / weights.sum((1, 2))
    entropy, dice = crop_losses(logits, masks, counts, boundary_weight=4.0)
    assert entropy.item() == pytest.approx(float(expected.mean()), rel=1e-5)
    assert dice.item() == crop_losses(logits, masks, counts)[1].item()
