"""Loosened boxes stay near, stay boxes, and are the same each time."""

import pytest
import torch

from halfmask.evaluation.subject import loosened


@pytest.mark.parametrize("share", [0.0, 0.1, 0.49])
def test_corners_move_by_up_to_a_share_of_the_side(share: float) -> None:
    corner = torch.rand(500, 2) * 100
    side = torch.rand(500, 2) * 200 + 1
    boxes = torch.cat([corner, corner + side], 1)
    moved = loosened(boxes, share, 7)
    off = (moved - boxes).abs() / side.repeat(1, 2)
    assert float(off.max()) <= share + 1e-4
    assert float(off.mean()) == pytest.approx(share / 2, abs=0.02)
    assert (moved[:, 2:] > moved[:, :2]).all()
    assert torch.equal(moved, loosened(boxes, share, 7))
    if share:
        assert not torch.equal(moved, loosened(boxes, share, 8))


def test_no_boxes() -> None:
    assert loosened(torch.zeros(0, 4), 0.1, 3).shape == (0, 4)
