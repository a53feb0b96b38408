"""`strip_masks` leaves nothing of a mask that a model could see, and touches nothing else."""

import copy
from typing import Any

from halfmask.coco.edit import strip_masks
from halfmask.coco.file import CocoFile


def test_other_classes_lose_mask_and_area(document: dict[str, Any]) -> None:
    before = copy.deepcopy(document)
    document["annotations"][0]["halfmask"] = {"state": "filled"}
    stripped = strip_masks(document, {7})
    assert document["annotations"][0]["segmentation"] == before["annotations"][0]["segmentation"]
    first = stripped["annotations"][0]
    assert "segmentation" not in first
    assert "halfmask" not in first
    assert first["area"] == 18.0 * 18.0
    assert {k: v for k, v in first.items() if k != "area"} == {
        k: v for k, v in before["annotations"][0].items() if k not in ("segmentation", "area")
    }
    assert stripped["annotations"][1:] == before["annotations"][1:]
    assert {k: v for k, v in stripped.items() if k != "annotations"} == {
        k: v for k, v in before.items() if k != "annotations"
    }
    assert list(stripped) == list(before)


def test_crowds_stay(document: dict[str, Any]) -> None:
    assert strip_masks(document, set())["annotations"][3] == document["annotations"][3]


def test_an_area_is_not_invented_and_one_without_box_goes(document: dict[str, Any]) -> None:
    del document["annotations"][0]["area"]
    document["annotations"][2]["bbox"] = [1, 2, float("nan"), 4]
    stripped = strip_masks(document, set())
    assert "area" not in stripped["annotations"][0]
    assert "area" not in stripped["annotations"][2]


def test_counts_after_the_split(document: dict[str, Any]) -> None:
    assert CocoFile.from_document(strip_masks(document, {7}), "f").mask_counts() == {3: 0, 7: 1}
