"""One file told in another's classes."""

import copy
from typing import Any

import pytest

from halfmask.coco.edit import matching_ids, relabel
from halfmask.coco.file import CocoFile
from halfmask.errors import InputError

MODEL = [
    {"id": 1, "name": "cup"},
    {"id": 2, "name": "tree"},
    {"id": 3, "name": "dog"},
    {"id": 4, "name": "hot dog"},
]


def test_annotations_keep_their_class_by_name(document: dict[str, Any]) -> None:
    before = copy.deepcopy(document)
    ids = matching_ids(document["categories"], MODEL, "f")
    assert ids == {7: 1, 3: 3}
    file = CocoFile.from_document(relabel(document, ids, MODEL), "f")
    old = CocoFile.from_document(document, "f")
    for image in (1, 2):
        names = [old.name_of(a["category_id"]) for a in old.annotations_of(image)]
        assert [file.name_of(a["category_id"]) for a in file.annotations_of(image)] == names
        assert file.states_of(image) == old.states_of(image)
    assert file.categories == MODEL
    assert file.mask_counts() == {1: old.mask_counts()[7], 2: 0, 3: old.mask_counts()[3], 4: 0}
    assert document == before


def test_an_unknown_category_does_not_become_a_class(document: dict[str, Any]) -> None:
    """Category 2 is none of this file's, but one of the other's."""
    document["annotations"][0]["category_id"] = 2
    document["annotations"][1]["category_id"] = True
    document["annotations"].append("nonsense")
    file = CocoFile.from_document(
        relabel(document, matching_ids(document["categories"], MODEL, "f"), MODEL), "f"
    )
    assert [a["id"] for a in file.annotations_of(1)] == []
    assert [a["id"] for a in file.annotations_of(2)] == [12, 13]


def test_names_that_do_not_match_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"f: its class 'hotdog' is not among the model's 4 classes.*near: hot dog"
    ):
        matching_ids([{"id": 1, "name": "hotdog"}], MODEL, "f")
    with pytest.raises(InputError, match="more than one has the name"):
        matching_ids([{"id": 1, "name": "cup"}], [*MODEL, {"id": 9, "name": "cup"}], "f")
    with pytest.raises(InputError, match="more than one has the name"):
        matching_ids([{"id": 1, "name": "cup"}, {"id": 2, "name": "cup"}], MODEL, "f")
    assert matching_ids([{"id": 8, "name": "cup"}], [*MODEL, {"id": 9, "name": "tree"}], "f") == {
        8: 1
    }
