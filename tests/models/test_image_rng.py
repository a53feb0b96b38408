"""Random draws of an image: the same in whatever batch it is."""

from __future__ import annotations

from dataclasses import replace

import torch
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from halfmask.masks.crops import MaskCrops
from halfmask.models.image_rng import (
    ANCHORS,
    MASKS,
    ImageSampler,
    has_image_seeds,
    image_rng,
    use_image_seeds,
)
from halfmask.structures import Target


def targets(*seeds: int | None) -> list[Target]:
    masks = MaskCrops.from_dense(torch.zeros((0, 8, 8), dtype=torch.uint8))
    empty = Target(
        boxes=torch.zeros((0, 4)),
        labels=torch.zeros(0).long(),
        has_mask=torch.zeros(0).bool(),
        masks=masks,
    )
    return [replace(empty, draws=seed) for seed in seeds]


def drawn(index: int, purpose: int = MASKS) -> list[float]:
    with image_rng(index, purpose):
        return torch.rand(3).tolist()


def test_an_image_draws_the_same_in_whatever_batch() -> None:
    with use_image_seeds(targets(10, 20, 30)):
        assert has_image_seeds()
        first, second = drawn(0), drawn(1)
        assert drawn(1) == second
        assert drawn(1, ANCHORS) != second
    with use_image_seeds(targets(20)):
        torch.rand(5)
        assert drawn(0) == second
    assert first != second


def test_the_stream_of_the_process_is_left_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with use_image_seeds(targets(10)):
        drawn(0)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_seeds_draws_are_the_stream() -> None:
    torch.manual_seed(1)
    wanted = torch.rand(3).tolist()
    torch.manual_seed(1)
    with use_image_seeds(targets(None, 3)):  # one without a seed: none has one
        assert not has_image_seeds()
        assert drawn(0) == wanted
    torch.manual_seed(1)
    assert drawn(0) == wanted


def test_the_sampler_is_torchvisions_and_goes_by_image() -> None:
    plain = BalancedPositiveNegativeSampler(8, 0.5)
    sampler = ImageSampler(plain, ANCHORS)
    labels = [
        torch.randint(-1, 2, (40,), generator=torch.Generator().manual_seed(k)) for k in range(3)
    ]
    torch.manual_seed(4)
    wanted = plain(labels)
    torch.manual_seed(4)
    found = sampler(labels)
    for a, b in zip([*wanted[0], *wanted[1]], [*found[0], *found[1]], strict=True):
        assert torch.equal(a, b)
    assert int(sampler.drawn) == 24
    with use_image_seeds(targets(1, 2, 3)):
        together = sampler(labels)
    with use_image_seeds(targets(3)):
        alone = sampler(labels[2:])
    assert torch.equal(together[0][2], alone[0][0])
    assert torch.equal(together[1][2], alone[1][0])
    assert int(sampler.drawn) == 8
