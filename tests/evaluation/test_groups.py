"""No masks, few, many: by what the model was given, in JSON, tables and pictures."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from halfmask.coco.doctor.groups import MaskGroups, MasksGiven, group_title, mask_group, masks_in
from halfmask.coco.file import CocoFile
from halfmask.evaluation.measures.given_boxes import IouTable
from halfmask.evaluation.measures.metrics import compute_metrics
from halfmask.evaluation.sheet import focus_of
from halfmask.evaluation.tables import table
from halfmask.pictures.sets import about_sets, shown_sets

Make = Callable[..., Any]
BOX, OTHER = [10.0, 10.0, 90.0, 70.0], [100.0, 20.0, 150.0, 110.0]


@pytest.mark.parametrize(
    ("count", "threshold", "group", "title"),
    [
        (0, 10, "no_masks", "no masks"),
        (1, 10, "few", "few masks (1–9)"),
        (7, 10, "few", "few masks (1–9)"),
        (9, 10, "few", "few masks (1–9)"),
        (10, 10, "many", "many masks (10+)"),
        (1, 2, "few", "few masks (1)"),
        (1, 1, "many", "with masks"),
        (0, 0, "no_masks", "no masks"),
        (None, 10, "not_recorded", "not recorded"),
    ],
)
def test_the_group_of_a_class(count: int | None, threshold: int, group: Any, title: str) -> None:
    assert mask_group(count, threshold) == group
    assert group_title(group, masks_in(group, threshold)) == title


def test_a_file_of_other_classes_has_classes_without_masks() -> None:
    given = MasksGiven({"cat": 30, "dog": 7, "cow": None})
    file = [{"id": k, "name": n} for k, n in enumerate(("dog", "cat", "window", "cow"), 1)]
    groups = given.groups_of(file)
    assert groups is not None
    assert groups.members() == {"no_masks": {3}, "few": {1}, "many": {2}, "not_recorded": {4}}
    assert groups.unknown == {3}
    assert groups.summary() == (
        "10 or more of 1 class, 1–9 of 1, none of 1, an unrecorded number of 1"
    )
    assert MasksGiven({"cat": None}).groups_of(file) is None
    assert MasksGiven({}).groups_of(file) is None


def measured(
    document: Make, annotation: Make, detection: Make, groups: MaskGroups | None, masked: set[int]
) -> dict[str, Any]:
    rows = [annotation(1, 1, 7, BOX), annotation(2, 1, 3, OTHER)]
    file = CocoFile.from_document(document(rows), "truth")
    given = [(1, torch.tensor([1, 2]), detection([BOX, OTHER], [7, 3], shape="full"))]
    return compute_metrics(file, None, given, masked=masked, groups=groups, model="tiny")


def test_a_block_for_each_group(document: Make, annotation: Make, detection: Make) -> None:
    make = (document, annotation, detection)
    result = measured(*make, MaskGroups({7: 7, 3: 0}, 10, frozenset({3})), {7})
    assert list(result["groups"]) == ["no_masks", "few", "many"]
    assert [b["classes"] for b in result["groups"].values()] == [1, 1, 0]
    assert [b["masks"] for b in result["groups"].values()] == [[0, 0], [1, 9], [10, None]]
    assert result["groups"]["few"]["given_boxes"] == result["given_boxes"]["A"]
    assert result["groups"]["no_masks"]["given_boxes"] == result["given_boxes"]["B"]
    assert result["groups"]["many"]["given_boxes"]["miou"] is None
    rows = {row["id"]: (row["masks_in_training"], row["group"]) for row in result["per_category"]}
    assert (rows[7], rows[3]) == ((7, "few"), (0, "no_masks"))
    assert list(shown_sets(result)) == ["no masks", "few masks (1–9)", "all classes"]
    text = table(result, per_category=True)
    assert "1–9 of 1 class, none of 1 (1 of them not known to it by name)." in text
    assert "many masks" not in text, "a group without a class is not shown"
    assert "boxes only" not in text


def test_a_simulation_names_itself(document: Make, annotation: Make, detection: Make) -> None:
    make = (document, annotation, detection)
    result = measured(*make, MaskGroups({7: 700, 3: 500}), {7}) | {"masked": "cat"}
    assert list(shown_sets(result)) == ["A (--masked)", "B (the others)", "all classes"]
    assert about_sets(result).startswith("A: the 1 class of --masked cat; B: the other ")
    assert result["groups"]["many"]["classes"] == 2, "the truth stays in the JSON"


def test_what_is_not_recorded_is_not_guessed(
    document: Make, annotation: Make, detection: Make
) -> None:
    make = (document, annotation, detection)
    result = measured(*make, None, set())
    assert result["groups"] is None
    assert {row["masks_in_training"] for row in result["per_category"]} == {None}
    assert list(shown_sets(result)) == ["all classes"]
    assert "is not recorded" in table(result)
    known = measured(*make, None, {7})
    assert list(shown_sets(known)) == ["A (had masks)", "B (the others)", "all classes"]
    assert "is not recorded. A: the 1 class that had masks" in table(known)


def test_pictures_are_about_the_classes_with_the_fewest_masks() -> None:
    ious = IouTable()
    for category in (1, 1, 1, 2, 2, 2, 2, 3):
        ious.add(category, 0.5, 100, from_rle=False)
    focus = focus_of(ious, MaskGroups({1: 0, 2: 7, 3: 90}), {3})
    assert (focus.classes, focus.title) == ({1}, "classes without masks in training")
    focus = focus_of(ious, MaskGroups({1: 70, 2: 7, 3: 90}), {1, 3})
    assert focus.title == "classes with few masks in training (1–9)"
    assert focus.masks == 4
    every = [focus_of(ious, g, {1, 2}) for g in (MaskGroups({1: 70, 2: 17, 3: 0}), None)]
    assert [f.title for f in every] == ["all classes"] * 2, "one mask makes no picture"
    named = focus_of(ious, MaskGroups({1: 70, 2: 17, 3: 90}), {1, 2}, masked="voc")
    assert (named.classes, named.title) == ({3}, "classes other than --masked voc")
