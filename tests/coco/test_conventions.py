"""What a whole file writes unlike COCO: found, named with an option, and gone with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as reference

import halfmask
from halfmask.coco.edit import strip_masks
from halfmask.coco.file import CocoFile
from halfmask.coco.index.place import open_index
from halfmask.coco.reading.read_as import ReadAs
from halfmask.coco.supervision import MaskState
from halfmask.errors import InputError
from halfmask.formats.source import open_source
from tests.real_tools import real_tool

PHOTOS = Path(halfmask.__file__).parent / "assets/photos/photos.json"
Document = dict[str, Any]
Change = Callable[[dict[str, Any], tuple[int, int]], None]


def sound() -> Document:
    """Twelve photographs and their 69 objects, as COCO writes them; polygons only."""
    document: Document = json.loads(PHOTOS.read_text())
    document["annotations"] = [
        row for row in document["annotations"] if isinstance(row["segmentation"], list)
    ]
    return document


def changed(document: Document, change: Change) -> Document:
    sizes = {image["id"]: (image["height"], image["width"]) for image in document["images"]}
    for row in document["annotations"]:
        change(row, sizes[row["image_id"]])
    return document


def as_corners(row: dict[str, Any], _: tuple[int, int]) -> None:
    x, y, w, h = row["bbox"]
    row["bbox"] = [x, y, x + w, y + h]


def as_centre(row: dict[str, Any], _: tuple[int, int]) -> None:
    x, y, w, h = row["bbox"]
    row["bbox"] = [x + w / 2, y + h / 2, w, h]


def as_unit(row: dict[str, Any], size: tuple[int, int]) -> None:
    height, width = size
    factors = (width, height, width, height)
    row["bbox"] = [v / f for v, f in zip(row["bbox"], factors, strict=True)]
    row["area"] /= height * width


def without_masks(row: dict[str, Any], _: tuple[int, int]) -> None:
    row["segmentation"] = []


def with_polygons(factor: float) -> Change:
    def change(row: dict[str, Any], size: tuple[int, int]) -> None:
        height, width = size
        row["segmentation"] = [
            [v / (height if k % 2 else width) * factor for k, v in enumerate(part)]
            for part in row["segmentation"]
        ]

    return change


def as_brush(row: dict[str, Any], size: tuple[int, int]) -> None:
    """As CVAT writes masks that are drawn with a brush."""
    found = reference.merge(reference.frPyObjects(row["segmentation"], *size))
    row["segmentation"] = {"size": list(size), "counts": found["counts"].decode()}
    row["iscrowd"] = 1


def both(*changes: Change) -> Change:
    def change(row: dict[str, Any], size: tuple[int, int]) -> None:
        for one in changes:
            one(row, size)

    return change


CASES: dict[str, tuple[Change, str, dict[str, Any]]] = {
    "corners": (as_corners, "boxes_look_like_xyxy", {"read_as": "xyxy"}),
    "corners, no masks": (
        both(as_corners, without_masks),
        "boxes_look_like_xyxy",
        {"read_as": "xyxy"},
    ),
    "centre and size": (as_centre, "boxes_look_like_centre_and_size", {"read_as": "cxcywh"}),
    "centre and size, no masks": (
        both(as_centre, without_masks),
        "boxes_look_like_centre_and_size",
        {"read_as": "cxcywh"},
    ),
    "0 to 1": (as_unit, "boxes_from_0_to_1", {"read_as": "unit-xywh"}),
    "0 to 1, no masks": (
        both(as_unit, without_masks),
        "boxes_from_0_to_1",
        {"read_as": "unit-xywh"},
    ),
    "corners from 0 to 1": (
        both(as_corners, as_unit),
        "boxes_from_0_to_1",
        {"read_as": "unit-xyxy"},
    ),
    "YOLO's boxes": (both(as_centre, as_unit), "boxes_from_0_to_1", {"read_as": "unit-cxcywh"}),
    "polygons from 0 to 1": (
        with_polygons(1),
        "polygons_in_other_units",
        {"read_as": "unit-polygons"},
    ),
    "polygons in percent": (
        with_polygons(100),
        "polygons_in_other_units",
        {"read_as": "percent-polygons"},
    ),
    "a brush": (as_brush, "masks_are_crowds", {"crowd_masks": True}),
}


def suspected(file: CocoFile) -> list[str]:
    return [str(problem.kind) for problem in file.suspected]


def written(document: Document, folder: Path) -> Path:
    path = folder / "data.json"
    path.write_text(json.dumps(document))
    return path


def test_a_sound_file_is_not_suspected(tmp_path: Path) -> None:
    assert suspected(CocoFile.from_document(sound(), "data.json")) == []
    bare = changed(sound(), without_masks)
    assert suspected(CocoFile.from_document(bare, "data.json")) == []
    whole = json.loads(PHOTOS.read_text())
    for keep in (set(), {1}, {c["id"] for c in whole["categories"]}):
        stripped = strip_masks(whole, keep)
        assert suspected(CocoFile.from_document(stripped, "data.json")) == []


@real_tool(
    tool="CVAT",
    writes="COCO: masks of the brush, with `iscrowd` 1",
    does="suspected, with a message; `--crowd-masks` reads them as masks of single objects",
)
@pytest.mark.parametrize("title", CASES)
def test_the_remedy_of_a_finding_makes_the_file_sound(title: str, tmp_path: Path) -> None:
    change, kind, option = CASES[title]
    path = written(changed(sound(), change), tmp_path)
    file = CocoFile.read(path)
    [problem] = file.suspected
    assert problem.kind == kind
    flag = f"--read-as {option['read_as']}" if "read_as" in option else "--crowd-masks"
    assert flag in problem.message
    assert [p.message for p in open_index(path).suspected] == [problem.message]

    opened = open_source(
        path, read_as=ReadAs.of(option.get("crowd_masks", False), option.get("read_as"))
    )
    mended, truth = opened.read(), CocoFile.from_document(sound(), "truth.json")
    assert mended.suspected == []
    assert not opened.unread
    for image_id in truth.image_ids:
        ours, theirs = mended.instances_of(image_id), truth.instances_of(image_id)
        assert np.allclose([i.box for i in ours], [i.box for i in theirs], atol=1e-2)
        for one, other in zip(ours, theirs, strict=True):
            if "no masks" in title:
                assert one.state == MaskState.MISSING
                continue
            assert one.state == other.state
            if other.state == MaskState.MASK:
                size = truth.size_of(image_id)
                ious = reference.iou([rle(one, size)], [rle(other, size)], [0])
                assert ious[0][0] > (0.98 if "polygons" in title else 0.9999)


def rle(instance: Any, size: tuple[int, int]) -> Any:
    value = instance.segmentation
    if isinstance(value, list):
        return reference.merge(reference.frPyObjects(value, *size))
    return value


def test_the_copy_is_made_again_when_the_file_changes(tmp_path: Path) -> None:
    path = written(changed(sound(), as_corners), tmp_path)
    as_ = ReadAs.of(forms="xyxy")
    first = open_source(path, read_as=as_)
    assert open_source(path, read_as=as_).annotations == first.annotations
    document = json.loads(path.read_text())
    document["annotations"][0]["bbox"] = [1, 2, 30, 40]
    path.write_text(json.dumps(document))
    again = open_source(path, read_as=as_)
    rows = json.loads(again.annotations.read_text())["annotations"]
    assert rows[0]["bbox"] == [1, 2, 29, 38]
    assert again.original == path


def test_an_option_without_effect_is_a_problem(tmp_path: Path) -> None:
    path = written(sound(), tmp_path)
    opened = open_source(path, read_as=ReadAs.of(crowd_masks=True))
    assert "options without effect" in opened.unread[0]
    assert "iscrowd 1" in opened.unread[0]


@pytest.mark.parametrize("words", ["xxyy", "xyxy,cxcywh", "unit-polygons,percent-polygons"])
def test_words_that_read_as_does_not_know(words: str) -> None:
    with pytest.raises(InputError, match="--read-as: expected one of xywh, xyxy"):
        ReadAs.of(forms=words)


def test_crowds_of_coco_are_not_suspected() -> None:
    """A class with one crowd and few objects, its masks stripped, as `split` leaves it."""
    document = json.loads(PHOTOS.read_text())
    crowd = next(row for row in document["annotations"] if row["iscrowd"] == 0)
    document = changed(document, without_masks)
    size = next(i for i in document["images"] if i["id"] == crowd["image_id"])
    counts = {
        "size": [size["height"], size["width"]],
        "counts": [9, size["height"] * size["width"] - 9],
    }
    document["annotations"].append(crowd | {"id": 1, "iscrowd": 1, "segmentation": counts})
    assert suspected(CocoFile.from_document(document, "data.json")) == []


def test_to_coco_writes_the_file_as_coco_does(tmp_path: Path) -> None:
    path = written(changed(sound(), both(as_corners, as_brush)), tmp_path)
    out = tmp_path / "coco.json"
    done = halfmask.convert("to-coco", path, out, crowd_masks=True, read_as="xyxy")
    assert done.ok, done.problems
    mended, truth = CocoFile.read(out), CocoFile.from_document(sound(), "truth.json")
    assert mended.suspected == mended.readings == []
    assert mended.mask_counts() == truth.mask_counts()
    boxes = [row["bbox"] for row in mended.document["annotations"]]
    assert np.allclose(boxes, [row["bbox"] for row in truth.document["annotations"]], atol=1e-3)


def test_a_recipe_says_how_to_write_a_copy(tmp_path: Path) -> None:
    """The remedy that it names is what the test above does."""
    with pytest.raises(InputError, match="convert to-coco FILE COPY --crowd-masks"):
        halfmask.train("coco_mini_voc2nonvoc_box_segmenter", out=tmp_path, crowd_masks=True)


def test_the_flags_are_those_that_were_read() -> None:
    as_ = ReadAs.of(True, "unit-xyxy, percent-polygons")
    assert as_.flags == ["--crowd-masks", "--read-as", "unit-xyxy,percent-polygons"]
    assert ReadAs.of(True, as_.flags[-1]) == as_
    assert ReadAs.of().flags == []
