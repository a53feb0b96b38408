"""Each remedy that a writer names, carried out: the problem is gone."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import halfmask
from halfmask import InputError
from halfmask.formats.convert import Conversion, convert

WRITERS = ("to-yolo", "to-voc", "to-cvat", "to-label-studio")
Kinds = dict[str, Any]


def put(document: Kinds, folder: Path) -> Path:
    path = folder / "given.json"
    path.write_text(json.dumps(document))
    return path


def notes(done: Conversion, words: str) -> int:
    return sum(n for what, n in done.report.notes.items() if words in what)


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize(
    ("name", "message", "better"),
    [
        ("sub/b.jpg", "rename one of them", "sub/c.jpg"),
        ("../x.png", "expected a name below it", "x.png"),
    ],
)
def test_renamed(
    form: str, name: str, message: str, better: str, kinds: Kinds, tmp_path: Path
) -> None:
    kinds["images"][0]["file_name"] = name
    with pytest.raises(InputError, match=message):
        convert(form, put(kinds, tmp_path), tmp_path / "out")
    kinds["images"][0]["file_name"] = better
    convert(form, put(kinds, tmp_path), tmp_path / "out")


@pytest.mark.parametrize("form", WRITERS)
def test_another_out(form: str, kinds_file: Path, tmp_path: Path) -> None:
    before = kinds_file.read_bytes()
    with pytest.raises(InputError, match="name another"):
        convert(form, kinds_file, kinds_file)
    convert(form, kinds_file, tmp_path / "another")
    assert kinds_file.read_bytes() == before


def test_complete_fills_the_boxes_among_polygons(
    kinds_file: Path, kinds_photos: Path, tmp_path: Path
) -> None:
    """`halfmask complete` leaves only boxes whose masks people rejected or broke."""
    words = "rows that are boxes among polygons"
    assert notes(convert("to-yolo", kinds_file, tmp_path / "before"), words) == 3
    whole = json.loads(kinds_file.read_text())
    whole["annotations"] = [a for a in whole["annotations"] if a["id"] not in (7, 8)]
    source = put(whole, tmp_path)
    assert notes(convert("to-yolo", source, tmp_path / "still"), words) == 1
    filled = tmp_path / "filled.json"
    halfmask.complete("baseline:ellipse", source, images=kinds_photos, out=filled)
    assert notes(convert("to-yolo", filled, tmp_path / "after"), words) == 0


def test_links_or_copies_in_a_real_folder(
    kinds_file: Path, kinds_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    places = [Path("images/a.png"), Path("images/sub/b.png")]
    convert("to-yolo", kinds_file, tmp_path / "links", images=kinds_photos)
    monkeypatch.setattr(Path, "symlink_to", refuse)
    convert("to-yolo", kinds_file, tmp_path / "copies", images=kinds_photos)
    for folder, linked in (("links", True), ("copies", False)):
        root = tmp_path / folder
        assert not any((root / p).is_symlink() for p in ("images", "images/sub", "labels"))
        for place in places:
            assert (root / place).is_symlink() == linked
            assert (root / place).read_bytes() == (
                kinds_photos / place.relative_to("images")
            ).read_bytes()
        text = (root / "data.yaml").read_text()
        assert "path:" not in text
        assert os.fspath(tmp_path) not in text


def twice_named() -> Kinds:
    """Roboflow: an empty root category that has the name of a real one."""
    row = {"image_id": 1, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0}
    return {
        "images": [{"id": 1, "file_name": "a.png", "width": 80, "height": 60}],
        "categories": [
            {"id": 0, "name": "cells", "supercategory": "none"},
            {"id": 1, "name": "cells", "supercategory": "cells"},
            {"id": 2, "name": "dust\n", "supercategory": "cells"},
            {"id": 3, "name": "dust", "supercategory": "cells"},
        ],
        "annotations": [{**row, "id": i, "category_id": i} for i in (1, 2, 3)],
    }


@pytest.mark.parametrize("form", WRITERS)
def test_classes_with_one_name_are_one_class(form: str, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (80, 60)).save(photos / "a.png")
    done = convert(form, put(twice_named(), tmp_path), tmp_path / "out", images=photos)
    assert notes(done, "classes without annotations that have the name of another") == 1
    assert notes(done, "classes with the name of another: written as one class") == 1
    assert notes(done, "class names with line breaks") == 1
    back = tmp_path / "back.json"
    place = tmp_path / "out" / ("tasks.json" if form == "to-label-studio" else "")
    assert convert(form.removeprefix("to-"), place, back).ok
    found = json.loads(back.read_text())
    assert [c["name"] for c in found["categories"]] == ["cells", "dust"]
    first = found["categories"][0]["id"]
    assert [a["category_id"] - first for a in found["annotations"]] == [0, 1, 1]


@pytest.mark.parametrize(
    ("splits", "parts", "said"),
    [
        (("train", "valid"), {"train": "images/train", "val": "images/val"}, 0),
        (("train", "train"), {"train": "images/train", "val": "images/train"}, 1),
        (("test", "val"), {"val": "images/val", "test": "images/test"}, 1),
        (("train", "rest"), {"train": "images/train", "val": "images/train"}, 1),
    ],
)
def test_parts_of_yolo(
    splits: tuple[str, ...],
    parts: Kinds,
    said: int,
    kinds: Kinds,
    kinds_photos: Path,
    tmp_path: Path,
) -> None:
    import yaml

    for image, split in zip(kinds["images"], splits, strict=True):
        image["split"] = split
    done = convert("to-yolo", put(kinds, tmp_path), tmp_path / "out", images=kinds_photos)
    written = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())
    assert {k: v for k, v in written.items() if k != "names"} == parts
    assert notes(done, "parts without images") == said
    assert notes(done, "images of no part") == ("rest" in splits)
    convert("yolo", tmp_path / "out", tmp_path / "back.json", split="all")
    found = json.loads((tmp_path / "back.json").read_text())["images"]
    wanted = {"valid": "val", "rest": "train"}
    by_name = {Path(i["file_name"]).name: i["split"] for i in found}
    assert by_name == {n: wanted.get(s, s) for n, s in zip(("a.png", "b.png"), splits, strict=True)}


def test_files_with_one_last_part_stay_two(tmp_path: Path) -> None:
    """`a.png` and `images/a.png`, `b/c.png` and `b_c.png` have files of their own."""
    names = ["a.png", "images/a.png", "b/c.png", "b_c.png"]
    images = [
        {"id": i, "file_name": name, "width": 8, "height": 8, "split": "train"}
        for i, name in enumerate(names)
    ]
    rows = [
        {
            "id": i + 1,
            "image_id": i,
            "category_id": 1,
            "bbox": [i, i, 4, 4],
            "area": 16,
            "iscrowd": 0,
        }
        for i in range(4)
    ]
    given = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "x"}]}
    source = put(given, tmp_path)
    convert("to-yolo", source, tmp_path / "yolo")
    assert len(list((tmp_path / "yolo").rglob("*.txt"))) == 4
    convert("to-voc", source, tmp_path / "voc")
    convert("voc", tmp_path / "voc", tmp_path / "back.json")
    found = json.loads((tmp_path / "back.json").read_text())
    boxes = {
        i["file_name"]: a["bbox"]
        for i in found["images"]
        for a in found["annotations"]
        if a["image_id"] == i["id"]
    }
    assert boxes == {name: [i, i, 4, 4] for i, name in enumerate(names)}
