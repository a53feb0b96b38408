"""Crops, targets and detections against dense masks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from halfmask.masks.crops import MaskCrops
from halfmask.structures import Detection, Target

SIZE = (17, 23)
SEEDS = st.integers(0, 2**31)


def dense_masks(seed: int, count: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(count, 1, 1, generator=generator) ** 3
    return torch.rand(count, *SIZE, generator=generator) < share


def detection(seed: int, count: int) -> Detection:
    g = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=g) * 10
    boxes = torch.cat([low, low + 1 + torch.rand(count, 2, generator=g) * 8], 1)
    scores = torch.rand(count, generator=g)
    probs = torch.rand(count, 7, 7, generator=g)
    return Detection(
        boxes=boxes,
        labels=torch.arange(count),
        scores=scores,
        mask_probs=probs,
        regions=boxes,
        quality=1 - scores,
        image_size=SIZE,
    )


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_crops_hold_what_dense_masks_hold(seed: int) -> None:
    dense = dense_masks(seed)
    for masks in (dense, dense.to(torch.uint8)):
        crops = MaskCrops.from_dense(masks)
        assert torch.equal(crops.dense(), dense)
        assert crops.areas().tolist() == dense.flatten(1).sum(1).tolist()
        assert len(crops) == 5
        assert int((crops.sizes[:, 0] * crops.sizes[:, 1]).sum()) == len(crops.pixels)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.lists(st.integers(0, 4), max_size=7))
def test_select_by_number_and_by_flag(seed: int, index: list[int]) -> None:
    dense = dense_masks(seed)
    crops = MaskCrops.from_dense(dense)
    assert torch.equal(crops.select(index).dense(), dense[index])
    assert torch.equal(crops.select(torch.tensor(index, dtype=torch.int64)).dense(), dense[index])
    flags = torch.tensor([i in index for i in range(5)])
    assert torch.equal(crops.select(flags).dense(), dense[flags])
    assert crops.select(flags).image_size == SIZE


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_flip(seed: int) -> None:
    crops = MaskCrops.from_dense(dense_masks(seed))
    assert torch.equal(crops.flip_horizontal().dense(), crops.dense().flip(-1))
    assert torch.equal(crops.flip_horizontal().flip_horizontal().pixels, crops.pixels)


def test_bitmaps_and_empty() -> None:
    crops = MaskCrops.from_bitmaps(
        [torch.ones(2, 3, dtype=torch.bool), torch.zeros(0, 0)], [(4, 5), (0, 0)], SIZE
    )
    assert [tuple(b.shape) for b in crops.bitmaps()] == [(2, 3), (0, 0)]
    assert crops.pixels.dtype == torch.uint8
    assert crops.dense()[0, 5:7, 4:7].all()
    assert int(crops.dense().sum()) == 6
    nothing = MaskCrops.empty(SIZE)
    assert len(nothing) == 0
    assert nothing.dense().shape == (0, *SIZE)
    assert nothing.select([]).sizes.shape == (0, 2)
    assert len(nothing.flip_horizontal()) == 0
    assert nothing.areas().shape == (0,)


def test_target_says_which_row_of_the_masks_is_whose() -> None:
    has_mask = torch.tensor([False, True, False, True, True])
    masks = MaskCrops.from_dense(dense_masks(1, 3))
    target = Target(
        boxes=torch.rand(5, 4),
        labels=torch.ones(5, dtype=torch.int64),
        has_mask=has_mask,
        masks=masks,
        image_id=7,
        annotation_ids=torch.arange(5),
    )
    assert target.mask_row.tolist() == [-1, 0, -1, 1, 2]
    assert len(target) == 5
    moved = target.to("cpu")
    assert torch.equal(moved.masks.dense(), masks.dense())
    assert (moved.image_id, moved.annotation_ids.tolist()) == (7, [0, 1, 2, 3, 4])


@pytest.mark.parametrize("wrong", ["labels", "has_mask", "masks", "boxes"])
def test_target_refuses_what_does_not_fit(wrong: str) -> None:
    parts = {
        "boxes": torch.rand(2, 4),
        "labels": torch.ones(2, dtype=torch.int64),
        "has_mask": torch.tensor([True, False]),
        "masks": MaskCrops.from_dense(dense_masks(0, 1)),
    }
    Target(**parts)  # type: ignore[arg-type]
    parts[wrong] = (
        MaskCrops.empty(SIZE) if wrong == "masks" else torch.ones(3, 4 if wrong == "boxes" else 1)
    )
    with pytest.raises(AssertionError):
        Target(**parts)  # type: ignore[arg-type]


def test_detection_select() -> None:
    found = detection(0, 4)
    chosen = found.select(torch.tensor([2, 0]))
    assert chosen.labels.tolist() == [2, 0]
    for key in ("boxes", "scores", "mask_probs", "regions", "quality"):
        assert torch.equal(getattr(chosen, key), getattr(found, key)[[2, 0]])
    assert chosen.image_size == SIZE
    assert torch.equal(found.select(found.scores > 0.5).quality, found.quality[found.scores > 0.5])
    assert len(found.select(torch.zeros(4, dtype=torch.bool))) == 0


def test_detection_masks_and_rle_agree() -> None:
    from pycocotools import mask as reference

    found = detection(3, 5)
    dense = found.masks()
    assert dense.shape == (5, *SIZE)
    for rle, mask in zip(found.rle(), dense, strict=True):
        assert torch.equal(torch.from_numpy(reference.decode(rle)).bool(), mask)
    assert int(found.masks(0.9).sum()) < int(dense.sum())
    assert len(detection(0, 0).crops()) == 0


def test_a_mask_reaches_beyond_its_box_as_far_as_it_may() -> None:
    boxes, regions = torch.tensor([[5.0, 5.0, 15.0, 15.0]]), torch.tensor([[0.0, 0.0, 20.0, 20.0]])
    probs, one = torch.ones(1, 4, 4), torch.ones(1)
    for reach, x0 in ((0.0, 5), (0.2, 3), (0.5, 0)):
        found = Detection(
            boxes=boxes,
            labels=one.long(),
            scores=one,
            mask_probs=probs,
            regions=regions,
            quality=one,
            image_size=(20, 20),
            reach=reach,
        )
        assert found.crops().offsets.tolist() == [[x0, x0]]
        assert int(found.select(torch.tensor([0])).masks().sum()) == (20 - 2 * x0) ** 2
