"""Ids as text, as fractions and as names, and records that repeat an earlier one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import halfmask
from halfmask.coco.doctor.checks import check
from halfmask.coco.file import CocoFile
from halfmask.coco.index.place import open_index
from halfmask.errors import InputError
from tests.real_tools import real_tool


def via() -> dict[str, Any]:
    """As VIA writes COCO: image ids are numbers, and annotations refer to them as text."""
    rows = [
        {
            "id": k,
            "image_id": str(k),
            "category_id": 1,
            "segmentation": [4, 5, 24, 5, 14, 35 + k],
            "bbox": [4, 5, 20, 30 + k],
            "area": 300,
            "iscrowd": 0,
        }
        for k in range(3)
    ]
    images = [{"id": k, "width": 64, "height": 48, "file_name": f"img_{k}.jfif"} for k in range(3)]
    return {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "dog"}]}


def text_everywhere() -> dict[str, Any]:
    document = via()
    for record in (*document["images"], *document["annotations"], *document["categories"]):
        record["id"] = f"{record['id']:05d}"
    for row in document["annotations"]:
        row["category_id"] = "1"
    return document


def fractions() -> dict[str, Any]:
    document = via()
    for row in document["annotations"]:
        row["image_id"], row["category_id"] = float(row["image_id"]), 1.0
    return document


def names_as_ids() -> dict[str, Any]:
    document = via()
    for image in document["images"]:
        image["id"] = f"photo-{image['id']}"
    for row in document["annotations"]:
        row["image_id"] = f"photo-{row['image_id']}"
    return document


def file_names() -> dict[str, Any]:
    document = via()
    for row in document["annotations"]:
        row["image_id"] = f"img_{row['image_id']}.jfif"
    return document


def class_names() -> dict[str, Any]:
    document = via()
    for row in document["annotations"]:
        row["category_id"] = "dog"
    return document


def class_names_as_ids() -> dict[str, Any]:
    document = class_names()
    document["categories"] = [{"id": "dog", "name": "dog"}]
    return document


def repeated() -> dict[str, Any]:
    document = via()
    for key in ("images", "annotations", "categories"):
        document[key] += [dict(record) for record in document[key]]
    return document


CASES = {
    "references as text": (via, "ids_as_text"),
    "all ids as text with zeros": (text_everywhere, "ids_as_text"),
    "fractions": (fractions, "ids_as_text"),
    "image ids that are names": (names_as_ids, "ids_are_names"),
    "references by file name": (file_names, "ids_are_names"),
    "references by class name": (class_names, "ids_are_names"),
    "class ids that are names": (class_names_as_ids, "ids_are_names"),
    "every record twice": (repeated, "repeated_records"),
}


def written(document: dict[str, Any], folder: Path, order: list[str] | None = None) -> Path:
    path = folder / "data.json"
    keys = order or list(document)
    path.write_text(json.dumps({key: document[key] for key in keys}))
    return path


@real_tool(
    tool="VIA",
    writes="COCO: image ids as numbers, references to them as text",
    does="one number each: every annotation finds its image; said",
)
@pytest.mark.parametrize("title", CASES)
@pytest.mark.parametrize(
    "order",
    [["images", "annotations", "categories"], ["annotations", "categories", "images"]],
    ids=["as COCO", "annotations first"],
)
def test_ids_mean_the_records_that_they_name(title: str, order: list[str], tmp_path: Path) -> None:
    build, kind = CASES[title]
    path = written(build(), tmp_path, order)
    file, index = CocoFile.read(path), open_index(path)
    for found in (file, index):
        names = [found.file_name_of(i) for i in found.image_ids]
        assert names == ["img_0.jfif", "img_1.jfif", "img_2.jfif"]
        assert [c["name"] for c in found.categories] == ["dog"]
        assert found.objects == 3
        assert list(found.mask_counts().values()) == [3]
        boxes = [found.instances_of(i)[0].box for i in found.image_ids]
        assert boxes == [(4, 5, 24, 35), (4, 5, 24, 36), (4, 5, 24, 37)]
    assert file.image_ids == index.image_ids
    assert list(file.images) == list(index.images)
    for image_id in file.image_ids:
        assert file.annotations_of(image_id) == index.annotations_of(image_id)
    found = [p for p in check(file) if p.facts.about == "file"]
    assert kind in [p.kind for p in found]
    assert not [p for p in check(file) if p.facts.severity == "problem"]
    assert [p.message for p in index.readings] == [p.message for p in file.readings]


def test_a_name_stays_with_its_number(tmp_path: Path) -> None:
    file = CocoFile.from_document(names_as_ids(), "data.json")
    assert [(i["id"], i["halfmask"]) for i in file.images] == [
        (k, {"id": f"photo-{k - 1}"}) for k in (1, 2, 3)
    ]


def test_text_and_number_of_two_images_are_two_images() -> None:
    document = via()
    document["images"][1]["id"] = "0"
    with pytest.raises(InputError, match="image record 1: id 0 is used twice"):
        CocoFile.from_document(document, "data.json")


def test_names_beside_numbers_are_refused(tmp_path: Path) -> None:
    document = via()
    document["images"][1]["id"] = "second"
    path = written(document, tmp_path)
    for read in (CocoFile.read, open_index):
        with pytest.raises(InputError, match="ids are names, such as 'second', and numbers"):
            read(path)


def test_the_same_id_with_other_values_is_no_repetition(tmp_path: Path) -> None:
    document = repeated()
    document["annotations"][3]["bbox"] = [1, 1, 9, 9]
    path = written(document, tmp_path)
    assert CocoFile.read(path).objects == open_index(path).objects == 4
    document["images"][3]["width"] = 65
    path = written(document, tmp_path)
    for read in (CocoFile.read, open_index):
        with pytest.raises(InputError, match="image record 3: id 0 is used twice"):
            read(path)


def test_split_reads_and_writes_numbers(tmp_path: Path) -> None:
    path = written(text_everywhere(), tmp_path)
    done = halfmask.split(path, masked="dog", out=tmp_path / "out.json")
    assert (done.kept, done.removed) == (3, 0)
    rows = json.loads((tmp_path / "out.json").read_text())["annotations"]
    assert [(a["id"], a["image_id"], a["category_id"]) for a in rows] == [
        (k, k, 1) for k in range(3)
    ]
    assert [a["segmentation"] for a in rows] == [a["segmentation"] for a in via()["annotations"]]
