"""File names and class names that formats spell differently, and options that do not apply."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

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
