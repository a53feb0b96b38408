"""A class that boxes what nobody annotated (KITTI's DontCare) is named in every format."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Convert = Callable[..., Any]
WORDS = "classes that box regions to ignore"


def yolo(folder: Path, name: str) -> Path:
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    Image.new("RGB", (80, 60)).save(folder / "images" / "a.png")
    (folder / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n1 0.3 0.3 0.2 0.2\n")
    (folder / "data.yaml").write_text(f"train: images\nnames: [Car, {name}]\n")
    return folder / "data.yaml"


def voc(folder: Path, name: str) -> Path:
    objects = "".join(
        f"<object><name>{n}</name><bndbox><xmin>5</xmin><ymin>6</ymin><xmax>30</xmax>"
        "<ymax>40</ymax></bndbox></object>"
        for n in ("Car", name)
    )
    size = "<size><width>80</width><height>60</height><depth>3</depth></size>"
    (folder / "Annotations").mkdir(parents=True)
    (folder / "Annotations" / "a.xml").write_text(
        f"<annotation><filename>a.png</filename>{size}{objects}</annotation>"
    )
    return folder


def label_studio(folder: Path, name: str) -> Path:
    folder.mkdir()
    size = {"original_width": 80, "original_height": 60, "image_rotation": 0}
    shape = {"x": 5, "y": 5, "width": 40, "height": 40}
    regions = [
        {"type": "rectanglelabels", **size, "value": {**shape, "rectanglelabels": [n]}}
        for n in ("Car", name)
    ]
    task = {"data": {"image": "a.png"}, "annotations": [{"result": regions}]}
    (folder / "tasks.json").write_text(json.dumps([task]))
    return folder / "tasks.json"


@pytest.mark.parametrize(
    ("form", "write"), [("yolo", yolo), ("voc", voc), ("label-studio", label_studio)]
)
@pytest.mark.parametrize(("name", "told"), [("DontCare", 1), ("ignored regions", 1), ("Van", 0)])
def test_the_class_is_kept_and_named(
    convert: Convert, tmp_path: Path, form: str, write: Any, name: str, told: int
) -> None:
    done = convert(form, write(tmp_path / "data", name))
    assert len(done.rows) == 2
    assert {c["name"] for c in done.document["categories"]} == {"Car", name}
    assert done.count_of(WORDS) == told
    assert not done.report.faults
    assert [text for text, first in done.report.first.items() if first == name][:told] == [
        text for text in done.report.notes if text.startswith(WORDS)
    ]
