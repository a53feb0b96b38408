"""Which of a teacher's masks are taken over, and that nothing else of a file changes."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from halfmask.coco.adopt import adopt_fillings, fillings_of
from halfmask.coco.file import CocoFile
from halfmask.coco.supervision import MaskState, mask_weight

BOX = [10.0, 20.0, 40.0, 30.0]
WHOLE = [[10, 20, 50, 20, 50, 50, 10, 50, 10, 40]]
HALF = [[10, 20, 30, 20, 30, 50, 10, 50, 10, 40]]


def document(*annotations: dict[str, Any]) -> dict[str, Any]:
    rows = [
        {"id": k + 1, "image_id": 1, "category_id": 1, "bbox": BOX, "iscrowd": 0} | a
        for k, a in enumerate(annotations)
    ]
    return {
        "images": [{"id": 1, "width": 100, "height": 80, "file_name": "1.jpg"}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": rows,
    }


def filling(score: float = 0.9, segmentation: Any = WHOLE, state: str = "filled") -> dict[str, Any]:
    return {
        "segmentation": segmentation,
        "area": 1200.0,
        "halfmask": {"model": "m", "score": score, "state": state},
    }


def adopt(own: dict[str, Any], found: dict[str, Any], use: Any = "annotated") -> Any:
    file = CocoFile.from_document(document(own), "own.json")
    filled = CocoFile.from_document(document(found), "filled.json")
    return adopt_fillings(file, use, fillings_of(filled), min_score=0.6, min_tightness=0.8)


def test_a_good_mask_is_taken_over() -> None:
    own = document({})
    before = copy.deepcopy(own)
    file = CocoFile.from_document(own, "own.json")
    found = {(1, 1): {**own["annotations"][0], **filling()}}
    taken = adopt_fillings(file, "annotated", found, min_score=0.6, min_tightness=0.8)
    assert (taken.kept, taken.doubtful, taken.loose) == (1, 0, 0)
    assert own == before, "the document given stays as it is"
    after = CocoFile.from_document(taken.document, "own.json")
    assert after.states_of(1, "filled") == [MaskState.MASK]
    assert after.states_of(1, "annotated") == [MaskState.FILLED]


@pytest.mark.parametrize(
    ("found", "counts"),
    [
        (filling(score=0.59), (0, 1, 0)),
        (filling(segmentation=HALF), (0, 0, 1)),
        (filling(segmentation=[]), (0, 0, 0)),
        ({}, (0, 0, 0)),
        (filling(state="rejected"), (0, 0, 0)),
    ],
)
def test_others_are_not(found: dict[str, Any], counts: tuple[int, int, int]) -> None:
    taken = adopt({}, found)
    assert (taken.kept, taken.doubtful, taken.loose) == counts
    assert "segmentation" not in taken.document["annotations"][0]


def test_a_persons_mask_is_never_replaced() -> None:
    for own, use in (
        ({"segmentation": HALF}, "annotated"),
        (filling(state="accepted"), "accepted"),
    ):
        taken = adopt(own, filling(), use)
        assert taken.kept == 0
        assert taken.document["annotations"][0]["segmentation"] == own["segmentation"]


def test_an_older_filling_that_does_not_count_goes() -> None:
    taken = adopt(filling(score=0.99, segmentation=HALF), filling(score=0.1))
    assert taken.doubtful == 1
    assert "segmentation" not in taken.document["annotations"][0]


def test_crowds_and_suspects_stay() -> None:
    for own in (
        {"iscrowd": 1, "segmentation": WHOLE},
        {"segmentation": [[10, 20, 50, 20, 50, 50, 10, 50]]},
    ):
        taken = adopt(own, filling())
        assert taken.kept == 0
        assert taken.document["annotations"][0]["segmentation"] == own["segmentation"]


@pytest.mark.parametrize(
    ("annotation", "weight"),
    [
        ({"segmentation": WHOLE}, 1.0),
        (filling(0.25), 0.25),
        (filling(0.25, state="accepted"), 1.0),
        (filling(7.0), 1.0),
        (filling(-1.0), 0.0),
        ({"halfmask": {"state": "filled"}}, 1.0),
        ({"halfmask": {"state": "filled", "score": "high"}}, 1.0),
        ({"halfmask": {"state": "filled", "score": float("nan")}}, 1.0),
        ({"halfmask": 3}, 1.0),
    ],
)
def test_a_masks_weight(annotation: dict[str, Any], weight: float) -> None:
    assert mask_weight(annotation) == weight


@pytest.mark.parametrize("state", ["accepted", "redrawn"])
def test_what_a_person_looked_at_needs_no_score(state: str) -> None:
    taken = adopt({}, filling(score=0.1, segmentation=HALF, state=state))
    assert (taken.kept, taken.doubtful, taken.loose) == (1, 0, 0)
    assert taken.document["annotations"][0]["segmentation"] == HALF


def test_a_mask_must_fill_the_box_of_the_file_that_is_learnt_from() -> None:
    assert adopt({"bbox": [10.0, 20.0, 90.0, 60.0]}, filling()).loose == 1


def test_ids_that_occur_twice_bring_no_mask() -> None:
    own = document({}, {"id": 1, "bbox": [50.0, 20.0, 20.0, 20.0]}, {"id": 3})
    file = CocoFile.from_document(own, "own.json")
    rows = [{**a, **filling()} for a in own["annotations"]]
    found = fillings_of(CocoFile.from_document({**own, "annotations": rows}, "filled.json"))
    assert set(found) == {(1, 3)}
    taken = adopt_fillings(file, "annotated", found, min_score=0.6, min_tightness=0.8)
    assert ["segmentation" in a for a in taken.document["annotations"]] == [False, False, True]
