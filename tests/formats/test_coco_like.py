"""LVIS and Objects365: keys, file names, faults by id, and bounded memory."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from halfmask.coco.file import CocoFile
from halfmask.coco.supervision import MaskState
from halfmask.errors import InputError
from halfmask.formats.convert import convert as convert_format

Convert = Callable[..., Any]


def lvis() -> dict[str, Any]:
    url = "http://images.cocodataset.org/val2017/000000000{}.jpg"
    return {
        "info": {"version": "1.0"},
        "annotations": [
            {
                "id": 4,
                "image_id": 139,
                "category_id": 3,
                "bbox": [1, 2, 10, 12.5],
                "area": 50.5,
                "segmentation": [[1, 2, 11, 2, 5, 14.5]],
            },
            {"id": 9, "image_id": 285, "category_id": 1, "bbox": [0, 0, 3, 4]},
        ],
        "images": [
            {
                "id": 139,
                "coco_url": url.format(139),
                "width": 40,
                "height": 30,
                "neg_category_ids": [3],
                "not_exhaustive_category_ids": [],
            },
            {
                "id": 285,
                "coco_url": url.format(285),
                "width": 20,
                "height": 10,
                "neg_category_ids": [],
            },
        ],
        "categories": [
            {
                "id": 3,
                "name": "aerosol_can",
                "synset": "aerosol.n.02",
                "frequency": "c",
                "synonyms": ["aerosol_can", "spray_can"],
            },
            {"id": 1, "name": "abacus", "synset": "abacus.n.01", "frequency": "r"},
        ],
    }


def write(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document))
    return path


def test_lvis(convert: Convert, tmp_path: Path) -> None:
    given = lvis()
    done = convert("lvis", write(tmp_path / "source.json", given))
    assert done.document["categories"] == given["categories"]
    names = [image.pop("file_name") for image in done.document["images"]]
    assert names == ["val2017/000000000139.jpg", "val2017/000000000285.jpg"]
    assert done.document["images"] == given["images"]
    assert done.rows[0] == {**given["annotations"][0], "iscrowd": 0}
    assert done.rows[1] == {**given["annotations"][1], "iscrowd": 0, "area": 12}
    assert not done.report.faults
    file = CocoFile.read(tmp_path / "lvis.json")
    assert file.states_of(139) == [MaskState.MASK]
    assert file.states_of(285) == [MaskState.MISSING]


def test_objects365(convert: Convert, tmp_path: Path) -> None:
    document = lvis()
    for image in document["images"]:
        image["file_name"] = f"images/v1/patch8/objects365_v1_{image.pop('id')}.jpg"
        image["id"] = int(image["file_name"][-7:-4])
        del image["coco_url"]
    document["annotations"][0] |= {"isfake": 0, "iscrowd": 1}
    done = convert("objects365", write(tmp_path / "o.json", document))
    assert done.document["images"][0]["file_name"] == "images/v1/patch8/objects365_v1_139.jpg"
    assert done.rows[0]["iscrowd"] == 1
    assert done.rows[0]["isfake"] == 0


def test_unusable_records_are_reported_by_id(convert: Convert, tmp_path: Path) -> None:
    document = lvis()
    good = document["annotations"][1]
    bad = [
        3,
        {**good, "id": "x"},
        {**good, "image_id": 7},
        {**good, "category_id": 2},
        {**good, "bbox": [0, 0, -1, 2]},
        {**good, "bbox": None},
    ]
    document["annotations"] += bad
    url = "http://images.cocodataset.org/val2017/1.jpg"
    image = {"width": 9, "height": 9, "coco_url": url}
    document["images"] += [
        {**image, "id": 139},
        {**image, "id": None},
        {"id": 5, **image, "width": "9"},
        {"id": 6, "width": 9, "height": 9},
    ]
    document["images"].append({"id": 8, "width": 9, "height": 9, "file_name": "../../x.jpg"})
    done = convert("lvis", write(tmp_path / "source.json", document))
    assert len(done.rows) == 2
    assert len(done.document["images"]) == 2
    assert done.count_of("annotations without an id") == 2
    assert done.count_of("annotations of an image that is not in the file") == 1
    assert done.count_of("annotations of a class that is not in the file") == 1
    assert done.count_of("annotations without a box of four numbers") == 2
    assert done.count_of("images without a usable id") == 4
    assert done.count_of("images with an id of another image") == 1


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "expected a JSON object"),
        ({}, "expected categories"),
        ({"categories": [{"id": 1}]}, "expected categories"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "expected categories"),
        ({"categories": [{"id": 1, "name": "a"}], "images": []}, "found no usable image"),
        ({"categories": [{"id": 1, "name": "a"}], "images": 3}, "found no usable image"),
    ],
)
def test_files_that_are_refused(
    convert: Convert, tmp_path: Path, document: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        convert("lvis", write(tmp_path / "x.json", document))
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_truncated_file_keeps_the_old_output(convert: Convert, tmp_path: Path) -> None:
    before = '{"images": [], "annotations": [], "categories": []}'
    path = write(tmp_path / "x.json", lvis())
    path.write_text(path.read_text().replace("abacus.n.01", "abacus")[:-30])
    (tmp_path / "lvis.json").write_text(before)
    with pytest.raises(InputError, match="cut short"):
        convert("lvis", path)
    assert (tmp_path / "lvis.json").read_text() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lvis.json", "x.json"]
    with pytest.raises(InputError, match="is the input"):
        convert("lvis", path, path)


def test_memory_does_not_grow_with_the_annotations(convert: Convert, tmp_path: Path) -> None:
    def peak(annotations: int) -> int:
        document = lvis()
        row = document["annotations"][0]
        row["segmentation"] = [[float(k % 30) for k in range(200)]]
        document["annotations"] = [{**row, "id": i} for i in range(annotations)]
        path = write(tmp_path / "large.json", document)
        del document
        tracemalloc.start()
        convert_format("lvis", path, tmp_path / "out.json")
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(10)
    assert peak(500) < peak(50) + 200_000  # 450 more would be 3 MB
