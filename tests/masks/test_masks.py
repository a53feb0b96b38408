"""Masks against references: torchvision's RoIAlign targets, pycocotools' RLE, torch's
resizing, and dense NumPy.
"""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as reference
from torchvision.models.detection.roi_heads import project_masks_on_boxes

from halfmask.masks.crops import MaskCrops, boxes_of, decode, encode_rle, iou
from halfmask.masks.paste import best_threshold, expected_iou, paste, recentred
from halfmask.masks.sample import sample

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))


def blobs(seed: int, count: int, height: int, width: int) -> torch.Tensor:
    """Masks of many kinds, bool [count, H, W]: ellipses (some cut by the edge), noise,
    full, empty, one pixel.
    """
    rng = np.random.default_rng(seed)
    ys, xs = np.mgrid[:height, :width]
    out = np.zeros((count, height, width), dtype=bool)
    for mask in out:
        kind = rng.integers(0, 6)
        if kind <= 2:
            y, x = rng.uniform(0, height), rng.uniform(0, width)
            a, b = rng.uniform(1, 1 + height / 2), rng.uniform(1, 1 + width / 2)
            mask |= ((ys - y) / a) ** 2 + ((xs - x) / b) ** 2 < 1
        elif kind == 3:
            mask |= rng.random((height, width)) < rng.random()
        elif kind == 4:
            mask |= True
        else:
            mask[rng.integers(height), rng.integers(width)] = rng.random() < 0.5
    return torch.from_numpy(out)


def regions_inside(seed: int, count: int, height: int, width: int) -> torch.Tensor:
    """Regions within the image, at least a pixel wide and high. (RoIAlign widens
    smaller ones to a pixel: where that takes it out of the image torchvision draws 0,
    halfmask repeats the edge.)
    """
    rng = np.random.default_rng(seed + 1)
    low = rng.uniform(0, 1, (count, 2)) * [width - 1, height - 1]
    high = low + 1 + rng.uniform(0, 1, (count, 2)) * ([width - 1, height - 1] - low)
    return torch.tensor(np.concatenate([low, high], 1), dtype=torch.float32)


def numpy_iou(first: torch.Tensor, second: torch.Tensor) -> list[float]:
    unions = (first | second).flatten(1).sum(1)
    return ((first & second).flatten(1).sum(1) / unions.clamp_min(1)).tolist()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), SIZES, st.integers(1, 12), st.sampled_from([1, 7, 14, 28]))
def test_sample_equals_torchvision(
    seed: int, size: tuple[int, int], count: int, cells: int
) -> None:
    dense = blobs(seed, 4, *size)
    regions = regions_inside(seed, count, *size)
    rows = torch.from_numpy(np.random.default_rng(seed + 2).integers(0, 4, count))
    drawn = sample(MaskCrops.from_dense(dense), rows, regions, size=cells)
    expected = project_masks_on_boxes(dense, regions, rows, cells)
    # One sample that falls on the other side of a pixel's edge by rounding weighs at
    # most one sample of its cell.
    assert drawn.shape == (count, cells, cells)
    assert drawn.dtype == torch.float32
    torch.testing.assert_close(drawn, expected, atol=2e-4, rtol=0)


def test_sample_of_regions_that_touch_every_edge() -> None:
    dense = torch.ones(1, 20, 30, dtype=torch.bool)
    regions = torch.tensor(
        [[0.0, 0, 30, 20], [0, 0, 5, 5], [25, 15, 30, 20], [29.5, 19.5, 30, 20], [0, 0, 0.3, 0.3]]
    )
    drawn = sample(MaskCrops.from_dense(dense), torch.zeros(5, dtype=torch.int64), regions, size=14)
    torch.testing.assert_close(drawn, torch.ones(5, 14, 14))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_sample_beyond_the_image_is_nothing_a_pixel_further_out(seed: int) -> None:
    dense = torch.ones(1, 20, 30, dtype=torch.bool)
    rng = np.random.default_rng(seed)
    low = rng.uniform(-40, 20, 2)
    high = low + rng.uniform(1, 60, 2)
    cells = 28
    drawn = sample(
        MaskCrops.from_dense(dense),
        torch.tensor([0]),
        torch.tensor([[*low, *high]], dtype=torch.float32),
        size=cells,
    )[0]
    edges = [low[k] + (high[k] - low[k]) * np.arange(cells + 1) / cells for k in range(2)]
    for k, limit in enumerate((30, 20)):
        outside = torch.from_numpy((edges[k][1:] < -1.01) | (edges[k][:-1] > limit + 1.01))
        inside = torch.from_numpy((edges[k][:-1] >= 0) & (edges[k][1:] <= limit - 1))
        drawn = drawn.T
        assert (drawn[outside] == 0).all()
        other = torch.from_numpy((edges[1 - k][:-1] >= 0) & (edges[1 - k][1:] <= (20, 30)[k] - 1))
        assert (drawn[inside][:, other] > 0.999).all()


def test_sample_of_nothing() -> None:
    crops = MaskCrops.from_dense(torch.zeros(2, 9, 9, dtype=torch.bool))
    assert sample(crops, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), size=7).shape == (
        0,
        7,
        7,
    )
    assert not sample(crops, torch.tensor([1]), torch.tensor([[0.0, 0, 9, 9]]), size=7).any()


def test_sample_takes_its_own_row_whatever_the_sizes() -> None:
    """Crops are drawn in groups of like size; every region must get its own back."""
    dense = torch.zeros(5, 64, 64, dtype=torch.bool)
    for i, side in enumerate([1, 3, 9, 27, 60]):
        dense[i, 2 : 2 + side, 1 : 1 + side] = True
    rows = torch.tensor([4, 0, 3, 1, 2, 2, 0, 4])
    regions = torch.tensor([[0.0, 0, 64, 64]]).repeat(8, 1)
    drawn = sample(MaskCrops.from_dense(dense), rows, regions, size=16)
    torch.testing.assert_close(
        drawn, project_masks_on_boxes(dense, regions, rows, 16), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        drawn.sum((1, 2)) * 16, dense[rows].sum((1, 2)).float(), rtol=0.05, atol=0.5
    )


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 24),
    st.tuples(st.integers(1, 50), st.integers(1, 50)),
    st.integers(0, 9),
    st.integers(0, 9),
)
def test_paste_equals_pillows_resizing(
    seed: int, cells: int, extent: tuple[int, int], x: int, y: int
) -> None:
    """On a region of whole pixels, paste is bilinear resizing (with antialiasing where
    it shrinks) and a threshold.
    """
    prob = torch.rand(1, cells, cells, generator=torch.Generator().manual_seed(seed))
    h, w = extent
    box = torch.tensor([[x, y, x + w, y + h]], dtype=torch.float32)
    size = (y + h + 3, x + w + 2)
    resized = torch.from_numpy(
        np.array(Image.fromarray(prob[0].numpy()).resize((w, h), Image.Resampling.BILINEAR))
    )
    pasted = paste(prob, box, box, image_size=size).dense()[0]
    outside = pasted.clone()
    outside[y : y + h, x : x + w] = False
    assert not outside.any()
    sure = (resized - 0.5).abs() > 1e-4
    assert torch.equal(pasted[y : y + h, x : x + w][sure], (resized >= 0.5)[sure])


def covered(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """Pixels whose centre lies in [low, high); the one in the middle, if there is none."""
    centres = (pixels + 0.5 >= low) & (pixels + 0.5 < high)
    none = np.ceil(high - 0.5) <= np.ceil(low - 0.5)
    return pixels == np.floor((low + high) / 2) if none else centres


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31))
def test_paste_stays_in_box_and_image(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(6, 2, generator=generator) * 60 - 20
    boxes = torch.cat([low, low + torch.rand(6, 2, generator=generator) * 40 + 0.1], 1)
    regions = boxes + torch.tensor([-3.0, -4.0, 3.0, 4.0])
    crops = paste(torch.ones(6, 14, 14), regions, boxes, image_size=(30, 40))
    for mask, (x0, y0, x1, y1) in zip(crops.dense(), boxes.tolist(), strict=True):
        ys, xs = np.mgrid[:30, :40]
        assert np.array_equal(mask.numpy(), covered(xs, x0, x1) & covered(ys, y0, y1))


def test_paste_of_unusable_boxes_is_empty() -> None:
    probs = torch.ones(4, 7, 7)
    boxes = torch.tensor([[50.0, 5, 60, 9], [-9, 5, 0, 9], [5, 5, 5, 9], [9, 5, 5, 9]])
    crops = paste(probs, boxes, boxes, image_size=(30, 40))
    assert crops.areas().tolist() == [0, 0, 0, 0]
    assert (
        len(paste(torch.zeros(0, 7, 7), torch.zeros(0, 4), torch.zeros(0, 4), image_size=(30, 40)))
        == 0
    )


def test_paste_undoes_sample() -> None:
    ys, xs = np.mgrid[:120, :160]
    dense = torch.from_numpy(
        np.stack(
            [
                ((ys - 60) / a) ** 2 + ((xs - 80) / b) ** 2 < 1
                for a, b in [(50, 70), (20, 9), (6, 5)]
            ]
        )
    )
    crops = MaskCrops.from_dense(dense)
    boxes = boxes_of(crops)
    rows = torch.arange(3)
    back = paste(sample(crops, rows, boxes, size=56), boxes, boxes, image_size=(120, 160))
    # RoIAlign as Mask R-CNN uses it is half a pixel off, which costs small objects
    # most.
    assert (iou(back, crops) > torch.tensor([0.97, 0.9, 0.75])).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), SIZES)
def test_rle_round_trip_equals_pycocotools(seed: int, size: tuple[int, int]) -> None:
    dense = blobs(seed, 5, *size)
    crops = MaskCrops.from_dense(dense)
    for mask, encoded, area in zip(dense, encode_rle(crops), crops.areas().tolist(), strict=True):
        expected = reference.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))
        assert encoded == {"size": list(size), "counts": expected["counts"].decode()}
        bitmap, (x, y) = decode(encoded, size)
        again = torch.zeros(size, dtype=torch.bool)
        again[y : y + bitmap.shape[0], x : x + bitmap.shape[1]] = bitmap.bool()
        assert torch.equal(again, mask)
        assert int(bitmap.sum()) == area == int(mask.sum())
        assert is_tight(bitmap)


def test_rle_of_a_bitmap_that_is_not_tight() -> None:
    bitmap = torch.zeros(5, 6, dtype=torch.uint8)
    crops = MaskCrops.from_bitmaps([bitmap, bitmap + 1], [(3, 2), (0, 0)], (5 + 2, 9))
    for encoded, mask in zip(encode_rle(crops), crops.dense(), strict=True):
        assert np.array_equal(reference.decode(encoded), mask.numpy())


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 3))
def test_decode_of_polygons_equals_pycocotools(seed: int, parts: int) -> None:
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(1, 50)), int(rng.integers(1, 50)))
    polygons = [rng.uniform(-10, 60, 2 * int(rng.integers(3, 10))).tolist() for _ in range(parts)]
    compare_with_pycocotools(polygons, size)


@pytest.mark.parametrize(
    "counts", [[0, 12], [3, 9], [3, 4, 5], [0, 0, 5, 7], [2, 0, 3, 7], [2, 3, 0, 4, 3], [12]]
)
def test_decode_of_uncompressed_counts(counts: list[int]) -> None:
    compare_with_pycocotools({"size": [4, 3], "counts": counts}, (4, 3))


def compare_with_pycocotools(segmentation: Any, size: tuple[int, int]) -> None:
    encoded = reference.frPyObjects(segmentation, *size)
    expected = reference.decode(reference.merge(encoded) if isinstance(encoded, list) else encoded)
    bitmap, (x, y) = decode(segmentation, size)
    dense = np.zeros(size, dtype=np.uint8)
    dense[y : y + bitmap.shape[0], x : x + bitmap.shape[1]] = bitmap.numpy()
    assert np.array_equal(dense, expected)
    assert bitmap.dtype == torch.uint8
    assert is_tight(bitmap)


def is_tight(bitmap: torch.Tensor) -> bool:
    if bitmap.numel() == 0:
        return tuple(bitmap.shape) == (0, 0)
    return bool(bitmap[0].any() and bitmap[-1].any() and bitmap[:, 0].any() and bitmap[:, -1].any())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), SIZES)
def test_iou_and_boxes_equal_dense(seed: int, size: tuple[int, int]) -> None:
    first, second = blobs(seed, 6, *size), blobs(seed + 7, 6, *size)
    a, b = MaskCrops.from_dense(first), MaskCrops.from_dense(second)
    assert iou(a, b).tolist() == pytest.approx(numpy_iou(first, second), abs=1e-6)
    assert torch.equal(iou(a, b), iou(b, a))
    assert iou(a, a).tolist() == [float(m.any()) for m in first]
    for mask, box in zip(first, boxes_of(a).tolist(), strict=True):
        ys, xs = np.nonzero(mask.numpy())
        assert box == (
            [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] if len(xs) else [0, 0, 0, 0]
        )


def test_iou_of_nothing() -> None:
    nothing = MaskCrops.empty((5, 5))
    assert iou(nothing, nothing).shape == (0,)
    assert boxes_of(nothing).shape == (0, 4)
    assert encode_rle(nothing) == []


def test_expected_iou_by_hand() -> None:
    probs = torch.tensor(
        [[[0.9, 0.6], [0.4, 0.1]], [[1.0, 1.0], [0.0, 0.0]], [[0.1, 0.2], [0.3, 0.4]]]
    )
    # Inside: 0.9 and 0.6, so 1.5 of 2 cells are expected to be right; outside lie
    # another 0.5.
    assert expected_iou(probs).tolist() == pytest.approx([1.5 / 2.5, 1.0, 0.0])
    assert expected_iou(probs, 0.35).tolist() == pytest.approx([1.9 / 3.1, 1.0, 0.4 / 1.6])
    assert expected_iou(torch.zeros(0, 3, 3)).shape == (0,)


def test_expected_iou_is_near_what_drawn_truths_give() -> None:
    generator = torch.Generator().manual_seed(0)
    probs = torch.rand(5, 20, 20, generator=generator)
    drawn = torch.rand(400, 5, 20, 20, generator=generator) < probs
    inside = probs >= 0.5
    truths = (drawn & inside).flatten(2).sum(2) / (drawn | inside).flatten(2).sum(2)
    torch.testing.assert_close(expected_iou(probs), truths.mean(0), atol=0.01, rtol=0)


@given(st.integers(0, 10**6), st.floats(0.2, 6.0))
@settings(max_examples=60, deadline=None)
def test_no_threshold_has_a_greater_expected_iou(seed: int, power: float) -> None:
    probs = (
        torch.rand(3, 9, 9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        ** power
    )
    found = best_threshold(probs)
    at_best = torch.stack(
        [expected_iou(p[None], float(t))[0] for p, t in zip(probs, found, strict=True)]
    )
    for threshold in np.linspace(0, 1, 101):
        assert (expected_iou(probs, float(threshold)) <= at_best + 1e-9).all()


def test_best_threshold_of_nothing_and_of_what_is_certain() -> None:
    assert best_threshold(torch.zeros(2, 4, 4)).tolist() == [0.5, 0.5]
    assert best_threshold(torch.zeros(0, 4, 4)).shape == (0,)
    certain = torch.eye(4)[None]
    assert torch.equal(certain >= best_threshold(certain), certain > 0)
    # By hand: 0.9 alone 0.9 / (1 + 0.4 + 0.1); with 0.4 1.3 / (2 + 0.1); with all 1.4 /
    # 3.
    assert best_threshold(torch.tensor([[[0.9, 0.4], [0.1, 0.0]]])).tolist() == pytest.approx([0.4])


def test_recentring_moves_the_threshold_to_one_half_and_keeps_the_order() -> None:
    probs = torch.rand(6, 8, 8, generator=torch.Generator().manual_seed(0))
    thresholds = torch.tensor([0.2, 0.3, 0.45, 0.5, 0.55, 0.6])
    moved = recentred(probs, thresholds)
    assert torch.equal(moved >= 0.5, probs >= thresholds[:, None, None])
    assert torch.equal(moved.flatten(1).argsort(1), probs.flatten(1).argsort(1))
    torch.testing.assert_close(moved[3], probs[3], atol=1e-5, rtol=0)
    assert bool(torch.isfinite(recentred(torch.tensor([[[0.0, 1.0]]]), torch.tensor([0.2]))).all())
