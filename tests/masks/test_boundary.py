"""Boundary IoU equals the formula of its authors, and has the properties of an IoU."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from halfmask.masks.boundary import band_width, boundaries, boundary_iou
from halfmask.masks.crops import MaskCrops, decode, iou

Mask = np.ndarray


def authors_band(mask: Mask, share: float = 0.02) -> Mask:
    """`mask_to_boundary` of Cheng et al. on the whole image, with NumPy for OpenCV.

    They pad the image by one pixel of 0 and erode it d times by a square of 3 × 3.
    OpenCV counts what lies beyond the padded image as 1.
    """
    h, w = mask.shape
    d = max(round(float(share * np.sqrt(h**2 + w**2))), 1)
    padded = np.pad(mask, 1)
    for _ in range(d):
        wide = np.pad(padded, 1, constant_values=1)
        shifts = [wide[y : y + h + 2, x : x + w + 2] for y in range(3) for x in range(3)]
        padded = np.min(shifts, axis=0)
    return mask - padded[1 : h + 1, 1 : w + 1]


def authors_boundary_iou(first: Mask, second: Mask, share: float = 0.02) -> float:
    one, other = authors_band(first, share), authors_band(second, share)
    union = ((one + other) > 0).sum()
    return float(((one * other) > 0).sum() / union) if union else 0.0


def crops(*masks: Mask) -> MaskCrops:
    return MaskCrops.from_dense(torch.from_numpy(np.stack(masks)))


def ragged(rng: np.random.Generator, height: int, width: int) -> Mask:
    """Blobs, with holes and parts at the picture's edge."""
    coarse = rng.random((int(rng.integers(1, 8)), int(rng.integers(1, 8))))
    rows, columns = np.arange(height) * len(coarse) // height, np.arange(width)
    large = coarse[rows][:, columns * coarse.shape[1] // width]
    return ((large > rng.random()) & (rng.random((height, width)) > 0.002)).astype(np.uint8)


def compare(first: Mask, second: Mask, share: float = 0.02) -> None:
    bands = boundaries(crops(first, second), share).dense().numpy().astype(np.uint8)
    np.testing.assert_array_equal(bands[0], authors_band(first, share))
    np.testing.assert_array_equal(bands[1], authors_band(second, share))
    found = boundary_iou(crops(first), crops(second), share)
    assert float(found[0]) == pytest.approx(authors_boundary_iou(first, second, share), abs=1e-7)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 130), st.integers(1, 130))
def test_equals_the_authors_formula(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    compare(*(ragged(rng, height, width) for _ in range(2)), share=float(rng.choice([0.02, 0.08])))


@pytest.mark.shared
def test_equals_the_authors_formula_on_real_masks(shared_data: Path) -> None:
    """Each object's mask against its neighbour's in the file, and against a part of it."""
    document = json.loads((shared_data / "coco-mini" / "instances_val.json").read_text())
    sizes = {i["id"]: (i["height"], i["width"]) for i in document["images"]}
    rows = [a for a in document["annotations"] if not a["iscrowd"]][::120]
    for row in rows:
        size = sizes[row["image_id"]]
        bitmap, place = decode(row["segmentation"], size)
        mask = MaskCrops.from_bitmaps([bitmap], [place], size).dense()[0].numpy().astype(np.uint8)
        moved = np.roll(mask, (2, -3), (0, 1))
        compare(mask, moved)


@pytest.mark.parametrize("name", ["whole picture", "at the edge", "nothing", "one pixel", "a line"])
def test_edges(name: str) -> None:
    mask = np.zeros((150, 200), dtype=np.uint8)
    places = {
        "whole picture": np.s_[:, :],
        "at the edge": np.s_[40:, :60],
        "nothing": np.s_[:0],
        "one pixel": np.s_[7:8, 9:10],
        "a line": np.s_[20, 30:150],
    }
    mask[places[name]] = 1
    other = np.zeros_like(mask)
    other[30:90, 20:80] = 1
    compare(mask, other)
    equal = float(boundary_iou(crops(mask), crops(mask))[0])
    assert equal == (0 if name == "nothing" else 1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_properties(seed: int) -> None:
    """1 for equal masks, symmetric, the mask IoU where both masks are thin."""
    rng = np.random.default_rng(seed)
    one, other = (ragged(rng, 60, 90) for _ in range(2))
    assert float(boundary_iou(crops(one), crops(one))[0]) == float(one.any())
    there, back = boundary_iou(crops(one, other), crops(other, one)).tolist()
    assert there == back
    assert 0 <= there <= 1
    whole = boundary_iou(crops(one), crops(other), share=1.0)
    assert torch.equal(whole, iou(crops(one), crops(other)))


def test_a_border_that_is_off_counts_more_than_in_the_mask_iou() -> None:
    mask = np.zeros((480, 640), dtype=np.uint8)
    mask[100:400, 100:500] = 1
    moved = np.roll(mask, 8, 1)
    assert band_width((480, 640)) == 16
    assert float(iou(crops(mask), crops(moved))[0]) > 0.95
    assert float(boundary_iou(crops(mask), crops(moved))[0]) < 0.7


def test_the_width_is_two_percent_of_the_diagonal_and_at_least_a_pixel() -> None:
    assert band_width((427, 640)) == 15
    assert band_width((10, 10)) == 1
    assert band_width((1000, 1000), 0.005) == 7


def test_a_band_of_a_mask_is_a_copy() -> None:
    """Masks are tensors that others read."""
    masks = crops(np.ones((90, 90), dtype=np.uint8))
    boundaries(masks)
    assert int(masks.areas()[0]) == 8100
