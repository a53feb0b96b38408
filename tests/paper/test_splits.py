"""Section 4: who is A and who is B. VOC and the rest, and the 25 random splits of Figure 3."""

import numpy as np
import pytest

from halfmask.coco.categories import COCO_NAMES, NONVOC_IDS, VOC_IDS, random_split, resolve_masked

COCO = [{"id": number, "name": name} for number, name in COCO_NAMES.items()]
VOC = "1,2,3,4,5,6,7,9,16,17,18,19,20,21,44,62,63,64,67,72"
NONVOC = (
    "8,10,11,13,14,15,22,23,24,25,27,28,31,32,33,34,35,36,37,38,39,40,41,42,43,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,65,70,73,74,75,"
    "76,77,78,79,80,81,82,84,85,86,87,88,89,90"
)
NAMES = "person,bicycle,car,motorcycle,airplane,bus,train,boat,bird,cat,dog,horse,sheep,cow,bottle,chair,couch,potted plant,dining table,tv"


def test_voc_and_the_rest() -> None:
    assert ",".join(map(str, VOC_IDS)) == VOC
    assert ",".join(map(str, NONVOC_IDS)) == NONVOC
    assert [COCO_NAMES[i] for i in VOC_IDS] == NAMES.split(",")
    assert not set(VOC_IDS) & set(NONVOC_IDS)
    assert set(VOC_IDS) | set(NONVOC_IDS) == set(COCO_NAMES)
    assert resolve_masked("voc", COCO) == set(VOC_IDS)
    assert resolve_masked("nonvoc", COCO) == set(NONVOC_IDS)


@pytest.mark.parametrize(
    ("trial", "expected"),
    [
        (1, "6,8,9,12,13,27,34,35,45,47,50,54,55,57,59,61,63,66,73,77"),
        (2, "3,6,11,17,27,39,42,47,51,54,60,61,62,63,64,70,71,72,76,79"),
        (3, "2,3,6,10,11,17,18,19,21,23,29,30,34,40,44,46,51,59,61,71"),
        (4, "3,4,6,8,12,20,24,29,31,32,33,43,49,51,59,69,71,74,76,79"),
        (5, "0,1,4,8,13,15,17,18,21,22,26,27,29,30,42,47,48,61,62,69"),
    ],
)
def test_random_splits_are_the_papers(trial: int, expected: str) -> None:
    assert ",".join(map(str, random_split(trial, 20))) == expected
    ids = sorted(COCO_NAMES)
    assert resolve_masked(f"random:{trial}:20", COCO) == {ids[int(i)] for i in expected.split(",")}


def test_all_25_come_from_one_stream_in_order() -> None:
    stream = np.random.RandomState(3)
    for trial in range(1, 6):
        for count in (20, 30, 40, 50, 60):
            assert random_split(trial, count) == sorted(
                stream.choice(80, count, replace=False).tolist()
            ), (trial, count)
