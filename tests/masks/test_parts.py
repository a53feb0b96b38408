"""Connected parts, compared with OpenCV's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from halfmask.masks.parts import part_at, parts_of

cv2 = pytest.importorskip("cv2", reason="needs OpenCV (pip install 'halfmask[baselines]')")
BITMAPS = arrays(
    np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=24), elements=st.integers(0, 1)
)


@settings(max_examples=150, deadline=None)
@given(BITMAPS)
def test_the_parts_are_opencvs_largest_first(bitmap: np.ndarray) -> None:
    ours = parts_of(bitmap)
    count, theirs = cv2.connectedComponents(bitmap, connectivity=8)
    assert ((ours > 0) == (bitmap > 0)).all()
    pairs = {(0, 0), *zip(ours.ravel().tolist(), theirs.ravel().tolist(), strict=True)}
    assert len(pairs) == count == ours.max() + 1
    sizes = np.bincount(ours.ravel())[1:]
    assert (np.diff(sizes) <= 0).all()


def test_a_part_is_found_by_a_pixel() -> None:
    bitmap = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 1]])
    assert part_at(bitmap, 0, 0).tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert part_at(bitmap, 2, 3).sum() == 3
    assert part_at(bitmap, 0, 2).sum() == 0


def test_a_spiral_is_one_part() -> None:
    turns = np.zeros((41, 41), dtype=np.uint8)
    for k in range(0, 20, 2):
        turns[k, k : 41 - k] = turns[k : 41 - k, 40 - k] = turns[40 - k, k : 41 - k] = 1
        turns[k + 2 : 41 - k, k] = 1
        turns[k + 2, k : k + 2] = 1
    assert parts_of(turns).max() == cv2.connectedComponents(turns, connectivity=8)[0] - 1
