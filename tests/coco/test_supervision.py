"""Every way in which a mask can be there or not has one meaning, and no JSON value
breaks the judge.
"""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as reference

from halfmask.coco.supervision import MaskState, classify, judge, repeats_box
from halfmask.masks.rle import box_of, fault_of_rle, overlap

SIZE = (30, 40)
TRIANGLE = [2.0, 3.0, 20.0, 3.0, 11.0, 21.0]
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


def state(segmentation: Any, **more: Any) -> MaskState:
    return classify({"bbox": [2, 3, 18, 18], "segmentation": segmentation, **more}, SIZE)


@pytest.mark.parametrize("segmentation", [None, [], [[]], [[], []]])
def test_nothing_drawn_is_missing(segmentation: Any) -> None:
    assert state(segmentation) == MaskState.MISSING


def test_no_key_is_missing() -> None:
    assert classify({"bbox": [2, 3, 18, 18]}, SIZE) == MaskState.MISSING


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ([[1, 2, 3, 4, 5]], "5 numbers"),
        ([[1, 2, 9, 4]], "2 points"),
        ([TRIANGLE, [1, 2, 9, 4]], "part 2 of 2: the polygon has 2 points"),
        ([[1, 2, float("nan"), 4, 9, 9]], "not a finite number"),
        ([[1, 2, float("inf"), 4, 9, 9]], "not a finite number"),
        ([[1, 2, 10**400, 4, 9, 9]], "not a finite number"),
        ([[1, 2, "9", 4, 9, 9]], "not a finite number"),
        ([[1, 2, None, 4, 9, 9]], "not a finite number"),
        ([[1, 2, True, 4, 9, 9]], "not a finite number"),
        ([TRIANGLE, []], "part 2 of 2: the polygon has 0 points"),
        ([1, 2, 9, 4, 9, 9], "the polygon is int"),
        ([[[1, 2], [9, 4], [9, 9]]], "3 numbers"),
        ([[100, 100, 110, 100, 110, 110]], "far beyond"),
        ([[41, 1, 60, 1, 60, 20]], "no pixel"),
        ([[5, 5, 5, 5, 5, 5]], "no pixel"),
        (
            [[5, 5, 35, 5, 20, 25, 5, 5, 35, 5, 20, 25]],
            "no pixel",
        ),  # traced twice: even-odd cancels it
        ([[5, 5, 35, 5, 20, 25, 5.04, 5, 35, 5.03, 20, 25]], "no pixel"),
        ("polygon", "is str"),
        (7, "is int"),
        ({}, "RLE of size None"),
        ({"size": [30, 40]}, "without counts"),
        ({"size": [40, 30], "counts": [1200]}, r"size \[40, 30\] on an image of \[30, 40\]"),
        ({"size": [30.0, 40.0], "counts": [0, 1200]}, "size"),
        ({"size": [30, 40], "counts": [1200]}, "without a single pixel"),
        ({"size": [30, 40], "counts": []}, "cover 0 pixels"),
        ({"size": [30, 40], "counts": [10, 10]}, "cover 20 pixels, the image has 1200"),
        ({"size": [30, 40], "counts": [1210, -10]}, "negative"),
        ({"size": [30, 40], "counts": [10.5, 1189.5]}, "whole numbers"),
        ({"size": [30, 40], "counts": [True, 1199]}, "whole numbers"),
        ({"size": [30, 40], "counts": [10**30]}, "longer than any image"),
        ({"size": [30, 40], "counts": None}, "NoneType"),
        ({"size": [30, 40], "counts": ""}, "cover 0 pixels"),
        ({"size": [30, 40], "counts": "Z"}, "ends? within a number"),
        ({"size": [30, 40], "counts": "\x00"}, "character"),
        ({"size": [30, 40], "counts": "é"}, "character"),
        ({"size": [30, 40], "counts": "\ud800"}, "character"),
        ({"size": [30, 40], "counts": "o" * 30 + "0"}, "longer than any image"),
    ],
)
def test_what_is_no_mask_is_broken_and_says_why(segmentation: Any, reason: str) -> None:
    import re

    verdict = judge({"bbox": [2, 3, 18, 18], "segmentation": segmentation}, SIZE)
    assert verdict.state == MaskState.BROKEN
    assert re.search(reason, verdict.reason), verdict.reason
    assert "\n" not in verdict.reason


@pytest.mark.parametrize(
    "annotation",
    [None, 3, "x", [], [1], True, float("nan")],
    ids=["null", "int", "text", "list", "list1", "bool", "nan"],
)
def test_what_is_no_annotation_is_broken(annotation: object) -> None:
    assert classify(annotation, SIZE) == MaskState.BROKEN


@pytest.mark.parametrize("iscrowd", [1, True, 2, "1", [0]])
def test_crowds(iscrowd: Any) -> None:
    assert state([TRIANGLE], iscrowd=iscrowd) == MaskState.CROWD


@pytest.mark.parametrize("iscrowd", [0, False, None])
def test_no_crowds(iscrowd: Any) -> None:
    assert state([TRIANGLE], iscrowd=iscrowd) == MaskState.MASK


@pytest.mark.parametrize(
    "polygon",
    [
        [2, 3, 20, 3, 20, 21, 2, 21],
        [2, 3, 20, 3, 20, 21, 2, 21, 2, 3],  # closed
        [20, 21, 2, 21, 2, 3, 20, 3],  # another corner first
        [2, 3, 2, 21, 20, 21, 20, 3],  # the other way round
        [2, 3, 19, 3, 19, 20, 2, 20],  # the last pixel counted in
        [2.4, 3.4, 20.4, 3.4, 20.4, 21.4, 2.4, 21.4],  # rounded box
    ],
)
def test_a_polygon_that_repeats_the_box_is_suspect(polygon: list[float]) -> None:
    assert state([polygon]) == MaskState.SUSPECT


@pytest.mark.parametrize(
    "polygon",
    [
        [2, 3, 20, 3, 20, 19, 2, 19],  # a rectangle, but smaller
        [2, 4, 20, 3, 20, 20.5, 2, 21],  # four points, but tilted: drawn by a person
        [2, 3, 20, 3, 11, 21, 2, 21],
        [2, 3, 20, 3, 20, 21, 2, 3],  # a triangle that visits one corner twice
        [2, 3, 20, 3, 20, 21, 11, 21, 2, 21],  # five points that are not closed
    ],
)
def test_other_polygons_of_few_points_are_masks(polygon: list[float]) -> None:
    assert state([polygon]) == MaskState.MASK


def test_two_rectangles_are_no_placeholder() -> None:
    box = [2, 3, 20, 3, 20, 21, 2, 21]
    assert state([box, [5, 5, 9, 5, 9, 9]]) == MaskState.MASK


def test_suspicion_needs_a_box() -> None:
    annotation = {"segmentation": [[2, 3, 20, 3, 20, 21, 2, 21]]}
    for bbox in (None, [2, 3], ["2", 3, 18, 18], [math.nan, 3, 18, 18]):
        assert not repeats_box({**annotation, "bbox": bbox})


@pytest.mark.parametrize(
    ("origin", "annotated", "accepted", "filled"),
    [
        ({"state": "filled"}, "filled", "filled", "mask"),
        ({"state": "accepted"}, "filled", "mask", "mask"),
        ({"state": "redrawn"}, "mask", "mask", "mask"),
        ({"state": "rejected"}, "rejected", "rejected", "rejected"),
        ({"state": "annotated"}, "mask", "mask", "mask"),
        ({"state": "confirmed", "by": "Anna"}, "mask", "mask", "mask"),
        ({"state": "nonsense"}, "filled", "filled", "mask"),
        ({"score": 0.5}, "filled", "filled", "mask"),
        ("a stranger's key", "mask", "mask", "mask"),
        (None, "mask", "mask", "mask"),
    ],
)
def test_use_decides_which_of_our_own_masks_count(
    origin: Any, annotated: str, accepted: str, filled: str
) -> None:
    annotation = {"bbox": [2, 3, 18, 18], "segmentation": [TRIANGLE], "halfmask": origin}
    assert classify(annotation, SIZE) == annotated
    assert classify(annotation, SIZE, "accepted") == accepted
    assert classify(annotation, SIZE, "filled") == filled


def test_a_note_without_a_mask_is_missing_and_a_broken_filling_is_broken() -> None:
    assert state(None, halfmask={"state": "filled"}) == MaskState.MISSING
    assert state([[1, 2, 3]], halfmask={"state": "filled"}) == MaskState.BROKEN


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["segmentation", "bbox", "iscrowd", "halfmask"]), JSON_VALUES)
    | JSON_VALUES,
    st.sampled_from(["annotated", "accepted", "filled"]),
)
def test_no_json_value_breaks_the_judge(annotation: Any, use: Any) -> None:
    assert classify(annotation, SIZE, use) in MaskState


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["size", "counts"]),
        st.just([30, 40]) | JSON_VALUES | st.text("0123456789PQXYmno"),
    )
)
def test_what_passes_as_rle_is_rle(segmentation: Any) -> None:
    if fault_of_rle(segmentation, SIZE) is None:
        encoded = segmentation
        if isinstance(segmentation["counts"], list):
            encoded = reference.frPyObjects(segmentation, *SIZE)
        assert reference.area(encoded) > 0


@settings(max_examples=150, deadline=None)
@given(st.lists(st.floats(-12, 52), min_size=6, max_size=16).filter(lambda p: len(p) % 2 == 0))
def test_a_polygon_is_broken_exactly_where_it_has_no_pixel(polygon: list[float]) -> None:
    annotation = {"bbox": [0, 0, 1, 1], "segmentation": [polygon]}
    encoded = reference.merge(reference.frPyObjects([polygon], *SIZE))
    assert (classify(annotation, SIZE) == MaskState.MASK) == (reference.area(encoded) > 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1.0))
def test_rle_of_any_mask_is_sound_and_its_box_is_tight(seed: int, density: float) -> None:
    mask = np.asfortranarray(np.random.default_rng(seed).random(SIZE) < density).astype(
        np.uint8, order="F"
    )
    encoded = reference.encode(mask)
    segmentation = {"size": [30, 40], "counts": encoded["counts"].decode()}
    assert (fault_of_rle(segmentation, SIZE) is None) == bool(mask.any())
    if mask.any():
        ys, xs = np.nonzero(mask)
        assert box_of(segmentation, SIZE) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        assert overlap(segmentation, segmentation, SIZE) == 1.0


def test_long_runs_and_large_images_are_read() -> None:
    size = (20000, 30000)
    counts = [5, 1, 299_999_990, 3, size[0] * size[1] - 299_999_999]
    encoded = reference.frPyObjects({"size": list(size), "counts": counts}, *size)
    assert fault_of_rle({"size": list(size), "counts": encoded["counts"].decode()}, size) is None
    assert fault_of_rle({"size": list(size), "counts": counts}, size) is None
