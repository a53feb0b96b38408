"""Polygons of masks: drawn again they are the same pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as reference

from halfmask.masks.outline import outlines


def drawn(polygons: list[list[int]], height: int, width: int) -> np.ndarray:
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


def area(polygon: list[int]) -> float:
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
