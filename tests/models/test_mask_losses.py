"""Mask losses against formulas written out, and on nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from halfmask.models.box_segmenter.losses import dice_loss
from halfmask.models.mask_rcnn.loss import mask_bce


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 1000))
def test_formulas(regions: int, side: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(regions, side, side, generator=generator) * 3
    targets = torch.rand(regions, side, side, generator=generator)
    x, t = logits.double().numpy(), targets.double().numpy()
    p = 1 / (1 + np.exp(-x))
    assert float(mask_bce(logits, targets)) == pytest.approx(
        float(-(t * np.log(p) + (1 - t) * np.log(1 - p)).mean()), rel=1e-4
    )
    each = 1 - (2 * (p * t).sum((1, 2)) + 1) / (p.sum((1, 2)) + t.sum((1, 2)) + 1)
    assert float(dice_loss(logits, targets).mean()) == pytest.approx(
        float(each.mean()), rel=1e-4, abs=1e-6
    )


@pytest.mark.parametrize("loss", [mask_bce, lambda x, t: dice_loss(x, t).sum()])
def test_no_regions_give_a_zero_that_can_be_differentiated(loss: object) -> None:
    logits = torch.zeros(0, 4, 4, requires_grad=True)
    value = loss(logits, torch.zeros(0, 4, 4))  # type: ignore[operator]
    value.backward()
    assert float(value.detach()) == 0.0
    assert logits.grad is not None


@pytest.mark.parametrize("loss", [mask_bce, lambda x, t: dice_loss(x, t).sum()])
def test_large_logits_stay_finite(loss: object) -> None:
    logits = torch.tensor([[[1e4, -1e4]]], requires_grad=True)
    value = loss(logits, torch.tensor([[[0.0, 1.0]]]))  # type: ignore[operator]
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()  # type: ignore[union-attr,arg-type]
