"""File names and class names that formats spell differently, and options that do not apply."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from halfmask.coco.categories import distinct_classes
from halfmask.errors import InputError
from halfmask.formats.convert import convert as convert_format

Convert = Callable[..., Any]
SPELLINGS = {
    "backslash": "images\\1.jpg",
    "url": "https://bucket.example/set/images/1.jpg",
    "prefix": "images/1.jpg",
    "prefix that is not there": "data/set/1.jpg",
    "case": "IMAGES/1.JPG",
    "quoted url": "s3://bucket/set/%31.jpg?token=1",
    "absolute": "/home/me/images/1.jpg",
    "Windows": "C:\\photos\\images\\1.jpg",
}


def coco(path: Path, name: str, categories: list[dict[str, Any]] | None = None) -> Path:
    """One image of 60 × 50 with a box of each class."""
    categories = categories or [{"id": 1, "name": "cat"}]
    row = {"image_id": 1, "bbox": [5, 6, 20, 10], "area": 200, "iscrowd": 0}
    used = [c["id"] for c in categories if not c.pop("empty", False)]
    rows = [{"id": k, "category_id": i, **row} for k, i in enumerate(used, 1)]
    images = [{"id": 1, "file_name": name, "width": 60, "height": 50}]
    document = {"images": images, "annotations": rows, "categories": categories}
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("form", ["yolo", "voc", "cvat", "label-studio"])
@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("folder", [".", "images"])
def test_a_photograph_is_found_by_its_last_part(
    convert: Convert, tmp_path: Path, form: str, spelling: str, folder: str
) -> None:
    """The same photograph whether --images names its folder or the one above."""
    photographs = tmp_path / "ph"
    (photographs / "images").mkdir(parents=True)
    Image.new("RGB", (60, 50)).save(photographs / "images" / "1.jpg")
    source, out = coco(tmp_path / "c.json", SPELLINGS[spelling]), tmp_path / "out"
    done = convert(f"to-{form}", source, out, images=photographs / folder)
    assert not done.report.faults
    assert done.count_of("images without a photograph") == 0
    if form in ("yolo", "voc"):
        [link] = list(out.rglob("*.jpg"))
        with Image.open(link) as image:
            assert image.size == (60, 50)
    back = convert(form, out / "tasks.json" if form == "label-studio" else out)
    assert back.rows[0]["bbox"] == [5, 6, 20, 10]
    [image] = back.document["images"]
    assert image["file_name"].endswith("1.jpg")
    assert "\\" not in image["file_name"]
    assert "://" not in image["file_name"]


ROOT = {"id": 0, "name": "trash", "supercategory": "none", "empty": True}
TWINS: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "Roboflow's root with the name of a class": (
        [
            ROOT,
            {"id": 1, "name": "bottle", "supercategory": "trash"},
            {"id": 2, "name": "trash", "supercategory": "trash"},
        ],
        ["bottle", "trash"],
    ),
    "Roboflow's root": ([ROOT, {"id": 1, "name": "bottle", "supercategory": "trash"}], ["bottle"]),
    "an empty class with the name of another": (
        [{"id": 4, "name": "cat"}, {"id": 5, "name": "cat", "empty": True}, {"id": 6, "name": "a"}],
        ["cat", "a"],
    ),
    "two classes with objects": (
        [{"id": 4, "name": "mouse"}, {"id": 5, "name": "mouse"}, {"id": 6, "name": "a"}],
        ["mouse", "mouse (5)", "a"],
    ),
    "spaces around a name": (
        [{"id": 4, "name": "mouse"}, {"id": 5, "name": "mouse "}],
        ["mouse", "mouse (5)"],
    ),
}


@pytest.mark.parametrize("form", ["yolo", "voc", "cvat", "label-studio"])
@pytest.mark.parametrize("twins", TWINS)
def test_each_class_name_is_written_once(
    convert: Convert, tmp_path: Path, form: str, twins: str
) -> None:
    categories, wanted = TWINS[twins]
    photographs = tmp_path / "ph"
    photographs.mkdir()
    Image.new("RGB", (60, 50)).save(photographs / "1.jpg")
    source, out = coco(tmp_path / "c.json", "1.jpg", [*map(dict, categories)]), tmp_path / "out"
    done = convert(f"to-{form}", source, out, images=photographs)
    left = done.count_of("classes without objects that are a root, or that have")
    renamed = done.count_of("classes with objects and the name of another: renamed")
    assert (left, renamed) == (len(categories) - len(wanted), sum("(" in n for n in wanted))
    back = convert(form, out / "tasks.json" if form == "label-studio" else out)
    of = {c["id"]: c["name"] for c in back.document["categories"]}
    assert sorted(of.values()) == sorted(wanted)
    assert [of[a["category_id"]] for a in back.rows] == wanted
    assert not back.report.faults


def test_classes_that_stay() -> None:
    plain = [{"id": 1, "name": "a", "supercategory": "x"}, {"id": 2, "name": "b"}]
    assert distinct_classes(plain, set()) == (plain, [], [])
    tree = [{"id": 1, "name": "a"}, {"id": 2, "name": "b", "supercategory": "a"}]
    assert distinct_classes(tree, {1}) == (tree, [], [])
    assert distinct_classes(tree[:1], set()) == (tree[:1], [], [])
    taken = [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}, {"id": 3, "name": "a (2)"}]
    assert [c["name"] for c in distinct_classes(taken, {1, 2, 3})[0]] == ["a", "a (2*)", "a (2)"]


@pytest.mark.parametrize(
    ("form", "options", "option"),
    [
        ("yolo", {"coco_val": "x.json"}, "--coco-val"),
        ("voc", {"synsets": 3000}, "--synsets"),
        ("to-yolo", {"test_count": 5000}, "--test-count"),
        ("visual-genome", {"images": "x"}, "--images"),
        ("visual-genome", {"split": "train", "coco_val": "x"}, "--split"),
        ("visual-genome", {"masks": "x"}, "--masks"),
        ("visual-genome", {"tolerance": 1.0}, "--tolerance"),
        ("visual-genome", {"zero_based": True}, "--zero-based"),
    ],
)
def test_options_that_do_not_apply(
    tmp_path: Path, form: str, options: dict[str, Any], option: str
) -> None:
    with pytest.raises(InputError, match=f"convert {form}: does not use {option}; it uses: "):
        convert_format(form, tmp_path, tmp_path / "out.json", **options)
