"""A data set of any format opens as a COCO file; its format is found by its content."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from halfmask.errors import InputError
from halfmask.formats.detect import detect_format
from halfmask.formats.source import open_source

Convert = Callable[..., Any]


def yolo_with_splits(root: Path) -> Path:
    """Photographs of 100 × 50 in images/train and images/val; val's label line is broken."""
    for split, line in (("train", "1 0.1 0.1 0.5 0.1 0.3 0.6"), ("val", "0 0.5 0.5 0.2 0.4\nx")):
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        Image.new("RGB", (100, 50)).save(root / "images" / split / f"{split}.jpg")
        (root / "labels" / split / f"{split}.txt").write_text(line + "\n")
    (root / "data.yaml").write_text(
        "path: .\ntrain: images/train\nval: images/val\nnames: {0: cat, 5: cow, 1: dog}\nnc: 3\n"
    )
    return root


def made(convert: Convert, form: str, kinds_file: Path, photos: Path, out: Path) -> Path:
    if form == "coco":
        return kinds_file
    options = {"images": photos} if form == "yolo" else {}
    convert(f"to-{form}", kinds_file, out, **options)
    return out


@pytest.mark.parametrize("form", ["coco", "yolo", "voc", "cvat", "label-studio"])
def test_every_format_is_found_and_opened(
    form: str, convert: Convert, kinds_file: Path, kinds_photos: Path, tmp_path: Path
) -> None:
    data = made(convert, form, kinds_file, kinds_photos, tmp_path / "data")
    assert detect_format(data) == form
    opened = open_source(data, images=None if form == "yolo" else kinds_photos)
    document = json.loads(opened.annotations.read_text())
    assert (opened.format, opened.original) == (form, data)
    assert len(document["images"]) == 2
    names = [image["file_name"] for image in document["images"]]
    assert all((opened.photographs() / name).is_file() for name in names)
    assert opened.ok
    assert (opened.annotations == data) == (form == "coco")


def test_all_parts_of_a_yolo_data_set(tmp_path: Path, copies: Path) -> None:
    data = yolo_with_splits(tmp_path / "y")
    opened = open_source(data)
    document = json.loads(opened.annotations.read_text())
    assert opened.annotations.parent == copies
    assert opened.images == data.resolve()
    assert [(i["file_name"], i["split"]) for i in document["images"]] == [
        ("images/train/train.jpg", "train"),
        ("images/val/val.jpg", "val"),
    ]
    assert opened.report.faults == {"label lines with a word that is not a number: left out": 1}
    assert not opened.ok
    source = document["info"]["halfmask"]["source"]
    assert source["layout"] == {
        "parts": {"train": ["images/train"], "val": ["images/val"]},
        "more": {"nc": 3},
    }
    only = open_source(data / "data.yaml", split="val")
    document = json.loads(only.annotations.read_text())
    assert [i["file_name"] for i in document["images"]] == ["images/val/val.jpg"]
    with pytest.raises(InputError, match="has no part test; there is: train, val"):
        open_source(data, split="test")


def test_the_copy_is_used_again_until_the_data_set_changes(tmp_path: Path) -> None:
    data, runs = yolo_with_splits(tmp_path / "y"), tmp_path / "run"
    first = open_source(data, folder=runs)
    before = first.annotations.stat().st_mtime_ns
    again = open_source(data, folder=runs)
    assert again == first
    assert again.report.faults
    assert again.annotations.stat().st_mtime_ns == before
    (data / "labels" / "val" / "val.txt").write_text("0 0.5 0.5 0.2 0.4\n")
    changed = open_source(data, folder=runs)
    assert changed.annotations == first.annotations
    assert changed.ok
    assert len(list(runs.iterdir())) == 2


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "hello", "the file is none of them"),
        ("a.json", "[1]", "first item has no `data`"),
        ("a.json", '[{"objects": []}]', "convert visual-genome"),
        ("a.xml", "<!-- x --><annotation>", "one file of a VOC data set"),
        ("a.xml", "<other/>", "the file is none of them"),
    ],
)
def test_what_no_format_fits(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        open_source(tmp_path / name)
    with pytest.raises(InputError, match=r"expected a COCO .* no such file or folder"):
        open_source(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="found none of them in this folder"):
        open_source(tmp_path / "empty")


def test_a_coco_file_says_where_its_photographs_are(
    tmp_path: Path, kinds: dict[str, Any], kinds_photos: Path
) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(kinds))
    opened = open_source(file)
    assert opened.images is None
    with pytest.raises(InputError, match="name their folder with --images"):
        opened.photographs()
    file.write_text(json.dumps(kinds | {"info": {"halfmask": {"images": str(kinds_photos)}}}))
    assert open_source(file).images == kinds_photos
    beside = kinds_photos / "_annotations.coco.json"
    beside.write_text(json.dumps(kinds))
    assert open_source(kinds_photos).images == kinds_photos
    assert open_source(kinds_photos).annotations == beside
