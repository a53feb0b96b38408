"""A COCO file is read and indexed, or refused with one clear line; what cannot be used
is left out and reported.
"""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halfmask.coco.doctor.checks import check
from halfmask.coco.doctor.diagnosis import diagnose
from halfmask.coco.edit import strip_masks
from halfmask.coco.file import CocoFile
from halfmask.coco.problems import ProblemKind
from halfmask.coco.records import clip_box, file_name_of
from halfmask.coco.supervision import MaskState
from halfmask.errors import InputError


def kinds(document: dict[str, Any]) -> dict[str, list[tuple[int, ...]]]:
    found: dict[str, list[tuple[int, ...]]] = {}
    for problem in check(CocoFile.from_document(document, "f.json")):
        found.setdefault(str(problem.kind), []).append(problem.ids)
        assert "\n" not in problem.message
    return found


def test_index(document: dict[str, Any]) -> None:
    before = copy.deepcopy(document)
    file = CocoFile.from_document(document, "f.json")
    assert [c["id"] for c in file.categories] == [3, 7]
    assert file.label_of == {3: 1, 7: 2}
    assert file.name_of(7) == "cup"
    assert [a["id"] for a in file.annotations_of(1)] == [10, 11]
    assert [a["id"] for a in file.annotations_of(2)] == [12, 13]
    assert file.size_of(2) == (30, 40)
    assert file.states_of(1) == [MaskState.MASK, MaskState.MISSING]
    assert file.states_of(2) == [MaskState.MASK, MaskState.CROWD]
    assert [file.state_of(a) for a in file.annotations_of(2)] == file.states_of(2)
    assert file.mask_counts() == {3: 1, 7: 1}
    assert check(file) == []
    assert file.document == before


def test_use_changes_the_counts(document: dict[str, Any]) -> None:
    document["annotations"][0]["halfmask"] = {"state": "filled"}
    file = CocoFile.from_document(document, "f.json")
    assert file.mask_counts() == {3: 0, 7: 1}
    assert file.mask_counts("filled") == {3: 1, 7: 1}


def test_read_accepts_a_byte_order_mark(document: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "bom.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(document).encode())
    assert CocoFile.read(path).document == document


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"  \n", "the file is empty"),
        (b"hello", "Expecting value at line 1, column 1"),
        (b'{"images": [', "line 1"),
        ('{"a": "é"}'.encode("latin-1"), "in UTF-8, byte 7"),
        ("{}".encode("utf-16"), "in UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"images": ' + b"9" * 5000 + b"}", "limit"),
        (b"[]", "a list of 0; looks like a results file"),
        (b'[{"image_id": 1, "score": 0.5}]', "looks like a results file"),
        (b"3", "found int"),
        (b"null", "found NoneType"),
        (b"{}", "images and annotations and categories are missing; found no keys"),
        (
            b'{"images": [], "annotations": {}, "categories": []}',
            "annotations is missing; found 'images'",
        ),
        (
            b'{"images": [3], "annotations": [], "categories": []}',
            "image record 0: expected an object, found 3",
        ),
        (
            b'{"images": [{"id": ["a"]}], "annotations": [], "categories": []}',
            "whole number as id, found ['a']",
        ),
        (
            b'{"images": [{}], "annotations": [], "categories": []}',
            "whole number as id, found nothing",
        ),
        (
            b'{"images": [{"id": 1}, {"id": 1, "width": 2}], "annotations": [], "categories": []}',
            "id 1 is used twice",
        ),
        (
            b'{"images": [], "annotations": [], "categories": [{"id": 1}]}',
            "expected a name, found nothing",
        ),
        (
            b'{"images": [], "annotations": [], "categories": [{"id": true, "name": "a"}]}',
            "found True",
        ),
        (
            b'{"images": [], "annotations": [], "categories": [{"id": 99999999999999999999, '
            b'"name": "a"}]}',
            "whole number",
        ),
    ],
)
def test_what_is_no_coco_file_is_refused_in_one_line(
    content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        CocoFile.read(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        CocoFile.read(tmp_path / "nowhere.json")
    with pytest.raises(InputError, match="directory"):
        CocoFile.read(tmp_path)


def test_an_empty_file_of_lists_is_a_coco_file() -> None:
    file = CocoFile.from_document({"images": [], "annotations": [], "categories": []}, "f.json")
    assert check(file) == []
    assert file.mask_counts() == {}
    assert diagnose(file, []).ok


def test_nan_literals_are_read_and_reported(document: dict[str, Any], tmp_path: Path) -> None:
    document["annotations"][0]["bbox"][0] = float("nan")
    document["annotations"][2]["area"] = float("inf")
    path = tmp_path / "nan.json"
    path.write_text(json.dumps(document))
    file = CocoFile.read(path)
    assert [a["id"] for a in file.annotations_of(1)] == [11]
    found = {str(p.kind): p.ids for p in check(file)}
    assert found["not_strict_json"] == ()
    assert found["box_malformed"] == (10,)
    assert found["no_area"] == (12,)


@pytest.mark.parametrize(
    ("bbox", "kind"),
    [
        (None, "box_malformed"),
        ([1, 2, 3], "box_malformed"),
        ([1, 2, 3, "4"], "box_malformed"),
        ([1, 2, 3, float("inf")], "box_malformed"),
        ("1,2,3,4", "box_malformed"),
        ([1, 2, 10**400, 4], "box_malformed"),
        ([1, 2, 0, 4], "box_without_area"),
        ([1, 2, 3, -4], "box_without_area"),
        ([20, 20, 1e-9, 4], "box_without_area"),
        ([40, 2, 3, 4], "box_outside_image"),
        ([-9, 2, 9, 4], "box_outside_image"),
        ([1e300, 2, 9, 4], "box_outside_image"),
    ],
)
def test_boxes_that_cannot_be_used_are_left_out_and_reported(
    document: dict[str, Any], bbox: Any, kind: str
) -> None:
    document["annotations"][1]["bbox"] = bbox
    found = kinds(document)
    assert found[kind] == [(11,)]
    assert [a["id"] for a in CocoFile.from_document(document, "f").annotations_of(1)] == [10]


def test_faults_of_annotations(document: dict[str, Any]) -> None:
    rows = document["annotations"]
    rows[0]["segmentation"] = [[1, 2, 3]]
    rows[1]["bbox"] = [30, 20, 20, 5]
    rows[1]["iscrowd"] = "no"
    rows[2]["bbox"] = [10, 5, 8, 14]
    extra = {"image_id": 1, "category_id": 3, "bbox": [1, 1, 5, 3], "area": 15}
    rows += [
        {**extra, "id": 14, "image_id": 99},
        {**extra, "id": 15, "category_id": [3]},
        {**extra, "id": 16, "segmentation": [[1, 1, 6, 1, 6, 4, 1, 4]]},
        {**extra, "id": 16},
        {**extra, "id": "x"},
        "nothing",
    ]
    assert kinds(document) == {
        "annotation_record": [(), ()],
        "orphan_annotation": [(14,), (15,)],
        "duplicate_annotation_id": [(16,)],
        "duplicate_annotation": [(16, 16)],
        "odd_iscrowd": [(11,)],
        "box_sticks_out": [(11,)],
        "broken_mask": [(10,)],
        "suspect_mask": [(16,)],
        "box_disagrees_with_mask": [(12,)],
        "tiny_instance": [(16,), (16,)],
        "thin_instance": [(16,), (16,)],
    }


def test_a_box_may_stick_out_by_a_pixel_and_is_clipped(document: dict[str, Any]) -> None:
    document["annotations"][1]["bbox"] = [-1, 2, 42, 9]
    assert kinds(document) == {}
    assert clip_box([-1, 2, 42, 9], (30, 40)) == (0, 2, 40, 11)


def test_image_records(document: dict[str, Any]) -> None:
    document["images"] += [
        {"id": 3, "file_name": "c.png", "width": 0, "height": 30},
        {"id": 4, "file_name": "d.png"},
        {"id": 5, "file_name": "e.png", "width": 10**6, "height": 10**6},
        {"id": 6, "file_name": "g.png", "width": 40.0, "height": 30.0},
    ]
    document["annotations"].append(
        {"id": 20, "image_id": 3, "category_id": 3, "bbox": [1, 1, 9, 9], "area": 81}
    )
    assert kinds(document) == {
        "image_record": [(3,), (4,), (5,)],
        "orphan_annotation": [(20,)],
        "image_without_annotations": [(6,)],
    }
    assert CocoFile.from_document(document, "f").size_of(6) == (30, 40)


def test_categories_without_annotations_and_with_the_same_name(document: dict[str, Any]) -> None:
    document["categories"].append({"id": 9, "name": "cup"})
    assert kinds(document) == {
        "duplicate_category_name": [(7, 9)],
        "category_without_annotations": [(9,)],
    }


def test_near_duplicates(document: dict[str, Any]) -> None:
    twin = copy.deepcopy(document["annotations"][2])
    twin |= {"id": 30, "category_id": 3, "bbox": [10, 5, 8, 9.5]}
    document["annotations"].append(twin)
    assert kinds(document) == {"near_duplicate_annotation": [(12, 30)]}
    # Without masks, boxes this alike are reported too; less alike ones are not: a child
    # on a chair shares its box.
    for annotation in document["annotations"]:
        annotation.pop("segmentation", None)
    assert kinds(document) == {}
    twin["bbox"] = [10, 5, 8, 9.9]
    assert kinds(document) == {"near_duplicate_annotation": [(12, 30)]}


def test_compressed_rle_is_noted_but_not_our_own(document: dict[str, Any]) -> None:
    from pycocotools import mask as reference

    encoded = reference.frPyObjects(document["annotations"][2]["segmentation"], 30, 40)
    document["annotations"][2]["segmentation"] = {
        "size": [30, 40],
        "counts": encoded["counts"].decode(),
    }
    assert kinds(document) == {"compressed_rle_mask": [(12,)]}
    document["annotations"][2]["halfmask"] = {"state": "filled"}
    assert kinds(document) == {}


def test_file_name_falls_back_to_the_url() -> None:
    assert file_name_of({"file_name": "x/a.jpg"}) == "x/a.jpg"
    assert file_name_of({"coco_url": "http://host/val2017/0007.jpg"}) == "0007.jpg"
    assert file_name_of({"file_name": 3}) == ""


def test_diagnosis_adds_up(document: dict[str, Any]) -> None:
    document["annotations"][0]["segmentation"] = [[1, 2, 3]]
    document["annotations"].append({"id": 20, "image_id": 99})
    file = CocoFile.from_document(document, "f.json")
    result = diagnose(file, check(file), threshold=1)
    counts = result.annotations
    assert counts.pop("total") == 5 == sum(counts.values())
    assert {k: v for k, v in counts.items() if v} == {
        "mask": 1,
        "missing": 1,
        "broken": 1,
        "crowd": 1,
        "skipped": 1,
    }
    assert [(c["name"], c["set"], c["annotations"]) for c in result.categories] == [
        ("dog", "B", 2),
        ("cup", "A", 2),
    ]
    assert result.training == {
        "images": 2,
        "boxes": 3,
        "masks": 1,
        "boxes_without_mask": 2,
        "crowds_left_out": 1,
        "unusable_left_out": 1,
    }
    assert result.counts == {"orphan_annotation": 1, "broken_mask": 1}
    assert not result.ok
    json.dumps(result.to_json())


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_no_json_value_anywhere_causes_a_traceback(
    document: dict[str, Any], data: st.DataObject
) -> None:
    bent = copy.deepcopy(document)
    for _ in range(data.draw(st.integers(1, 3))):
        part = data.draw(st.sampled_from(["images", "annotations", "categories"]))
        row = data.draw(st.sampled_from(bent[part]))
        if isinstance(row, dict):
            row[data.draw(st.sampled_from(sorted(row) or ["id"]))] = data.draw(ANYTHING)
            if data.draw(st.booleans()):
                bent[part].append(data.draw(ANYTHING))
    try:
        file = CocoFile.from_document(bent, "f.json")
    except InputError:
        return
    result = diagnose(file, check(file))
    assert result.annotations["total"] == len(bent["annotations"])
    assert {p.kind for p in check(file)} <= set(ProblemKind)
    again = CocoFile.from_document(strip_masks(bent, {3}), "f.json")
    assert again.mask_counts().get(7, 0) == 0


@pytest.mark.shared
def test_coco_mini_has_the_faults_that_its_readme_lists(shared_data: Path) -> None:
    import time

    start = time.perf_counter()
    train = CocoFile.read(shared_data / "coco-mini/instances_train.json")
    result = diagnose(train, check(train))
    assert time.perf_counter() - start < 10  # 0.6 s on a quiet core
    assert result.counts == {
        "near_duplicate_annotation": 13,
        "box_disagrees_with_mask": 15,
        "tiny_instance": 41,
        "thin_instance": 26,
        "image_without_annotations": 4,
    }
    assert result.annotations["mask"] == 2622
    assert result.annotations["crowd"] == 28
    val = CocoFile.read(shared_data / "coco-mini/instances_val.json")
    result = diagnose(val, check(val))
    assert result.counts["near_duplicate_annotation"] == 3
    assert result.counts["compressed_rle_mask"] == 373
    assert result.annotations["mask"] == 1195
    assert result.annotations["crowd"] == 12
    assert sum(c["annotations"] > 0 for c in result.categories) == 74


@pytest.mark.shared
def test_lvis_is_read_too(shared_data: Path) -> None:
    file = CocoFile.read(shared_data / "evaluator/lvis_val_100.json")
    assert len(file.images) == 100
    assert sum(file.mask_counts().values()) == len(file.document["annotations"])
