"""Where YOLO data sets keep photographs, labels and names, and what is told if they do not."""

import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from halfmask.errors import InputError
from halfmask.formats.source import open_source
from tests.real_tools import real_tool

Convert = Callable[..., Any]
ROWS = "0 0.5 0.5 0.4 0.4\n1 0.1 0.1 0.5 0.1 0.3 0.6\n"


def put(root: Path, photographs: list[str], labels: list[str], config: str | None) -> Path:
    """Photographs of 100 × 50, label files of a box and a polygon, and data.yaml."""
    for name in photographs:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 50)).save(root / name, format="JPEG")
    for name in labels:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(ROWS)
    if config is not None:
        (root / "data.yaml").write_text(config, encoding="utf-8")
    return root


def names(done: Any) -> list[str]:
    return [image["file_name"] for image in done.document["images"]]


def check(done: Any, images: int) -> None:
    """Every image has its box and its polygon, pixel by pixel as pycocotools draws it."""
    assert len(done.document["images"]) == images
    assert [a["bbox"] for a in done.rows] == [[30, 15, 40, 20], [10, 5, 40, 25]] * images
    for row in done.rows[1::2]:
        assert row["segmentation"] == [[10, 5, 50, 5, 30, 30]]
        drawn = coco_mask.frPyObjects([[10, 5, 50, 5, 30, 30]], 50, 100)
        assert row["area"] == coco_mask.area(drawn).sum()
    assert [c["name"] for c in done.document["categories"]] == ["cat", "dog"]
    assert not done.report.faults


NAMES = "names: [cat, dog]\n"
LAYOUTS = {
    "a foreign path, valid": (
        ["train/images/1.jpg", "valid/images/1.jpg"],
        ["train/labels/1.txt", "valid/labels/1.txt"],
        "train: /content/ds/train/images\nval: /content/ds/valid/images\n",
    ),
    "a foreign path key": (
        ["images/train/1.jpg", "images/val/1.jpg"],
        ["labels/train/1.txt", "labels/val/1.txt"],
        "path: /content/ds\ntrain: /content/ds/images/train\nval: /content/ds/images/val\n",
    ),
    "Windows": (
        ["train/images/1.jpg", "valid/images/1.jpg"],
        ["train/labels/1.txt", "valid/labels/1.txt"],
        "train: 'C:\\ds\\train\\images'\nval: '..\\valid\\images'\n",
    ),
    "a bucket": (
        ["train/images/1.jpg", "valid/images/1.jpg"],
        ["train/labels/1.txt", "valid/labels/1.txt"],
        "train: s3://bucket/ds/train/images\nval: s3://bucket/ds/valid/images\n",
    ),
    "a foreign path key and entries below it": (
        ["sub/images/train/1.jpg", "sub/images/val/1.jpg"],
        ["sub/labels/train/1.txt", "sub/labels/val/1.txt"],
        "path: /content/ds/sub\ntrain: images/train\nval: images/val\n",
    ),
    "other cases": (
        ["Train/Images/1.JPG", "Valid/Images/1.JPG"],
        ["Train/Labels/1.TXT", "Valid/Labels/1.txt"],
        "train: ../train/images\nval: ../valid/images\n",
    ),
    "a list with foreign lines": (
        ["data/1.jpg", "more/1.jpg"],
        ["data/1.txt", "more/1.txt"],
        "train: train.txt\nval: val.txt\n",
    ),
}


@real_tool(
    tool="Ultralytics",
    writes="`data.yaml` with paths of another computer, of Windows or of a bucket",
    does="the parts are found by the ends of the paths",
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_parts(convert: Convert, tmp_path: Path, layout: str) -> None:
    photographs, labels, config = LAYOUTS[layout]
    source = put(tmp_path / "y", photographs, labels, config + NAMES)
    (source / "train.txt").write_text("\ufeffC:\\old\\data\\1.jpg\r\n", encoding="utf-8")
    (source / "val.txt").write_text("/old/more/1.jpg\n")
    with pytest.raises(InputError, match="has several parts"):
        convert("yolo", source)
    check(convert("yolo", source / "data.yaml", split="train"), 1)
    check(convert("yolo", source, split="val"), 1)
    done = convert("yolo", source, split="all")
    check(done, 2)
    assert [i["split"] for i in done.document["images"]] == ["train", "val"]
    if "list" not in layout:
        assert done.count_of("paths in data.yaml that are not here: found by their end") >= 1
    assert open_source(source).ok
    check(convert("yolo", source, images=source), 2)


PLACES = {
    "beside": (["train/1.jpg"], ["train/1.txt"]),
    "beside, below images": (["images/c/train/1.jpg"], ["images/c/train/1.txt"]),
    "another folder": (["images/1.jpg"], ["annotations/1.txt"]),
    "another folder, for each part": (
        ["images/train/1.jpg", "images/val/1.jpg"],
        ["gt/train/1.txt", "gt/val/1.txt"],
    ),
    "the first images": (["images/a/images/1.jpg"], ["labels/a/images/1.txt"]),
    "two endings": (["images/1.jpg"], ["labels/1.jpg.txt"]),
    "another case": (["images/IMG_1.JPG"], ["labels/img_1.txt"]),
    "another form": (
        [unicodedata.normalize("NFD", "images/é.jpg")],
        [unicodedata.normalize("NFC", "labels/é.txt")],
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_label_files(convert: Convert, tmp_path: Path, place: str) -> None:
    photographs, labels = PLACES[place]
    top = photographs[0].split("/")[0]
    for config in (NAMES, f"train: {top}\nval: {top}\n{NAMES}"):
        source = put(tmp_path / "y", photographs, labels, config)
        done = convert("yolo", source)
        check(done, len(photographs))
        told = "label files in a folder that no rule of YOLO names"
        assert done.count_of(told) == len(photographs) * place.startswith("another folder")
        check(convert("yolo", source, split="all"), len(photographs))


def test_no_label_file(convert: Convert, tmp_path: Path) -> None:
    source = put(tmp_path / "y", ["images/1.jpg", "images/2.jpg"], [], NAMES)
    done = convert("yolo", source)
    assert done.count_of("photographs, and no label file of any") == 2
    assert done.count_of("images and not one annotation: looked for rows") == 2
    where = next(v for k, v in done.report.first.items() if k.startswith("photographs, and no"))
    assert str(source / "labels") in where
    opened = open_source(source)
    assert not opened.ok
    (source / "labels").mkdir()
    (source / "labels" / "1.txt").write_text(ROWS)
    assert open_source(source).ok
    done = convert("yolo", source)
    assert done.count_of("photographs without a label file: read as images") == 1
    assert not done.report.faults


def test_label_files_that_are_left_over(convert: Convert, tmp_path: Path) -> None:
    labels = ["labels/train/1.txt", "labels/val/2.txt", "labels/val/classes.txt"]
    source = put(tmp_path / "y", ["images/train/1.jpg"], labels, NAMES)
    (source / "labels" / "val" / "classes.txt").write_text("cat\ndog\n")
    assert convert("yolo", source).count_of("label files without a photograph") == 1
    photographs = ["images/a/1.jpg", "images/b/1.jpg", "images/a/2.jpg"]
    source = put(tmp_path / "z", photographs, ["gt/1.txt", "gt/2.txt"], NAMES)
    done = convert("yolo", source)
    assert done.count_of("label files that fit several photographs") == 1
    assert len(done.rows) == 2


def test_paths_that_end_alike_are_refused(convert: Convert, tmp_path: Path) -> None:
    config = f"train: /x/train/images\nval: /x/val/images\n{NAMES}"
    source = put(tmp_path / "y", ["images/1.jpg"], ["labels/1.txt"], config)
    with pytest.raises(InputError, match=r"both would be .*images by their end; .* --images"):
        convert("yolo", source, split="train")
    check(convert("yolo", source, images=source / "images"), 1)
    config = f"train: /x/photos\nval: /x/photos\n{NAMES}"
    source = put(tmp_path / "z", ["images/1.jpg"], ["labels/1.txt"], config)
    with pytest.raises(InputError, match=r"nothing below .* that ends like it; .* --images"):
        convert("yolo", source, split="train")
    check(convert("yolo", source, images=source / "images"), 1)


def test_the_same_name_in_two_folders(convert: Convert, tmp_path: Path) -> None:
    config = f"path: ds\ntrain: [images, {tmp_path}/more/images]\n{NAMES}"
    source = put(tmp_path / "y", ["ds/images/1.jpg"], ["ds/labels/1.txt"], config)
    put(tmp_path / "more", ["images/1.jpg"], ["labels/1.txt"], None)
    done = convert("yolo", source)
    check(done, 2)
    assert sorted(names(done)) == ["more/images/1.jpg", "y/ds/images/1.jpg"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[yes, no]", ["yes", "no"]),
        ("[on, off]", ["on", "off"]),
        ("[010, 0x1F]", ["010", "0x1F"]),
        ("[1e3, 2.50]", ["1e3", "2.50"]),
        ("[null, ~]", ["null", "~"]),
        ("[2020-01-01, 12:30]", ["2020-01-01", "12:30"]),
        ("{0: y, 1: 1_000}", ["y", "1_000"]),
        ("{00: cat, 01: dog}", ["cat", "dog"]),
        ("{'1': dog, '0': cat}", ["cat", "dog"]),
        ("[' cat ', 'dog']", ["cat", "dog"]),
        ('["caf\\u00e9", naïve]', ["café", "naïve"]),
        ("&n [cat, dog]", ["cat", "dog"]),
    ],
)
def test_names_are_as_written(
    convert: Convert, tmp_path: Path, text: str, found: list[str]
) -> None:
    for mark in ("", "\ufeff"):
        config = f"{mark}names: {text}\nval: images\ntrain: images\n"
        source = put(tmp_path / "y", ["images/1.jpg"], ["labels/1.txt"], config)
        done = convert("yolo", source)
        assert [c["name"] for c in done.document["categories"]] == found
        assert [a["category_id"] for a in done.rows] == [1, 2]
        assert not done.report.faults


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("\ufeffcat\r\ndog\r\n".encode(), ["cat", "dog"]),
        ("cat\r\ndog".encode("utf-16"), ["cat", "dog"]),
        (b"cat\n  dog \n\n\n", ["cat", "dog"]),
        (b"caf\xe9\ndog\n", ["café", "dog"]),
        (b"yes\n010\n", ["yes", "010"]),
    ],
)
def test_files_of_names(convert: Convert, tmp_path: Path, content: bytes, found: list[str]) -> None:
    source = put(tmp_path / "y", ["images/1.jpg"], ["labels/1.txt"], None)
    (source / "classes.txt").write_bytes(content)
    done = convert("yolo", source)
    assert [c["name"] for c in done.document["categories"]] == found
    assert done.count_of("files of class names that are not Unicode") == (b"\xe9\n" in content)
    assert not done.report.faults


def test_a_blank_line_is_a_class(convert: Convert, tmp_path: Path) -> None:
    source = put(tmp_path / "y", ["images/1.jpg"], [], None)
    (source / "classes.txt").write_text("cat\n\ndog\n")
    (source / "labels").mkdir()
    (source / "labels" / "1.txt").write_text("2 0.5 0.5 0.4 0.4\n")
    done = convert("yolo", source)
    assert done.document["categories"] == [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}]
    assert done.rows[0]["category_id"] == 3
    (source / "labels" / "1.txt").write_text("1 0.5 0.5 0.4 0.4\n", encoding="utf-16")
    done = convert("yolo", source)
    assert {"id": 2, "name": "class 1"} in done.document["categories"]
    assert done.count_of("classes without a name: called by their number") == 1


def test_names_against_themselves(convert: Convert, tmp_path: Path) -> None:
    config = "nc: 3\nnames: [cat, cat]\n"
    done = convert("yolo", put(tmp_path / "y", ["images/1.jpg"], ["labels/1.txt"], config))
    assert [a["category_id"] for a in done.rows] == [1, 2]
    assert done.count_of("class names used twice: kept as two classes") == 1
    assert done.count_of("counts of classes (nc)") == 1


@real_tool(
    tool="CVAT",
    writes="YOLO 1.1: `obj.names`, labels beside the photographs",
    does="classes and labels are found",
)
def test_a_list_of_darknet(convert: Convert, tmp_path: Path) -> None:
    """CVAT's YOLO 1.1: obj.names, and labels beside the photographs."""
    source = put(tmp_path / "y", ["obj_train_data/1.jpg"], ["obj_train_data/1.txt"], None)
    (source / "obj.names").write_text("cat\ndog\n")
    (source / "train.txt").write_text("data/obj_train_data/1.jpg\n")
    check(convert("yolo", source), 1)
