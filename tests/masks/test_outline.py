"""Polygons of masks: drawn again they are the same pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as reference

from halfmask.coco.file import CocoFile
from halfmask.coco.supervision import is_crowd
from halfmask.masks.outline import outlines, rings
from halfmask.masks.rle import crop_of
from halfmask.masks.thin import crosses, signed_area


def drawn(polygons: list[list[float]], height: int, width: int) -> np.ndarray:
    parts = reference.frPyObjects([[float(v) for v in p] for p in polygons], height, width)
    return reference.decode(reference.merge(parts)).astype(bool)


@settings(max_examples=60, deadline=None)
@given(
    arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_drawing_the_polygons_gives_the_mask_back(bitmap, x, y):
    height, width = bitmap.shape[0] + y + 1, bitmap.shape[1] + x + 1
    whole = np.zeros((height, width), dtype=bool)
    whole[y : y + bitmap.shape[0], x : x + bitmap.shape[1]] = bitmap
    polygons = outlines(bitmap, (x, y))
    if not bitmap.any():
        assert polygons == []
        return
    assert np.array_equal(drawn(polygons, height, width), whole)
    assert all(len(p) >= 8 for p in polygons)


def area(polygon: list[float]) -> float:
    xs, ys = np.array(polygon[::2]), np.array(polygon[1::2])
    return abs(float(np.dot(xs, np.roll(ys, -1)) - np.dot(ys, np.roll(xs, -1)))) / 2


@settings(max_examples=60, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_the_polygons_cover_without_overlap(bitmap):
    assert sum(map(area, outlines(bitmap))) == bitmap.sum()


def test_one_pixel_is_a_square():
    (polygon,) = outlines(np.ones((1, 1), dtype=np.uint8), (3, 5))
    assert sorted(zip(polygon[::2], polygon[1::2], strict=True)) == [(3, 5), (3, 6), (4, 5), (4, 6)]


@pytest.mark.parametrize("size", [3, 40, 301])
def test_a_ring_with_a_hole(size):
    yy, xx = np.mgrid[:size, :size]
    distance = np.hypot(yy - size // 2, xx - size // 2)
    ring = (distance <= size // 2) & (distance >= size // 4 + 1)
    assert np.array_equal(drawn(outlines(ring), size, size), ring)


def test_corners_that_touch_are_parts_of_their_own():
    assert len(outlines(np.eye(4, dtype=bool))) == 4
    assert len(outlines(np.eye(4, dtype=bool)[::-1])) == 4


def test_a_part_that_pinches_itself():
    pinched = np.array(
        [[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 1], [0, 0, 1, 1], [0, 0, 0, 0]], dtype=bool
    )
    assert np.array_equal(drawn(outlines(pinched), 5, 4), pinched)


def blob(draw_from: np.random.Generator, side: int) -> np.ndarray:
    """Some discs, some holes and some dust."""
    yy, xx = np.mgrid[:side, :side]
    mask = np.zeros((side, side), dtype=bool)
    for _ in range(draw_from.integers(1, 5)):
        (x, y), r = draw_from.uniform(0, side, 2), draw_from.uniform(0.5, 0.5 + side / 2)
        mask |= np.hypot(xx - x, (yy - y) * draw_from.uniform(0.3, 3)) <= r
    for _ in range(draw_from.integers(0, 3)):
        (x, y), r = draw_from.uniform(0, side, 2), draw_from.uniform(0.5, 0.5 + side / 5)
        mask &= np.hypot(xx - x, yy - y) > r
    return mask ^ (draw_from.random(mask.shape) < draw_from.choice([0, 0, 0.01, 0.2]))


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max((one | other).sum(), 1))


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 90), st.sampled_from([0.3, 1.0, 1.5, 4.0]))
def test_simplified_polygons_are_the_mask_to_97_percent_or_exact(seed, side, tolerance):
    mask = blob(np.random.default_rng(seed), side)
    polygons, exact = outlines(mask, (2, 1), tolerance), outlines(mask, (2, 1))
    assert len(polygons) == len(exact), "every part keeps a polygon"
    if not mask.any():
        assert polygons == []
        return
    whole = np.zeros((side + 3, side + 4), dtype=bool)
    whole[1 : 1 + side, 2 : 2 + side] = mask
    assert polygons == exact or iou(drawn(polygons, *whole.shape), whole) >= 0.97
    for polygon, full in zip(polygons, exact, strict=True):
        assert 6 <= len(polygon) <= len(full)
        assert area(polygon) > 0
        assert 2 <= min(polygon[::2]) <= max(polygon[::2]) <= 2 + side
        assert 1 <= min(polygon[1::2]) <= max(polygon[1::2]) <= 1 + side
        loop = np.array(polygon, dtype=float).reshape(-1, 2)
        assert polygon == full or not crosses(loop)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**9), st.integers(8, 90))
def test_simplified_rings_keep_holes(seed, side):
    mask = blob(np.random.default_rng(seed), side)
    found = rings(mask, (0, 0), 1.0)
    assert [np.sign(signed(r)) for r in found] == [np.sign(signed(r)) for r in rings(mask)]
    whole = np.zeros(mask.shape, dtype=bool)
    for way in (1, -1):
        loops = [r for r in found if signed(r) * way > 0]
        pixels = drawn(loops, *mask.shape) if loops else np.zeros(mask.shape, dtype=bool)
        whole = whole | pixels if way > 0 else whole & ~pixels
    assert iou(whole, mask) >= 0.97 or not mask.any()


def signed(polygon: list[float]) -> float:
    return signed_area(np.array(polygon, dtype=float).reshape(-1, 2))


def test_rectangles_keep_their_corners_and_slopes_are_not_biased():
    assert len(outlines(np.ones((30, 50)), (0, 0), 1.0)[0]) == 8
    assert sorted(outlines(np.ones((30, 50)), (0, 0), 1.0)[0]) == [0, 0, 0, 0, 30, 30, 50, 50]
    yy, xx = np.mgrid[:80, :80]
    disc = np.hypot(xx - 40, yy - 40) < 36
    (polygon,) = outlines(disc, (0, 0), 1.0)
    assert len(polygon) / 2 <= 24
    assert area(polygon) == pytest.approx(disc.sum(), rel=0.03)


@pytest.mark.parametrize(
    ("loop", "found"),
    [
        ([(0, 0), (4, 0), (4, 4), (0, 4)], False),
        ([(0, 0), (4, 4), (4, 0), (0, 4)], True),
        ([(0, 0), (2, 2), (4, 0), (4, 4), (2, 2), (0, 4)], False),  # touches itself
    ],
)
def test_lines_that_cross_are_found(loop, found):
    assert crosses(np.array(loop, dtype=float)) == found


@pytest.mark.shared
def test_masks_of_photographs_get_few_points(shared_data):
    file = CocoFile.read(shared_data / "coco-mini/instances_val.json")
    masks = [a for i in file.image_ids[:40] for a in file.annotations_of(i) if not is_crowd(a)]
    points, ious = [], []
    for annotation in masks:
        bitmap, _ = crop_of(annotation["segmentation"], file.size_of(annotation["image_id"]))
        polygons = outlines(bitmap, (0, 0), 1.0)
        points.append(sum(len(p) // 2 for p in polygons))
        ious.append(iou(drawn(polygons, *bitmap.shape), bitmap > 0))
    assert np.median(points) <= 40
    assert min(ious) >= 0.97
    assert np.median(ious) >= 0.985
