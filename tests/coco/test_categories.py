"""Who the masked classes are: VOC, the rest, the paper's random splits, or names."""

import pytest

from halfmask.coco.categories import COCO_NAMES, NONVOC_IDS, VOC_IDS, random_split, resolve_masked
from halfmask.errors import InputError

COCO = [{"id": number, "name": name} for number, name in COCO_NAMES.items()]


def test_coco_has_80_classes_and_voc_20_of_them() -> None:
    assert len(COCO_NAMES) == 80
    assert COCO_NAMES[1] == "person"
    assert COCO_NAMES[90] == "toothbrush"
    names = "person bicycle car motorcycle airplane bus train boat bird cat dog horse sheep cow bottle chair couch"
    assert {COCO_NAMES[i] for i in VOC_IDS} == {
        *names.split(),
        "potted plant",
        "dining table",
        "tv",
    }
    assert len(NONVOC_IDS) == 60
    assert not set(VOC_IDS) & set(NONVOC_IDS)


def test_random_split_of_any_number_of_classes() -> None:
    for trial, count, classes in [(1, 16, 32), (9, 20, 80), (2, 1000, 3000), (1, 5, 5)]:
        chosen = random_split(trial, count, classes)
        assert chosen == sorted(set(chosen)) == random_split(trial, count, classes)
        assert len(chosen) == count
        assert chosen[-1] < classes
    assert random_split(1, 16, 32) != random_split(2, 16, 32)


@pytest.mark.parametrize(("trial", "count"), [(0, 20), (1, 0), (1, 81)])
def test_random_split_refuses(trial: int, count: int) -> None:
    with pytest.raises(InputError, match="expected a trial"):
        random_split(trial, count)


def test_resolve_masked() -> None:
    assert resolve_masked("voc", COCO) == set(VOC_IDS)
    assert resolve_masked("nonvoc", COCO) == set(NONVOC_IDS)
    assert resolve_masked("dog, hot dog,Tv", COCO) == {18, 58, 72}
    ids = sorted(COCO_NAMES)
    assert resolve_masked("random:1:20", COCO) == {ids[i] for i in random_split(1, 20)}


def test_voc_goes_by_name() -> None:
    categories = [
        {"id": 5, "name": "Aeroplane"},
        {"id": 6, "name": "dog"},
        {"id": 9, "name": "anvil"},
    ]
    assert resolve_masked("voc", categories) == {5, 6}
    assert resolve_masked("nonvoc", categories) == {9}


def test_a_name_that_two_categories_share_names_both() -> None:
    assert resolve_masked(
        "cup", [{"id": 1, "name": "cup"}, {"id": 2, "name": "cup"}, {"id": 3, "name": "Cup"}]
    ) == {1, 2}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("dgo", "'dgo' is not a class of this file .80 classes.; near: dog"),
        ("dog,qqqqqq", "'qqqqqq' is not a class of this file .80 classes.$"),
        ("", "no class is named"),
        (" , ", "no class is named"),
        ("random:1", "expected random:TRIAL:COUNT"),
        ("random:a:b", "expected random:TRIAL:COUNT"),
        ("random:1:99", "count of 1 … 80"),
    ],
)
def test_resolve_masked_refuses(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve_masked(spec, COCO)


def test_voc_needs_voc_classes() -> None:
    with pytest.raises(InputError, match="none of the 20 VOC classes"):
        resolve_masked("voc", [{"id": 1, "name": "widget"}])
