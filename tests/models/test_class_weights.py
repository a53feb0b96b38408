"""Class weights: the box head's rows in the right order, fixed vectors, lengths, and
where gradients stop.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from halfmask.models.class_weights import DetectorWeights, FixedWeights, random_vectors, rescale


def test_rows_of_the_box_head() -> None:
    cls, box = torch.arange(6.0).reshape(3, 2), torch.arange(24.0).reshape(12, 2) + 100
    assert torch.equal(DetectorWeights("cls")(cls, box), cls)
    boxes = DetectorWeights("box")(cls, box)
    for k in range(3):
        assert boxes[k].tolist() == box[4 * k : 4 * k + 4].flatten().tolist()
    assert torch.equal(DetectorWeights("cls+box")(cls, box), torch.cat([cls, boxes], 1))


@pytest.mark.parametrize("norm", [None, 3.0])
def test_stop_gradient_is_one_boolean(norm: float | None) -> None:
    cls, box = torch.randn(3, 2, requires_grad=True), torch.randn(12, 2, requires_grad=True)
    assert not DetectorWeights("cls+box", norm, stop_gradient=True)(cls, box).requires_grad
    DetectorWeights("cls+box", norm, stop_gradient=False)(cls, box)[1, ::3].sum().backward()
    assert cls.grad is not None
    assert box.grad is not None
    assert cls.grad[1].any()
    assert box.grad[4:8].any()
    assert not cls.grad[[0, 2]].any()
    assert not box.grad[[*range(4), *range(8, 12)]].any()


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 50), st.floats(1e-6, 1e6), st.integers(0, 10_000))
def test_rescale(length: float, scale: float, seed: int) -> None:
    weights = torch.randn(5, 4, generator=torch.Generator().manual_seed(seed)) * scale
    weights[2] = 0
    out = rescale(weights, length)
    norms = out.norm(dim=1)
    assert norms[2] == 0
    torch.testing.assert_close(norms[[0, 1, 3, 4]], torch.full((4,), length), rtol=1e-4, atol=0.0)
    torch.testing.assert_close(
        torch.nn.functional.cosine_similarity(out, weights)[0], torch.tensor(1.0)
    )


def test_gradient_through_rescaling_is_exact_and_finite_at_zero() -> None:
    weights = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: rescale(w, 3.0), (weights,))
    zero = torch.zeros(2, 3, requires_grad=True)
    rescale(zero, 3.0).sum().backward()
    assert zero.grad is not None
    assert not zero.grad.any()


def test_fixed_vectors_have_a_background_row_of_zeros_and_no_gradient() -> None:
    weights = FixedWeights(torch.randn(4, 3), input_norm=2.0)
    assert weights().shape == (5, 3)
    assert not weights()[0].any()
    torch.testing.assert_close(weights()[1:].norm(dim=1), torch.full((4,), 2.0))
    assert not list(weights.parameters())
    assert set(weights.state_dict()) == {"vectors"}


def test_random_vectors_are_seeded() -> None:
    assert torch.equal(random_vectors(9, 300, seed=5), random_vectors(9, 300, seed=5))
    assert not torch.equal(random_vectors(9, 300, seed=5), random_vectors(9, 300, seed=6))
    assert float(random_vectors(81, 300, seed=0).norm(dim=1).mean()) == pytest.approx(1.0, abs=0.05)
