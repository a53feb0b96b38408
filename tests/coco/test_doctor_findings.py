"""Faults of a whole file that no annotation shows by itself, and whether an estimate
for classes without masks can be had.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from halfmask.coco.doctor.checks import check, duplicate_keys
from halfmask.coco.doctor.estimate import estimability, hideable
from halfmask.coco.file import CocoFile
from halfmask.coco.problems import Problem, ProblemKind


def found(document: dict[str, Any], kind: ProblemKind) -> list[Problem]:
    return [p for p in check(CocoFile.from_document(document, "data.json")) if p.kind == kind]


@pytest.mark.parametrize("name", ["Cup", " cup", "cup\t", "CUP "])
def test_names_that_a_person_reads_as_one_are_reported(document: dict[str, Any], name: str) -> None:
    document["categories"].append({"id": 9, "name": name})
    (problem,) = found(document, ProblemKind.ALIKE_CATEGORY_NAMES)
    assert problem.ids == (7, 9)
    assert repr(name) in problem.message


def test_equal_and_different_names_are_not_alike(document: dict[str, Any]) -> None:
    document["categories"] += [{"id": 9, "name": "cup"}, {"id": 11, "name": "cups"}]
    assert not found(document, ProblemKind.ALIKE_CATEGORY_NAMES)
    assert found(document, ProblemKind.DUPLICATE_CATEGORY_NAME)


def boxes(document: dict[str, Any], rows: list[list[float]]) -> dict[str, Any]:
    base = {"image_id": 1, "category_id": 7, "iscrowd": 0, "area": 100}
    return document | {
        "annotations": [{**base, "id": k, "bbox": bbox} for k, bbox in enumerate(rows)]
    }


CORNERS = [[20, 10, 38, 28], [25, 5, 40, 30], [2, 15, 20, 25], [30, 20, 39, 29], [1, 1, 5, 5]]


def test_boxes_written_as_corners_are_suspected(document: dict[str, Any]) -> None:
    (problem,) = found(boxes(document, CORNERS), ProblemKind.BOXES_XYXY)
    assert "4 of 5 boxes" in problem.message
    assert "width = x2 − x1" in problem.message


def test_good_boxes_few_boxes_and_a_single_counter_example_are_not_suspected(
    document: dict[str, Any],
) -> None:
    sizes = [[x, y, right - x, bottom - y] for x, y, right, bottom in CORNERS]
    assert not found(boxes(document, sizes), ProblemKind.BOXES_XYXY)
    assert not found(boxes(document, CORNERS[:3]), ProblemKind.BOXES_XYXY)
    assert not found(boxes(document, [*CORNERS, [20, 10, 8, 8]]), ProblemKind.BOXES_XYXY)
    assert not found(boxes(document, []), ProblemKind.BOXES_XYXY)
    # Sticking out of the image as corners too: some other fault.
    assert not found(boxes(document, [*CORNERS, [20, 10, 50, 28]]), ProblemKind.BOXES_XYXY)


def test_keys_that_stand_twice_anywhere(tmp_path: Path, document: dict[str, Any]) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document))
    assert duplicate_keys(path) == []
    path.write_text(
        '\ufeff{"images": [{"id": 1, "file_name": "a", "id": 2}], "x": {"k": [1], "k": {"k": 2}}}',
        "utf-8",
    )
    first, second = duplicate_keys(path)
    assert (first.ids, second.ids) == ((2,), ())
    assert first.message.startswith("image 2: the key 'id' occurs 2 times")
    assert second.message.startswith("an object with the keys k: the key 'k'")


def test_a_class_may_be_hidden_that_has_enough_masks_and_not_too_many() -> None:
    counts = {1: 40, 2: 33, 3: 10, 4: 9, 5: 8}  # 100: a third of it is 33.3
    assert hideable(counts, [1, 2, 3, 4, 5]) == [2, 3]
    assert hideable(counts, [1, 2]) == [2]
    assert hideable({1: 0, 2: 0}, [1, 2], 0) == []


@pytest.mark.parametrize(("classes", "hide"), [(4, 1), (6, 2), (15, 5), (80, 5)])
def test_how_many_to_hide(classes: int, hide: int) -> None:
    answer = estimability(dict.fromkeys(range(classes), 50), without=3)
    assert answer["possible"]
    assert answer["hide"] == hide
    assert f"hide={hide} " in answer["command"]


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({}, "no annotation has a usable mask"),
        ({1: 0}, "no annotation has a usable mask"),
        ({1: 9, 2: 5}, "no class has 10 masks (14 in all)"),
        (
            {1: 90, 2: 90, 3: 5},
            "none of the 2 classes with many masks meets this; 1 more has some masks",
        ),
    ],
)
def test_why_not(counts: dict[int, int], words: str) -> None:
    answer = estimability(counts, without=1)
    assert (answer["possible"], answer["hide"], answer["command"]) == (False, 0, None)
    assert words in answer["text"]
