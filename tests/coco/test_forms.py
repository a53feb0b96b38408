"""Masks and boxes as tools write them, read as COCO's: compared with pycocotools."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as reference

from halfmask.coco.doctor.checks import check
from halfmask.coco.file import CocoFile
from halfmask.coco.index.place import open_index
from halfmask.coco.problems import Problem
from halfmask.coco.reading.forms import standard_record, upright_box
from halfmask.coco.supervision import MaskState
from halfmask.masks.rle import box_iou, crop_of
from tests.real_tools import real_tool

SIZE = (48, 64)
ONE = [4.5, 5.0, 24.0, 5.5, 14.0, 35.25]
TWO = [30.0, 8.0, 50.0, 8.0, 50.0, 30.0, 30.0, 30.0]
SLIVER = [10.0, 10.0, 12.0, 10.0]
Part = list[float]


def pairs(part: Part) -> list[list[float]]:
    return [[x, y] for x, y in zip(part[0::2], part[1::2], strict=True)]


def points(part: Part) -> list[dict[str, float]]:
    return [{"x": x, "y": y} for x, y in pairs(part)]


def contour(part: Part) -> list[list[list[float]]]:
    return [[point] for point in pairs(part)]


def rle(part: Part) -> dict[str, Any]:
    found = reference.frPyObjects([part], *SIZE)[0]
    return {"size": list(SIZE), "counts": found["counts"].decode()}


def as_bytes_text(part: Part) -> dict[str, Any]:
    return rle(part) | {"counts": str(rle(part)["counts"].encode())}


def via(part: Part) -> dict[str, Any]:
    return {"name": "polygon", "all_points_x": part[0::2], "all_points_y": part[1::2]}


def truth(parts: list[Part]) -> np.ndarray[Any, Any]:
    return reference.decode(reference.merge(reference.frPyObjects(parts, *SIZE)))


FORMS: dict[str, tuple[Any, list[Part]]] = {
    "flat": (ONE, [ONE]),
    "pairs without the outer list": (pairs(ONE), [ONE]),
    "pairs": ([pairs(ONE)], [ONE]),
    "pairs of two parts": ([pairs(ONE), pairs(TWO)], [ONE, TWO]),
    "points": (points(ONE), [ONE]),
    "points of two parts": ([points(ONE), points(TWO)], [ONE, TWO]),
    "a contour": (contour(ONE), [ONE]),
    "contours": ([contour(ONE), contour(TWO)], [ONE, TWO]),
    "a list of one RLE": ([rle(ONE)], [ONE]),
    "a list of RLE": ([rle(ONE), rle(TWO)], [ONE, TWO]),
    "polygons and RLE": ([ONE, rle(TWO)], [ONE, TWO]),
    "counts as b'…'": (as_bytes_text(ONE), [ONE]),
    "a list of counts as b'…'": ([as_bytes_text(ONE), as_bytes_text(TWO)], [ONE, TWO]),
    "polygons in text": (json.dumps([ONE, TWO]), [ONE, TWO]),
    "pairs in text": (json.dumps([pairs(ONE)]), [ONE]),
    "RLE in text": (json.dumps(rle(TWO)), [TWO]),
    "points of VIA": (via(TWO), [TWO]),
}
PARTS: dict[str, tuple[Any, list[Part]]] = {
    "two points": ([ONE, SLIVER], [ONE]),
    "two points first": ([SLIVER, ONE, TWO], [ONE, TWO]),
    "a point": ([ONE, [3.0, 3.0]], [ONE]),
    "an odd count": ([ONE, [*TWO, 7.0]], [ONE]),
    "no number": ([ONE, [*TWO[:-1], None], TWO], [ONE, TWO]),
    "text": ([ONE, "TWO"], [ONE]),
    "far beyond": ([ONE, [1e9, 5.0, 24.0, 5.0, 14.0, 35.0]], [ONE]),
    "an empty part": ([ONE, []], [ONE]),
    "two points, in pairs": ([pairs(ONE), pairs(SLIVER)], [ONE]),
    "two points, as contour": ([contour(SLIVER), contour(TWO)], [TWO]),
    "an RLE of another size": ([rle(ONE), rle(TWO) | {"size": [9, 9]}], [ONE]),
    "a corrupt RLE": ([rle(ONE), {"size": list(SIZE), "counts": "~"}], [ONE]),
}


def document(*segmentations: Any, **more: Any) -> dict[str, Any]:
    base = {"image_id": 1, "category_id": 3, "bbox": [4, 5, 46, 30], "area": 300, "iscrowd": 0}
    rows = [base | {"id": k, "segmentation": s} | more for k, s in enumerate(segmentations, 7)]
    return {
        "images": [{"id": 1, "height": SIZE[0], "width": SIZE[1], "file_name": "a.png"}],
        "annotations": rows,
        "categories": [{"id": 3, "name": "cat"}],
    }


def drawn(segmentation: Any) -> np.ndarray[Any, Any]:
    canvas = np.zeros(SIZE, dtype=np.uint8)
    found = crop_of(segmentation, SIZE)
    assert found is not None
    bitmap, (x, y) = found
    canvas[y : y + bitmap.shape[0], x : x + bitmap.shape[1]] = bitmap
    return canvas


def written(content: dict[str, Any], folder: Path) -> Path:
    path = folder / "data.json"
    path.write_text(json.dumps(content))
    return path


def of_kind(file: CocoFile, kind: str) -> list[Problem]:
    return [problem for problem in check(file) if problem.kind == kind]


@pytest.mark.parametrize("title", FORMS)
def test_a_mask_in_another_form_is_the_same_mask(title: str, tmp_path: Path) -> None:
    value, parts = FORMS[title]
    path = written(document(value, [ONE]), tmp_path)
    for file in (CocoFile.read(path), open_index(path)):
        first, second = file.instances_of(1)
        assert first.state == second.state == MaskState.MASK
        assert np.array_equal(drawn(first.segmentation), truth(parts)), file
        assert file.mask_counts() == {3: 2}
    file = CocoFile.read(path)
    assert file.document["annotations"][0]["segmentation"] == value, "the file keeps its value"
    [finding] = of_kind(file, "masks_in_another_form")
    assert finding.ids == ()
    assert finding.message.startswith(f"{path}: masks in another form, read as COCO's: 1 as ")
    assert not of_kind(file, "broken_mask")


@pytest.mark.parametrize("title", PARTS)
def test_an_unreadable_part_goes_and_the_mask_stays(title: str, tmp_path: Path) -> None:
    value, parts = PARTS[title]
    path = written(document(value), tmp_path)
    for file in (CocoFile.read(path), open_index(path)):
        [instance] = file.instances_of(1)
        assert instance.state == MaskState.MASK
        assert np.array_equal(drawn(instance.segmentation), truth(parts))
    file = CocoFile.read(path)
    assert file.document["annotations"][0]["segmentation"] == value
    [finding] = of_kind(file, "unreadable_part_of_mask")
    assert finding.ids == (7,)
    assert f"of {len(value)}: " in finding.message
    [stored] = open_index(path).readings[-1:]
    assert "1 mask with unreadable parts: annotation 7: part" in stored.message


@pytest.mark.parametrize(
    "value",
    [
        [4, 5, 24, 5],  # a box
        [1, 2, 3, 4, 5, 6, 7],
        [[1, 2], [3, 4]],
        "polygon",
        "[[1, 2",
        {"x": 1, "y": 2},
        [{"x": 1, "y": 2}, {"x": 3}],
        [[[1, 2, 3], [4, 5, 6], [7, 8, 9]]],
        {"all_points_x": [1, 2, 3], "all_points_y": [1, 2]},
        {"size": list(SIZE), "counts": "b'unfinished"},
        [{"size": list(SIZE), "counts": "~"}],
        [[[[[1, 2]]]]],
        7,
        True,
    ],
)
def test_what_is_not_unambiguous_stays_broken(value: Any) -> None:
    file = CocoFile.from_document(document(value), "data.json")
    assert file.states_of(1) == [MaskState.BROKEN]
    assert of_kind(file, "broken_mask")


def test_a_mask_as_coco_writes_it_is_the_same_object() -> None:
    for value in ([ONE], [ONE, TWO], rle(ONE), None, [], [[]]):
        record = document(value)["annotations"][0]
        assert standard_record(record, SIZE).record is record


@settings(max_examples=60, deadline=None, database=None)
@given(
    parts=st.lists(
        st.lists(st.floats(0, 45, width=32), min_size=6, max_size=12).map(
            lambda p: p[: len(p) // 2 * 2]
        ),
        min_size=1,
        max_size=3,
    ),
    form=st.sampled_from([pairs, points, contour]),
)
def test_any_polygons_in_any_form_are_the_same_polygons(
    parts: list[Part], form: Callable[[Part], Any]
) -> None:
    read = standard_record({"segmentation": [form(part) for part in parts]}, SIZE)
    assert read.record["segmentation"] == parts
    if len(parts) == 1:
        assert (
            standard_record({"segmentation": form(parts[0])}, SIZE).record["segmentation"] == parts
        )


def corners(bbox: list[float], degrees: float) -> list[tuple[float, float]]:
    """The corners of a box turned about its centre, one by one."""
    x, y, w, h = bbox
    turn = complex(math.cos(math.radians(degrees)), math.sin(math.radians(degrees)))
    centre = complex(x + w / 2, y + h / 2)
    found = []
    for dx, dy in ((-w, -h), (w, -h), (w, h), (-w, h)):
        corner = centre + complex(dx, dy) / 2 * turn
        found.append((corner.real, corner.imag))
    return found


@settings(max_examples=80, deadline=None, database=None)
@given(bbox=st.tuples(*[st.floats(1, 40)] * 4).map(list), degrees=st.floats(-720, 720))
def test_the_upright_box_is_around_the_turned_one(bbox: list[float], degrees: float) -> None:
    found = upright_box({"bbox": bbox, "attributes": {"rotation": degrees}}) or bbox
    xs, ys = zip(*corners(bbox, degrees), strict=True)
    x, y, w, h = found
    expected = (min(xs), min(ys), max(xs), max(ys))
    assert np.allclose((x, y, x + w, y + h), expected, atol=2e-3)


@pytest.mark.parametrize(
    ("attributes", "segmentation"),
    [
        ({"rotation": 0.0}, None),
        ({"rotation": 360}, None),
        ({"rotation": "left"}, None),
        ({"rotation": True}, None),
        ({"rotation": float("nan")}, None),
        ({"occluded": False}, None),
        ("rotation", None),
        ({"rotation": 45.0}, [ONE]),  # its mask says where it is
    ],
)
def test_a_box_stays_without_a_turn(attributes: Any, segmentation: Any) -> None:
    record = {"bbox": [4, 5, 20, 10], "attributes": attributes, "segmentation": segmentation}
    assert upright_box(record) is None


def test_turned_boxes_are_upright_for_all_readers_and_said_once(tmp_path: Path) -> None:
    content = document(None, None, None)
    for row, angle in zip(content["annotations"], (90.0, 338.55, 0.0), strict=True):
        row |= {"bbox": [20.0, 10.0, 20.0, 10.0], "attributes": {"rotation": angle}}
    path = written(content, tmp_path)
    file, index = CocoFile.read(path), open_index(path)
    assert file.instances_of(1)[0].box == (25.0, 5.0, 35.0, 25.0)
    assert [i.box for i in file.instances_of(1)] == [i.box for i in index.instances_of(1)]
    assert file.document["annotations"][0]["bbox"] == [20.0, 10.0, 20.0, 10.0]
    [said] = of_kind(file, "boxes_turned_by_rotation")
    assert "2 boxes turned by attributes.rotation" in said.message
    assert [p.message for p in index.suspected] == [p.message for p in file.suspected]


def test_a_filled_mask_does_not_turn_its_box_back() -> None:
    row = {"bbox": [20, 10, 20, 10], "attributes": {"rotation": 90}, "segmentation": [ONE]}
    assert upright_box(row) is None
    assert upright_box(row | {"halfmask": {"state": "filled"}}) == [25.0, 5.0, 10.0, 20.0]


@real_tool(
    tool="CVAT",
    writes="COCO: boxes before their turn, and `attributes.rotation`",
    does="the upright box around the turned one",
)
def test_the_upright_box_is_nearer_to_the_object_than_the_box_before_the_turn() -> None:
    """CVAT's own numbers: the box before the turn, and the object's own box."""
    rows = [
        ([11.5, 58.5, 563.0, 584.0], 270.0, [1.0, 69.0, 585.0, 564.0]),
        ([442.63, 279.58, 55.11, 101.09], 338.55, [437.0, 281.0, 61.0, 99.0]),
        ([218.43, 100.12, 147.33, 114.76], 298.61, [244.0, 93.0, 130.0, 151.0]),
        ([279.46, 228.45, 55.38, 21.84], 297.76, [285.0, 217.0, 43.0, 50.0]),
        ([139.5, -137.5, 359.0, 636.0], 270.0, [1.0, 1.0, 637.0, 360.0]),
    ]

    def iou(one: list[float], other: list[float]) -> float:
        first, second = ((box[0], box[1], box[0] + box[2], box[1] + box[3]) for box in (one, other))
        return box_iou(first, second)

    before = [iou(bbox, own) for bbox, _, own in rows]
    after = []
    for bbox, angle, own in rows:
        upright = upright_box({"bbox": bbox, "attributes": {"rotation": angle}})
        assert upright is not None
        after.append(iou(upright, own))
    assert np.mean(after) > 0.8 > 0.65 > np.mean(before)
