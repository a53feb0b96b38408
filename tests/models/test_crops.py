"""Crops of boxes: their pixels, their box channel, their jitter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from halfmask.models.box_segmenter.box_noise import Jitter
from halfmask.models.box_segmenter.crops import (
    Boxes,
    ImagePyramid,
    crop_regions,
    inside_box,
    other_boxes,
    resample,
)


def test_regions_add_the_context_on_each_side() -> None:
    regions = crop_regions(torch.tensor([[10.0, 20.0, 30.0, 60.0]]), 0.25)
    assert regions.tolist() == [[5.0, 10.0, 35.0, 70.0]]


def test_a_crop_at_the_image_s_own_scale_is_the_image() -> None:
    image = torch.rand(3, 40, 50)
    pyramid = ImagePyramid(image, torch.zeros(3), torch.ones(3))
    crop = pyramid.read(torch.tensor([[8.0, 4.0, 40.0, 36.0]]), 32)[0]
    assert torch.allclose(crop, image[:, 4:36, 8:40], atol=1e-6)


def test_outside_the_image_is_the_mean_colour() -> None:
    mean = torch.tensor([0.2, 0.4, 0.6])
    image = torch.full((3, 20, 20), 0.9)
    crop = ImagePyramid(image, mean, torch.tensor([0.5, 0.5, 0.5])).read(
        torch.tensor([[-20.0, 0.0, 20.0, 20.0], [50.0, 50.0, 90.0, 90.0]]), 16
    )
    assert torch.equal(crop[0, :, :, :7], torch.zeros(3, 16, 7))
    assert torch.allclose(
        crop[0, :, :, 9:], ((0.9 - mean) / 0.5)[:, None, None].expand(3, 16, 7), atol=1e-5
    )
    assert torch.equal(crop[1], torch.zeros(3, 16, 16))


@pytest.mark.parametrize("factor", [2, 3, 8, 20])
def test_small_crops_of_large_regions_are_means_of_pixels(factor: int) -> None:
    side = 16 * factor
    image = torch.rand(3, side, side, generator=torch.Generator().manual_seed(factor))
    crop = ImagePyramid(image, torch.zeros(3), torch.ones(3)).read(
        torch.tensor([[0.0, 0.0, side, side]]), 16
    )[0]
    # RoIAlign samples bilinearly, which blurs a little: inner cells agree with the
    # plain mean to a few noise deviations.
    assert (crop - F.avg_pool2d(image, factor)).abs()[:, 1:-1, 1:-1].mean() < 0.25 / factor


def test_inside_box_is_the_covered_share_of_each_cell() -> None:
    boxes, regions = torch.tensor([[2.0, 0.0, 7.0, 8.0]]), torch.tensor([[0.0, 0.0, 8.0, 8.0]])
    row = inside_box(boxes, regions, 4)[0, 0]
    assert row.tolist() == [0.0, 1.0, 1.0, 0.5]
    assert float(inside_box(boxes, regions, 4).mean()) == pytest.approx(5 / 8)


def test_jitter_stays_in_its_bounds_and_follows_the_seed() -> None:
    boxes = torch.tensor([[10.0, 10.0, 30.0, 50.0]]).repeat(200, 1)
    torch.manual_seed(5)
    moved, loose = Jitter(box=0.1).move_boxes(boxes)
    torch.manual_seed(5)
    assert torch.equal(moved, Jitter(box=0.1).move_boxes(boxes)[0])
    assert 0.2 < float(loose.float().mean()) < 0.5
    assert torch.equal(moved[~loose], boxes[~loose])
    assert bool((moved[loose] != boxes[loose]).any(1).all())
    shift = (moved - boxes).abs().amax(0)
    assert (shift <= torch.tensor([2.0, 4.0, 2.0, 4.0])).all()
    assert (shift > torch.tensor([1.0, 2.0, 1.0, 2.0])).all()
    same, none = Jitter().move_boxes(boxes)
    assert torch.equal(same, boxes)
    assert not none.any()
    regions = Jitter(crop=0.2).move_regions(boxes)
    sides = (regions[:, 2:] - regions[:, :2]) / torch.tensor([20.0, 40.0])
    assert float(sides.min()) >= 2.718**-0.2 - 1e-3
    assert float(sides.max()) <= 2.718**0.2 + 1e-3


def test_resample_reads_a_plane_exactly_and_repeats_the_edge() -> None:
    """Bilinear reading of a linear map is exact within the outermost cell centres;
    beyond them the edge goes on.
    """
    regions = torch.tensor([[10.0, 20.0, 50.0, 60.0], [0.0, 0.0, 8.0, 16.0]])
    places = torch.tensor([[20.0, 30.0, 40.0, 50.0], [2.0, 4.0, 6.0, 12.0]])
    size = 16

    def plane(where: torch.Tensor) -> torch.Tensor:
        cells = (torch.arange(size) + 0.5) / size
        x = where[:, None, 0] + cells * (where[:, 2] - where[:, 0])[:, None]
        y = where[:, None, 1] + cells * (where[:, 3] - where[:, 1])[:, None]
        return 0.3 * x[:, None, :] - 0.7 * y[:, :, None] + 2

    torch.testing.assert_close(resample(plane(regions), regions, places), plane(places))
    torch.testing.assert_close(resample(plane(regions), regions, regions), plane(regions))
    far = resample(plane(regions), regions, regions + 1000)
    torch.testing.assert_close(far, plane(regions)[:, -1:, -1:].expand(-1, size, size))


def test_other_boxes_count_per_cell_smaller_and_larger_ones_apart() -> None:
    generator = torch.Generator().manual_seed(3)
    corners = torch.randint(0, 33, (7, 2, 2), generator=generator)
    every = torch.cat([corners.amin(1), corners.amax(1) + 1], 1).float()
    own = torch.tensor([0, 4, 4, 6])
    regions = torch.tensor([[0.0, 0.0, 32.0, 32.0]]).repeat(4, 1)
    regions[2] = torch.tensor([8.0, 0.0, 24.0, 16.0])
    found = other_boxes(Boxes(every, own), regions, 16)
    area = (every[:, 2:] - every[:, :2]).prod(1)
    for k, row in enumerate(own.tolist()):
        counts = np.zeros((2, 64, 64))  # pixels; cells of 2 × 2, then of one
        for other in range(len(every)):
            x0, y0, x1, y1 = every[other].int().tolist()
            if other != row:
                counts[int(area[other] >= area[row]), y0:y1, x0:x1] += 1
        x, y, right, bottom = regions[k].int().tolist()
        part = counts[:, y:bottom, x:right]
        part = part.reshape(2, 16, part.shape[1] // 16, 16, part.shape[2] // 16).mean((2, 4))
        np.testing.assert_allclose(found[k].numpy(), part / (1 + part), atol=1e-5)


def test_a_box_without_others_has_empty_maps() -> None:
    boxes = torch.tensor([[2.0, 2.0, 9.0, 9.0]])
    assert not other_boxes(Boxes(boxes, torch.tensor([0])), boxes, 8).any()
