"""A turned example: boxes and masks stay on their pixels."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from halfmask.data.augment.rotate import rotate
from halfmask.masks.crops import MaskCrops, boxes_of
from halfmask.structures import Target

H, W = 60, 80


def example() -> tuple[torch.Tensor, Target]:
    """Two bright squares with masks, and a box alone."""
    dense = torch.zeros(2, H, W, dtype=torch.bool)
    dense[0, 20:32, 30:46] = True
    dense[1, 40:50, 50:58] = True
    image = 0.2 + 0.6 * dense.any(0).float().expand(3, H, W).clone()
    boxes = torch.tensor([[30.0, 20, 46, 32], [10, 10, 20, 24], [50, 40, 58, 50]])
    has_mask = torch.tensor([True, False, True])
    return image, Target(
        boxes=boxes,
        labels=torch.tensor([1, 2, 3]),
        has_mask=has_mask,
        masks=MaskCrops.from_dense(dense),
        image_id=7,
        annotation_ids=torch.tensor([4, 5, 6]),
    )


def test_no_turn_changes_nothing() -> None:
    image, target = example()
    turned, same = rotate(image, target, 0.0)
    assert torch.allclose(turned, image, atol=1e-5)
    assert torch.equal(same.masks.dense(), target.masks.dense())
    assert torch.equal(same.boxes, target.boxes)
    assert torch.equal(same.annotation_ids, target.annotation_ids)


def test_a_half_turn_is_two_mirrors() -> None:
    image, target = example()
    turned, moved = rotate(image, target, 180.0)
    assert torch.allclose(turned, image.flip(1, 2), atol=1e-4)
    assert torch.equal(moved.masks.dense(), target.masks.dense().flip(1, 2))
    assert torch.allclose(moved.boxes[1], torch.tensor([60.0, 36, 70, 50]), atol=1e-4)


@pytest.mark.parametrize("degrees", [-17.0, 9.0, 30.0])
def test_masks_stay_on_their_pixels(degrees: float) -> None:
    image, target = example()
    turned, moved = rotate(image, target, degrees)
    bright = turned[0] >= 0.5
    assert torch.equal(moved.masks.dense().any(0), bright)
    assert torch.equal(moved.boxes[moved.has_mask], boxes_of(moved.masks))
    ratio = moved.masks.areas() / target.masks.areas()
    assert ratio.tolist() == pytest.approx([1, 1], abs=0.06)


def test_clockwise() -> None:
    image, target = example()
    _, moved = rotate(image, target, 10.0)
    angle = math.radians(10)
    x, y = 54 - W / 2, 45 - H / 2
    expected = [
        math.cos(angle) * x - math.sin(angle) * y + W / 2,
        math.sin(angle) * x + math.cos(angle) * y + H / 2,
    ]
    centre = (moved.boxes[2, :2] + moved.boxes[2, 2:]) / 2
    assert centre.tolist() == pytest.approx(expected, abs=0.6)


def test_a_box_alone_gets_the_box_around_its_corners_and_is_marked() -> None:
    image, target = example()
    _, moved = rotate(image, target, 20.0)
    angle = math.radians(20)
    turned = [
        (
            math.cos(angle) * x - math.sin(angle) * y + W / 2,
            math.sin(angle) * x + math.cos(angle) * y + H / 2,
        )
        for x in (10 - W / 2, 20 - W / 2)
        for y in (10 - H / 2, 24 - H / 2)
    ]
    xs, ys = zip(*turned, strict=True)
    assert moved.boxes[1].tolist() == pytest.approx([min(xs), min(ys), max(xs), max(ys)], abs=1e-3)
    assert moved.loose_box is not None
    assert moved.loose_box.tolist() == [False, True, False]


@settings(max_examples=40, deadline=None)
@given(st.floats(-45, 45), st.integers(0, 1000))
def test_what_turns_out_of_the_image_is_gone(degrees: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(5, 2, generator=generator) * torch.tensor([W - 6.0, H - 6.0])
    boxes = torch.cat([low, low + 5], 1).round()
    dense = torch.zeros(5, H, W, dtype=torch.bool)
    for row, (x0, y0, x1, y1) in enumerate(boxes.int().tolist()):
        dense[row, y0:y1, x0:x1] = True
    has_mask = torch.rand(5, generator=generator) > 0.4
    target = Target(
        boxes=boxes,
        labels=torch.ones(5, dtype=torch.int64),
        has_mask=has_mask,
        masks=MaskCrops.from_dense(dense[has_mask]),
    )
    image, moved = rotate(torch.rand(3, H, W, generator=generator), target, degrees)
    assert image.shape == (3, H, W)
    assert len(moved) <= 5
    assert bool((moved.boxes[:, 2:] > moved.boxes[:, :2]).all())
    assert bool((moved.boxes >= 0).all())
    assert bool((moved.boxes <= torch.tensor([W, H, W, H])).all())
    assert bool((moved.masks.areas() > 0).all())


def test_nothing_there() -> None:
    nothing = Target(
        boxes=torch.zeros(0, 4),
        labels=torch.zeros(0, dtype=torch.int64),
        has_mask=torch.zeros(0, dtype=torch.bool),
        masks=MaskCrops.empty((H, W)),
    )
    _, moved = rotate(torch.rand(3, H, W), nothing, 12.0)
    assert len(moved) == 0


def test_a_sliver_is_gone() -> None:
    """In a wide picture: what lies at the far end turns out of it but for a corner."""
    dense = torch.zeros(2, H, 3 * W, dtype=torch.bool)
    dense[0, 20:40, 4:24] = dense[1, 20:40, 110:130] = True
    boxes = torch.tensor([[4.0, 20, 24, 40], [110, 20, 130, 40], [4, 20, 24, 40]])
    has_mask = torch.tensor([True, True, False])
    target = Target(
        boxes=boxes,
        labels=torch.tensor([1, 2, 3]),
        has_mask=has_mask,
        masks=MaskCrops.from_dense(dense),
    )
    _, moved = rotate(torch.rand(3, H, 3 * W), target, 20.0)
    assert moved.labels.tolist() == [2]
