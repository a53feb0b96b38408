"""What `to-yolo`, `to-voc`, `to-cvat` and `to-label-studio` write, opened by the real tools.

Each tool has an environment of its own, for its licence or size. An environment variable
names its python; the test skips without it. The tool itself reads the files and prints
what it found, as boxes and run lengths, which are compared with the COCO file.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as library

import halfmask
from halfmask.formats.convert import convert

PYTHONS = {
    "ultralytics": "HALFMASK_ULTRALYTICS",
    "supervision": "HALFMASK_SUPERVISION",
    "cvat-sdk": "HALFMASK_CVAT_SDK",
    "label-studio-sdk": "HALFMASK_LABEL_STUDIO_SDK",
    "datumaro": "HALFMASK_DATUMARO",
}
"""Tool → the environment variable that names a python which has it."""
SIZE = HEIGHT, WIDTH = 240, 320
NAMES = ["traffic light", "cat", "yes"]
PRELUDE = """
import json, sys
import numpy as np
found = {}
def runs(bitmap):
    bits = np.concatenate([[0], np.asarray(bitmap).T.reshape(-1) > 0])
    edges = [0, *np.flatnonzero(np.diff(bits.astype(int))).tolist(), len(bits) - 1]
    return {"size": list(np.asarray(bitmap).shape), "counts": np.diff(edges).tolist()}
def add(image, name, box, bitmap=None, **more):
    mask = None if bitmap is None else runs(bitmap)
    box = [float(v) for v in box]
    found.setdefault(str(image), []).append({"name": str(name), "box": box, "mask": mask, **more})
"""
Consume = Callable[..., dict[str, list[dict[str, Any]]]]


@pytest.fixture
def consume(tmp_path: Path) -> Consume:
    """`consume(TOOL, CODE, *arguments)`: runs a program with a tool; image → its objects."""

    def run(tool: str, code: str, *arguments: object) -> dict[str, list[dict[str, Any]]]:
        python = os.environ.get(PYTHONS[tool])
        if not python:
            pytest.skip(f"needs {tool}: set {PYTHONS[tool]} to a python that has it")
        home = {"YOLO_CONFIG_DIR": str(tmp_path), "YOLO_OFFLINE": "true", "HOME": str(tmp_path)}
        done = subprocess.run(
            [
                python,
                "-c",
                PRELUDE + code + "\nprint('FOUND ' + json.dumps(found))",
                *map(str, arguments),
            ],
            env={**os.environ, **home, "PYTHONPATH": ""},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
        result: dict[str, list[dict[str, Any]]] = json.loads(line.removeprefix("FOUND "))
        return result

    return run


def drawing(*polygons: list[float]) -> np.ndarray[Any, Any]:
    """Pixels inside an odd number of polygons: a part in another is a hole."""
    canvas = np.zeros(SIZE, dtype=np.uint8)
    for polygon in polygons:
        image = Image.new("L", (WIDTH, HEIGHT))
        ImageDraw.Draw(image).polygon(polygon, fill=1)
        canvas ^= np.asarray(image)
    return canvas


def rle(bitmap: np.ndarray[Any, Any]) -> dict[str, Any]:
    found = library.encode(np.asfortranarray(bitmap))
    return {"size": found["size"], "counts": found["counts"].decode()}


TRIANGLE = [20.25, 30.5, 150.5, 40.0, 80.0, 200.25]
PARTS = [
    [170.0, 20.0, 300.0, 30.0, 290.0, 100.0, 180.0, 90.0],
    [180.0, 130.0, 310.0, 140.0, 250.0, 220.0],
]
HOLE = rle(drawing([40, 40, 280, 50, 260, 210, 50, 200], [100, 90, 200, 95, 190, 150, 110, 150]))
BEYOND = [-30.0, 100.0, 90.0, -40.0, 120.0, 230.0]
BLOB = rle(drawing([200, 60, 300, 120, 230, 200]))


def document(boxes: bool) -> dict[str, Any]:
    """Four photographs in two parts; with boxes: objects without a mask among them."""
    rows: list[dict[str, Any]] = []

    def add(image: int, category: int, box: list[float], mask: Any = None) -> None:
        row = {"id": len(rows) + 1, "image_id": image, "category_id": category, "bbox": box}
        area = box[2] * box[3]
        shape = {} if mask is None else {"segmentation": mask}
        rows.append({**row, "area": area, "iscrowd": 0, **shape})

    add(1, 7, [20.25, 30.5, 130.25, 169.75], [TRIANGLE])
    add(1, 3, [170, 20, 140, 200], PARTS)
    add(2, 3, [40, 40, 241, 171], HOLE)
    add(3, 9, [-30, -40, 150, 270], [BEYOND])
    add(3, 7, [200, 60, 101, 141], BLOB)
    if boxes:
        add(4, 9, [100.5, 50.25, 99.5, 149.75])
        add(4, 7, [250.0, 100.0, 100.0, 50.0])
    files = [("a.jpg", "train"), ("Ünï b.png", "train"), ("c#1%.jpg", "val"), ("d.jpg", "val")]
    images = [
        {"id": i, "file_name": name, "width": WIDTH, "height": HEIGHT, "split": split}
        for i, (name, split) in enumerate(files, 1)
    ]
    categories = [{"id": i, "name": name} for i, name in zip((3, 7, 9), NAMES, strict=True)]
    return {"images": images, "annotations": rows, "categories": categories}


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str, bool], Path]:
    """`written(FORMAT, boxes)`: the document in a format, with photographs where it has them."""

    def write(form: str, boxes: bool, **options: Any) -> Path:
        photos = tmp_path / "photos"
        photos.mkdir()
        for image in document(boxes)["images"]:
            Image.new("RGB", (WIDTH, HEIGHT), (90, 120, 30)).save(photos / image["file_name"])
        source = tmp_path / "given.json"
        source.write_text(json.dumps(document(boxes)))
        out = tmp_path / ("cvat.xml" if form == "cvat" else form)
        assert convert(f"to-{form}", source, out, images=photos, **options).ok
        return out

    return write


def pixels(segmentation: Any) -> np.ndarray[Any, Any]:
    if isinstance(segmentation, list):
        segmentation = library.merge(library.frPyObjects(segmentation, HEIGHT, WIDTH))
    elif isinstance(segmentation["counts"], list):
        segmentation = library.frPyObjects(segmentation, HEIGHT, WIDTH)
    return np.asarray(library.decode(segmentation)) > 0


def compare(
    found: dict[str, list[dict[str, Any]]],
    given: dict[str, Any],
    *,
    iou: float,
    box: float,
    masks: bool = True,
) -> None:
    """Every object is there once, with its class, box (pixels) and mask (least IoU)."""
    names = {c["id"]: c["name"] for c in given["categories"]}
    seen = {Path(name).name: rows for name, rows in found.items() if rows}
    for image in given["images"]:
        rows = [a for a in given["annotations"] if a["image_id"] == image["id"]]
        theirs = seen.pop(image["file_name"], [])
        assert len(theirs) == len(rows), image["file_name"]
        left = list(theirs)
        for row in rows:
            x, y, w, h = row["bbox"]
            wanted = [max(x, 0), max(y, 0), min(x + w, WIDTH), min(y + h, HEIGHT)]
            match = min(left, key=lambda one: np.abs(np.subtract(one["box"], wanted)).max())
            left.remove(match)
            assert match["name"] == names[row["category_id"]]
            inside = np.clip(match["box"], 0, [WIDTH, HEIGHT, WIDTH, HEIGHT])
            assert inside == pytest.approx(np.asarray(wanted), abs=box), row
            assert (match["mask"] is not None) == (masks and "segmentation" in row)
            if match["mask"] is not None:
                one, other = pixels(match["mask"]), pixels(row["segmentation"])
                assert (one & other).sum() / (one | other).sum() >= iou, row
    assert not seen


ULTRALYTICS = """
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_det_dataset, polygon2mask
data = check_det_dataset(sys.argv[1], autodownload=False)
for part in ("train", "val"):
    task = sys.argv[2]
    for one in YOLODataset(img_path=data[part], data=data, task=task, augment=False).labels:
        h, w = one["shape"]
        found.setdefault(one["im_file"], [])
        for i, (label, box) in enumerate(zip(one["cls"].ravel(), one["bboxes"])):
            x, y, bw, bh = box * (w, h, w, h)
            bitmap = None
            if len(one["segments"]):
                bitmap = polygon2mask((h, w), [(one["segments"][i] * (w, h)).ravel()])
            corners = [x - bw / 2, y - bh / 2, x + bw / 2, y + bh / 2]
            add(one["im_file"], data["names"][int(label)], corners, bitmap, part=part)
"""

REFUSED = """
except ValueError as error:
    assert "equal numbers of boxes and segments" in str(error)
    found = {"refused": []}
"""


@pytest.mark.parametrize("task", ["segment", "detect"])
def test_ultralytics_trains_on_to_yolo(
    task: str, written: Callable[[str, bool], Path], consume: Consume
) -> None:
    """Its rasteriser draws the border's pixels too. A mask beyond the image loses that part."""
    out = written("yolo", False)
    found = consume("ultralytics", ULTRALYTICS, out / "data.yaml", task)
    assert len(found) == 4
    compare(found, document(False), iou=0.95, box=1.01)
    parts = {Path(name).name: {row["part"] for row in rows} for name, rows in found.items()}
    assert parts == {
        "a.jpg": {"train"},
        "Ünï b.png": {"train"},
        "c#1%.jpg": {"val"},
        "d.jpg": set(),
    }


def test_ultralytics_refuses_boxes_among_polygons_until_they_are_filled(
    tmp_path: Path, written: Callable[[str, bool], Path], consume: Consume
) -> None:
    """As the report says, and so does its remedy, `halfmask complete`."""
    out = written("yolo", True)
    refused = "try:" + ULTRALYTICS.replace("\n", "\n    ") + REFUSED
    assert list(consume("ultralytics", refused, out / "data.yaml", "segment")) == ["refused"]
    given, photos, filled = tmp_path / "given.json", tmp_path / "photos", tmp_path / "filled.json"
    halfmask.complete("baseline:ellipse", given, images=photos, out=filled)
    convert("to-yolo", filled, tmp_path / "after", images=photos)
    found = consume("ultralytics", ULTRALYTICS, tmp_path / "after" / "data.yaml", "segment")
    counts = {Path(name).name: len(rows) for name, rows in found.items()}
    assert counts == {"a.jpg": 2, "Ünï b.png": 1, "c#1%.jpg": 2, "d.jpg": 2}


SUPERVISION = """
import supervision as sv
kind, root = sys.argv[1], sys.argv[2]
parts = ("train", "val") if kind == "yolo" else ("",)
for part in parts:
    if kind == "yolo":
        places = {"images_directory_path": f"{root}/images/{part}",
                  "annotations_directory_path": f"{root}/labels/{part}"}
        data = sv.DetectionDataset.from_yolo(**places, data_yaml_path=f"{root}/data.yaml")
    else:
        data = sv.DetectionDataset.from_pascal_voc(
            images_directory_path=f"{root}/JPEGImages",
            annotations_directory_path=f"{root}/Annotations")
    for path, _, detections in data:
        for i, box in enumerate(detections.xyxy):
            bitmap = None if detections.mask is None else np.asarray(detections.mask[i])
            add(path, data.classes[detections.class_id[i]], box, bitmap)
"""


def test_supervision_reads_to_yolo(written: Callable[[str, bool], Path], consume: Consume) -> None:
    found = consume("supervision", SUPERVISION, "yolo", written("yolo", False))
    compare(found, document(False), iou=0.95, box=1.01)


def test_supervision_reads_the_boxes_of_to_voc(
    written: Callable[[str, bool], Path], consume: Consume
) -> None:
    """It knows no mask PNGs."""
    found = consume("supervision", SUPERVISION, "voc", written("voc", True))
    compare(found, document(True), iou=1, box=1.01, masks=False)


CVAT_SDK = """
from defusedxml.ElementTree import parse
from cvat_sdk.masks import decode_mask
from cvat_sdk.models import LabeledShapeRequest
for image in parse(sys.argv[1]).getroot().iter("image"):
    size = {"image_width": int(image.get("width")), "image_height": int(image.get("height"))}
    found.setdefault(image.get("name"), [])
    for i, shape in enumerate(image):
        if shape.tag == "mask":  # as CVAT's own import builds the points
            points = [float(v) for v in shape.get("rle").split(",")]
            left, top = int(shape.get("left")), int(shape.get("top"))
            right = left + int(shape.get("width")) - 1
            points += [left, top, right, top + int(shape.get("height")) - 1]
        elif shape.tag == "polygon":
            points = [float(v) for pair in shape.get("points").split(";") for v in pair.split(",")]
        else:
            points = [float(shape.get(key)) for key in ("xtl", "ytl", "xbr", "ybr")]
        kind = "rectangle" if shape.tag == "box" else shape.tag
        made = LabeledShapeRequest(
            type=kind, points=points, frame=0, label_id=1, occluded=shape.get("occluded") == "1",
            z_order=int(shape.get("z_order")), group=int(shape.get("group_id", 0)),
            source=shape.get("source"))
        points = list(made.points)
        bitmap = polygon = None
        if kind == "mask":
            bitmap = decode_mask(points, **size)
            there = np.argwhere(bitmap)
            box = [*there.min(0)[::-1], *(there.max(0)[::-1] + 1)]
        else:
            polygon = points if kind == "polygon" else None
            xs, ys = points[0::2], points[1::2]
            box = [min(xs), min(ys), max(xs), max(ys)]
        add(image.get("name"), shape.get("label"), box, bitmap, polygon=polygon, group=made.group)
"""


def test_cvat_sdk_takes_the_shapes_of_to_cvat(
    written: Callable[[str, bool], Path], consume: Consume
) -> None:
    """The server is not there: its SDK checks each shape and decodes the masks."""
    found = consume("cvat-sdk", CVAT_SDK, written("cvat", True))
    compare({name: merged(rows) for name, rows in found.items()}, document(True), iou=1, box=1.01)


def merged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One object for each group, its polygons drawn by pycocotools."""
    groups: dict[object, list[dict[str, Any]]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(row["group"] or ("alone", i), []).append(row)
    done = []
    for members in groups.values():
        corners = np.asarray([m["box"] for m in members])
        polygons = [m["polygon"] for m in members if m.get("polygon")]
        mask = polygons or next((m["mask"] for m in members if m["mask"]), None)
        box = [*corners[:, :2].min(0), *corners[:, 2:].max(0)]
        done.append({"name": members[0]["name"], "box": box, "mask": mask})
    return done


DATUMARO = """
from datumaro.components.dataset import Dataset
kind = sys.argv[1]
more = {"coordinate_mode": "voc-one-based"} if kind == "voc" else {}
data = Dataset.import_from(sys.argv[2], kind, **more)
names = data.categories()[next(k for k in data.categories() if k.name == "label")]
for item in data:
    if item.subset == "all":  # VOC's list of all images repeats the parts
        continue
    groups = {}
    assert item.media.data.shape[:2] == (240, 320)
    for i, one in enumerate(item.annotations):
        # It counts VOC's objects from 0 and the values of the PNG, as VOC does, from 1.
        first = kind == "voc" and one.type.name == "bbox"
        groups.setdefault(one.group + first or ("alone", i), []).append(one)
    for members in groups.values():
        corners = [one.get_bbox() for one in members]
        box = [min(x for x, *_ in corners), min(y for _, y, *_ in corners)]
        box += [max(x + w for x, _, w, _ in corners), max(y + h for _, y, _, h in corners)]
        masks = [np.asarray(one.image) > 0 for one in members if one.type.name == "mask"]
        polygons = [list(one.points) for one in members if one.type.name == "polygon"]
        add(item.id, names[members[0].label].name, box, masks[0] if masks else None)
        if polygons:
            found[item.id][-1]["mask"] = polygons
        found[item.id][-1]["part"] = item.subset
"""


def of_files(found: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Image's name → its objects; Datumaro names images without their ending."""
    names = [Path(image["file_name"]) for image in document(True)["images"]]
    return {next(n.name for n in names if n.stem == Path(key).stem): v for key, v in found.items()}


def test_datumaro_reads_to_cvat(written: Callable[[str, bool], Path], consume: Consume) -> None:
    """It looks for the photographs in a folder `images` beside the file."""
    file = written("cvat", True)
    (file.parent / "photos").rename(file.parent / "images")
    found = consume("datumaro", DATUMARO, "cvat", file)
    compare(of_files(found), document(True), iou=1, box=1.01)
    parts = {name: rows[0]["part"] for name, rows in of_files(found).items()}
    assert parts == {i["file_name"]: i["split"] for i in document(True)["images"]}


def test_datumaro_reads_to_voc(written: Callable[..., Path], consume: Consume) -> None:
    """It refuses links to photographs, and a data set without labelmap.txt."""
    found = consume("datumaro", DATUMARO, "voc", written("voc", True, copy=True))
    compare(of_files(found), document(True), iou=1, box=1.01)


LABEL_STUDIO = """
import os
from urllib.parse import parse_qs, urlsplit
from label_studio_sdk.converter import Converter
from label_studio_sdk.converter.brush import decode_rle
from label_studio_sdk.label_interface import LabelInterface
root = sys.argv[1]
config, path = open(f"{root}/label_config.xml").read(), f"{root}/tasks.json"
interface, tasks = LabelInterface(config), json.load(open(path))
interface.validate()
name_of = lambda address: parse_qs(urlsplit(address).query)["d"][0]
for task in tasks:
    image = name_of(task["data"]["image"])
    found[image] = []
    for annotation in task["annotations"]:
        assert interface.validate_annotation(annotation), annotation
        for region in annotation["result"]:
            if "rle" in region["value"]:
                shape = (region["original_height"], region["original_width"], 4)
                bitmap = decode_rle(region["value"]["rle"]).reshape(shape)[..., 3] > 0
                there = np.argwhere(bitmap)
                box = [*there.min(0)[::-1], *(there.max(0)[::-1] + 1)]
                add(image, region["value"]["brushlabels"][0], box, bitmap)
Converter(config, root, download_resources=False).convert_to_coco(path, "coco", is_dir=False)
made = json.load(open("coco/result.json"))
names = {c["id"]: c["name"] for c in made["categories"]}
images = {i["id"]: name_of(i["file_name"]) for i in made["images"]}
for row in made["annotations"]:
    x, y, w, h = row["bbox"]
    add(images[row["image_id"]], names[row["category_id"]], (x, y, x + w, y + h))
    found[images[row["image_id"]]][-1]["mask"] = row["segmentation"] or None
"""


def test_label_studio_sdk_converts_to_label_studio(
    written: Callable[[str, bool], Path], consume: Consume
) -> None:
    """Its converter makes boxes and polygons; brush masks, which it skips, by its decoder."""
    found = consume("label-studio-sdk", LABEL_STUDIO, written("label-studio", True))
    compare(found, document(True), iou=0.99, box=1.01)
