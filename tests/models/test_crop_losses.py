"""The losses of crops: only what lies in the box counts."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from halfmask.models.losses.crop_losses import crop_losses


def test_what_is_predicted_outside_the_box_costs_nothing() -> None:
    logits = torch.randn(2, 8, 8, requires_grad=True)
    inside = torch.zeros(2, 8, 8)
    inside[:, 2:6, 2:6] = 1
    masks = (torch.rand(2, 8, 8) > 0.5).float()
    entropy, dice = crop_losses(logits, masks, inside)
    part = logits.detach()[:, 2:6, 2:6]
    truth = masks[:, 2:6, 2:6]
    assert entropy.item() == pytest.approx(float(F.binary_cross_entropy_with_logits(part, truth)), abs=1e-6)
    probs = part.sigmoid()
    expected = 1 - (2 * (probs * truth).sum((1, 2)) + 1) / (probs.sum((1, 2)) + truth.sum((1, 2)) + 1)
    assert dice.item() == pytest.approx(float(expected.mean()), abs=1e-6)
    (entropy + dice).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad[inside == 0], torch.zeros_like(logits.grad[inside == 0]))
