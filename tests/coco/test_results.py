"""Detections from anybody's file: what is read, clipped, kept, and refused, with what to do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from halfmask.coco.file import CocoFile
from halfmask.coco.results import FoundBoxes, Results, read_results
from halfmask.errors import InputError

Entry = dict[str, Any]
Read = Callable[..., Results]


def entry(**changes: Any) -> Entry:
    return {"image_id": 1, "category_id": 3, "bbox": [2.0, 3.0, 18.0, 18.0], "score": 0.5} | changes


@pytest.fixture
def read(document: dict[str, Any], tmp_path: Path) -> Read:
    """Reads entries, or any other JSON value, as detections on the room's two images of 40 × 30."""

    def run(content: Any, limit: int = 100) -> Results:
        path = tmp_path / "found.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return read_results(path, CocoFile.from_document(document, "truth.json"), limit)

    return run


def test_boxes_classes_and_scores_by_image_best_first(read: Read) -> None:
    rows = [
        entry(score=0.2),
        entry(image_id=2, score=3),
        entry(category_id=7, score=0.9, bbox=[1, 2, 3, 4]),
    ]
    results = read(rows)
    assert results.of_image(1) == FoundBoxes([(1, 2, 4, 6), (2, 3, 20, 21)], [7, 3], [0.9, 0.2])
    assert results.of_image(2).scores == [3]
    assert results.outside == 0
    assert Path(results.name).name == "found.json"


def test_images_without_entries_have_none_and_a_detector_may_find_nothing(read: Read) -> None:
    assert read([entry()]).of_image(2) == FoundBoxes()
    assert read([]).of_image(1) == FoundBoxes()


def test_other_keys_are_ignored(read: Read) -> None:
    assert read([entry(segmentation="whatever", id=7, area=None)]).of_image(1).scores == [0.5]


def test_the_best_of_an_image_over_all_classes_and_ties_in_file_order(read: Read) -> None:
    rows = [entry(score=0.5, bbox=[k, 0, 5, 5], category_id=(3, 7)[k % 2]) for k in range(5)]
    kept = read([*rows, entry(score=0.8, bbox=[9, 9, 9, 9]), entry(image_id=2)], limit=3)
    assert [box[0] for box in kept.of_image(1).boxes] == [9, 0, 1]
    assert len(kept.of_image(2).boxes) == 1


def test_boxes_are_clipped_and_those_wholly_outside_are_counted(read: Read) -> None:
    over = [entry(bbox=[-5, -5, 15, 15]), entry(bbox=[30, 20, 100, 100], score=0.4)]
    results = read(
        [*over, entry(bbox=[41, 3, 5, 5]), entry(bbox=[-9, 3, 9, 5]), entry(bbox=[3, 30, 5, 5])]
    )
    assert results.of_image(1).boxes == [(0, 0, 10, 10), (30, 20, 40, 30)]
    assert results.outside == 3
    with pytest.raises(
        InputError, match=r"none of the 2 boxes lies on its image; .*pixels of truth\.json"
    ):
        read([entry(bbox=[41, 3, 5, 5])] * 2)


def test_boxes_without_area_are_counted_as_detectors_write_them(read: Read) -> None:
    results = read([entry(bbox=[1, 2, 0, 4]), entry(bbox=[1, 2, 3, 4])])
    assert results.outside == 1
    assert len(results.of_image(1).boxes) == 1


def test_what_is_outside_takes_no_place_of_the_best(read: Read) -> None:
    assert read([entry(bbox=[50, 3, 5, 5], score=0.9), entry()], limit=1).of_image(1).scores == [
        0.5
    ]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (7, "expected an object, found 7"),
        ({"image_id": 1, "bbox": [1, 2, 3, 4]}, "lacks category_id and score"),
        (entry(image_id=99), "image_id 99 is not a usable image of truth.json; give the file"),
        (entry(image_id="1"), "image_id '1' is not a usable image"),
        (entry(image_id=None), "image_id nothing is not a usable image"),
        (
            entry(category_id=4),
            "category_id 4 is not a class of truth.json; convert the detector's",
        ),
        (entry(category_id=True), "category_id True is not a class"),
        (entry(score="high"), "score is 'high'; expected a finite number"),
        (entry(score=None), "score is nothing"),
        (entry(score=float("nan")), "score is nan"),
        (
            entry(bbox=[1, 2, 3]),
            r"bbox is [1, 2, 3]; expected [x, y, width, height] in finite numbers; fix",
        ),
        (entry(bbox=[1, 2, float("inf"), 4]), "bbox is [1, 2, inf, 4]"),
        (entry(bbox=None), "bbox is nothing"),
        (entry(bbox=[20, 20, 5, -3]), "box of 5 × -3 pixels"),
        (entry(bbox=[90, 20, -5, 3]), "box of -5 × 3 pixels"),
    ],
)
def test_a_bad_entry_is_named(read: Read, bad: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read([entry(), bad])
    assert "found.json: entry 1: " in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": [], "annotations": []}, "found dict; looks like an annotation file"),
        ({"boxes": []}, "found dict"),
        ("null", "found NoneType"),
        ("", "the file is empty"),
        ("[{", "found something else"),
        ("[" * 100000, "nested too deeply"),
    ],
)
def test_what_is_no_results_file(read: Read, content: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read(content)
    assert "found.json: expected COCO results" in str(caught.value)
    assert message in str(caught.value)


def test_files_that_cannot_be_read(document: dict[str, Any], tmp_path: Path) -> None:
    file = CocoFile.from_document(document, "truth.json")
    with pytest.raises(InputError, match="cannot read it: No such file"):
        read_results(tmp_path / "absent.json", file, 100)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00[")
    with pytest.raises(InputError, match="byte 0 is not UTF-8"):
        read_results(tmp_path / "binary.json", file, 100)
