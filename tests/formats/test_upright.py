"""Annotations in stored pixels are written turned for tools that turn photographs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from tests.real_tools import real_tool

H, W = 40, 64
BOX = [8, 10, 30, 20]  # x, y, width, height in stored pixels; the object fills it
ENDINGS = {"to-yolo": "yolo", "to-cvat": "cvat", "to-label-studio": "label-studio"}


def data_of(folder: Path, turn: int, kind: str) -> Path:
    """A photograph with a bright object, and a COCO file in its stored pixels."""
    pixels = np.full((H, W, 3), 20, dtype=np.uint8)
    x, y, w, h = BOX
    pixels[y : y + h, x : x + w] = 240
    photos, exif = folder / "photos", Image.Exif()
    exif[0x0112] = turn
    photos.mkdir()
    for name, other in (("a.png", turn), ("b.png", 6)):  # b says that sizes are stored ones
        exif[0x0112] = other
        Image.fromarray(pixels).save(photos / name, exif=exif)
    canvas = np.asfortranarray((pixels[..., 0] > 128).astype(np.uint8))
    rle = coco_mask.encode(canvas)
    mask: dict[str, Any] = {
        "box": {},
        "polygon": {"segmentation": [[x, y, x + w, y, x + w, y + h, x + 1, y + h, x, y + h - 1]]},
        "rle": {"segmentation": {"size": [H, W], "counts": rle["counts"].decode()}},
    }
    document = {
        "images": [
            {"id": k, "file_name": f"{name}.png", "width": W, "height": H}
            for k, name in enumerate("ab", 1)
        ],
        "annotations": [
            {"id": k, "image_id": k, "category_id": 1, "bbox": BOX, "iscrowd": 0, **mask[kind]}
            for k in (1, 2)
        ],
        "categories": [{"id": 1, "name": "thing"}],
    }
    (folder / "coco.json").write_text(json.dumps(document))
    return folder / "coco.json"


def as_opencv_sees(path: Path) -> Any:
    image = cv2.imread(str(path))
    assert image is not None
    return image[..., 0] > 128


@real_tool(
    tool="Ultralytics",
    writes="reads photographs turned by EXIF",
    does="`to-yolo` writes the labels turned; boxes and masks lie on the object",
)
@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["box", "polygon", "rle"])
def test_ultralytics_finds_the_object_where_the_label_says(
    tmp_path: Path, convert: Callable[..., Any], turn: int, kind: str
) -> None:
    """Ultralytics reads photographs by OpenCV, and labels as shares of what it reads."""
    source, out = data_of(tmp_path, turn, kind), tmp_path / "yolo"
    done = convert("to-yolo", source, out, images=tmp_path / "photos")
    assert done.count_of("photographs with an EXIF rotation and boxes in stored") == 2 - (turn == 1)
    seen = as_opencv_sees(tmp_path / "photos/a.png")
    height, width = seen.shape
    (label,) = list(out.rglob("a.txt"))
    values = [float(v) for v in label.read_text().split()[1:]]
    if kind == "box":
        x, y, w, h = values
        corners = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
    else:
        corners = [min(values[0::2]), min(values[1::2]), max(values[0::2]), max(values[1::2])]
    rows, columns = np.nonzero(seen)
    expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert np.allclose(np.array(corners) * [width, height, width, height], expected, atol=1e-6)


@pytest.mark.parametrize("form", ENDINGS)
@pytest.mark.parametrize("turn", [3, 5, 6, 8])
def test_each_tool_gets_turned_masks_and_they_come_back_turned(
    tmp_path: Path, convert: Callable[..., Any], form: str, turn: int
) -> None:
    source, out = data_of(tmp_path, turn, "rle"), tmp_path / "out"
    convert(form, source, out, images=tmp_path / "photos")
    back = {"to-yolo": out / "data.yaml", "to-label-studio": out / "tasks.json"}.get(form, out)
    options = {} if form == "to-cvat" else {"images": tmp_path / "photos"}
    if form == "to-yolo":
        options = {}
    row = convert(ENDINGS[form], back, tmp_path / "back.json", **options)
    (first,) = [a for a in row.rows if a["image_id"] == 1]
    image = row.document["images"][0]
    seen = as_opencv_sees(tmp_path / "photos/a.png")
    assert (image["height"], image["width"]) == seen.shape
    segmentation = first["segmentation"]
    if isinstance(segmentation, list):
        segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, *seen.shape))
    elif isinstance(segmentation["counts"], list):
        segmentation = coco_mask.frPyObjects(segmentation, *seen.shape)
    assert (coco_mask.decode(segmentation) == seen).all()


def test_a_format_with_sizes_of_its_own_keeps_the_stored_frame(
    tmp_path: Path, convert: Callable[..., Any]
) -> None:
    source, out = data_of(tmp_path, 6, "rle"), tmp_path / "voc"
    done = convert("to-voc", source, out, images=tmp_path / "photos")
    assert not done.count_of("photographs with an EXIF rotation")
    (xml,) = list(out.rglob("a.xml"))
    assert f"<width>{W}</width>" in xml.read_text()


def test_nothing_is_turned_where_sizes_are_turned_already(
    tmp_path: Path, convert: Callable[..., Any]
) -> None:
    source = data_of(tmp_path, 6, "box")
    document = json.loads(source.read_text())
    x, y, w, h = BOX
    for image in document["images"]:
        image["width"], image["height"] = H, W
    for row in document["annotations"]:
        row["bbox"] = [H - y - h, x, h, w]
    source.write_text(json.dumps(document))
    done = convert("to-yolo", source, tmp_path / "yolo", images=tmp_path / "photos")
    assert not done.count_of("photographs with an EXIF rotation")
    (label,) = list((tmp_path / "yolo").rglob("a.txt"))
    values = np.array([float(v) for v in label.read_text().split()[1:]]) * [H, W, H, W]
    assert np.allclose(values, [H - y - h / 2, x + w / 2, h, w])


def test_labels_of_yolo_are_read_on_the_turned_picture(
    tmp_path: Path, convert: Callable[..., Any]
) -> None:
    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        place = tmp_path / "data/images" / f"{turn}.jpg"
        Image.new("RGB", (W, H)).save(place, exif=exif)
        (tmp_path / "data/labels" / f"{turn}.txt").write_text("0 0.25 0.25 0.5 0.5\n")
    (tmp_path / "data/data.yaml").write_text("names: [a]\ntrain: images\nval: images\n")
    done = convert("yolo", tmp_path / "data/data.yaml")
    for image, row in zip(done.document["images"], done.rows, strict=True):
        theirs = cv2.imread(str(tmp_path / "data/images" / Path(image["file_name"]).name))
        assert theirs is not None
        assert (image["height"], image["width"]) == theirs.shape[:2]
        assert row["bbox"] == [0, 0, theirs.shape[1] / 2, theirs.shape[0] / 2]
    assert done.count_of("photographs with an EXIF rotation: their labels are read on") == 7
