"""Datumaro: a file that Datumaro 1.13.12 wrote, groups, parts, and what is left out."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as coco
import pytest
from PIL import Image

from halfmask.errors import InputError
from halfmask.formats.detect import detect_format
from halfmask.formats.source import open_source
from tests.conftest import RunsHalfmask
from tests.real_tools import real_tool

Convert = Callable[..., Any]
SIZE = (60, 80)
RLE = "bh1:b10000HaN3_1MaN3_1MaN3_1MaN3_1MaN3_1MaN3_1MaN3_15000000000000000000ng1"
"""Rows 10 to 19 and columns 30 to 49 without rows 12 to 14 of columns 33 to 39."""


def annotation(kind: str, label: int | None = 0, **more: Any) -> dict[str, Any]:
    """An annotation with the keys that Datumaro writes, in its order."""
    head: dict[str, Any] = {"id": 0, "type": kind, "attributes": {}, "group": 0}
    return {**head, "label_id": label, "z_order": 0, **more}


BOX = annotation("bbox", 1, bbox=[50.0, 30.0, 20.0, 15.0])
POLYGON = annotation("polygon", points=[4.0, 5.0, 24.0, 5.0, 14.0, 23.0])
MASK = annotation("mask", 1, rle={"counts": RLE, "size": [60, 80]}, z_order=1)


def item(*annotations: Any, name: str = "a", **more: Any) -> dict[str, Any]:
    image = {"path": f"{name}.jpg", "size": [*SIZE]}
    return {"id": name, "annotations": list(annotations), "attr": {"id": 5}, "image": image, **more}


def document(*items: Any) -> dict[str, Any]:
    labels = [{"name": name, "parent": "", "attributes": []} for name in ("cat", "dog")]
    return {
        "dm_format_version": "1.0",
        "media_type": 2,
        "infos": {},
        "categories": {"label": {"labels": labels, "label_groups": [], "attributes": []}},
        "items": list(items),
    }


def save(path: Path, *items: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document(*items), separators=(",", ":")))
    return path


def pixels(segmentation: Any) -> Any:
    if isinstance(segmentation, list):
        segmentation = coco.merge(coco.frPyObjects(segmentation, *SIZE))
    return coco.decode(segmentation) > 0


@real_tool(
    tool="Datumaro",
    writes="its own JSON with boxes, polygons, masks (RLE), ellipses, rotated boxes",
    does="masks exact, boxes stay boxes; ellipses become polygons, rotated boxes the upright box "
    "around them",
)
def test_every_annotation(convert: Convert, tmp_path: Path) -> None:
    ellipse = annotation("ellipse", points=[10.0, 40.0, 30.0, 55.0])
    rotated = annotation("rotated_bbox", points=[40.0, 30.0, 20.0, 10.0, 90.0])
    kept = {**BOX, "attributes": {"occluded": True, "score": 0.5, "is_crowd": False}}
    file = save(tmp_path / "train.json", item(kept, POLYGON, MASK, ellipse, rotated))
    assert detect_format(file) == "datumaro"
    done = convert("datumaro", file)
    box, polygon, mask, drawn, upright = done.rows
    assert box["bbox"] == [50, 30, 20, 15]
    assert "segmentation" not in box
    assert (box["attributes"], box["score"], box["iscrowd"]) == ({"occluded": True}, 0.5, 0)
    assert polygon["segmentation"] == [POLYGON["points"]]
    expected = np.zeros(SIZE, dtype=bool)
    expected[10:20, 30:50] = True
    expected[12:15, 33:40] = False
    assert (pixels(mask["segmentation"]) == expected).all()
    assert mask["attributes"] == {"z_order": 1}
    ys, xs = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    inside = ((xs - 20) / 10) ** 2 + ((ys - 47.5) / 7.5) ** 2 <= 1
    found = pixels(drawn["segmentation"])
    assert (found & inside).sum() / (found | inside).sum() > 0.95
    assert drawn["area"] == pytest.approx(math.pi * 75, rel=0.02)
    assert upright["bbox"] == [35, 20, 10, 20]
    record = {"id": 1, "file_name": "a.jpg", "width": 80, "height": 60}
    assert done.document["images"] == [{**record, "attributes": {"id": 5}}]
    assert [c["name"] for c in done.document["categories"]] == ["cat", "dog"]
    assert not done.report.faults


@real_tool(
    tool="Datumaro",
    writes="annotations of one `group`, crowds as the attribute `is_crowd`",
    does="one object with the group's box; crowds stay crowds",
)
def test_groups_and_crowds(convert: Convert, tmp_path: Path) -> None:
    other = annotation("polygon", points=[50, 40, 70, 40, 60, 55], group=1)
    box = annotation("bbox", bbox=[0, 0, 75, 58], group=1)
    crowd = {**MASK, "attributes": {"is_crowd": True}}
    done = convert(
        "datumaro",
        save(
            tmp_path / "a.json",
            item({**POLYGON, "group": 1}, other, box, {**BOX, "group": 1}, crowd),
        ),
    )
    joined, dog, many = done.rows
    assert joined["bbox"] == [0, 0, 75, 58]
    assert joined["segmentation"] == [POLYGON["points"], other["points"]]
    assert (dog["bbox"], dog["category_id"]) == ([50, 30, 20, 15], 2)
    assert many["iscrowd"] == 1
    assert not done.report.faults


@real_tool(
    tool="Datumaro",
    writes="labels, captions, points, polylines, cuboids, videos; broken masks",
    does="left out and counted by type, exit code 1",
)
def test_what_is_left_out_is_counted(
    convert: Convert, tmp_path: Path, halfmask_cli: RunsHalfmask
) -> None:
    file = save(
        tmp_path / "a.json",
        item(
            BOX,
            annotation("label"),
            annotation("caption", None, caption="x"),
            annotation("points", points=[1, 1], visibility=[2]),
            annotation("polyline", points=[1, 1, 5, 5]),
            annotation("cuboid_2d", points=[[1, 1]] * 8),
            annotation("hologram"),
            {**MASK, "rle": {"counts": RLE, "size": [80, 60]}},
            {**MASK, "rle": [1]},
            {**POLYGON, "points": [1, 2, 3]},
            {**BOX, "bbox": [1, 2, 3]},
            annotation("ellipse", points=[1, 2]),
            annotation("rotated_bbox", points=[1, 2, 3, 4]),
            {**BOX, "label_id": 2},
            {**BOX, "label_id": True},
            {**BOX, "new_key": 1},
            3,
        ),
        {"id": "v", "annotations": [], "video": {"path": "v.mp4"}},
        item(name="b", annotations=7),
    )
    done = convert("datumaro", file)
    assert len(done.rows) == 2
    for kind in ("label", "caption", "points", "polyline", "cuboid_2d"):
        assert done.count_of(f"{kind} shapes: left out") == 1
    assert done.count_of("annotations of the unknown type") == 2
    assert done.count_of("shapes that cannot be read") == 6
    assert done.count_of("annotations without a class in the file") == 2
    assert done.count_of("annotations with 'new_key'") == 1
    assert done.count_of("items without an image") == 1
    assert done.count_of("items whose annotations are no list") == 1
    outcome = halfmask_cli("convert", "datumaro", file, tmp_path / "o.json")
    assert outcome.code == 1
    assert "polyline shapes: left out" in outcome.err


@real_tool(
    tool="Datumaro",
    writes="a folder: `annotations/train.json`, `annotations/val.json`, `images/train/…`",
    does="each file is a part (`--split`); the photographs are found",
)
def test_a_folder(convert: Convert, tmp_path: Path) -> None:
    root = tmp_path / "d"
    for part in ("train", "val"):
        save(root / "annotations" / f"{part}.json", item(BOX))
        (root / "images" / part).mkdir(parents=True)
        Image.new("RGB", SIZE[::-1]).save(root / "images" / part / "a.jpg")
    assert detect_format(root) == "datumaro"
    opened = open_source(root)
    images = json.loads(opened.annotations.read_text())["images"]
    assert opened.images == root
    names = [(image["file_name"], image["split"]) for image in images]
    assert names == [("images/train/a.jpg", "train"), ("images/val/a.jpg", "val")]
    assert len(convert("datumaro", root, split="val").rows) == 1
    with pytest.raises(InputError, match="a part called test; found none"):
        convert("datumaro", root, split="test")
    for part in ("train", "val"):
        (root / "images" / part / "a.jpg").unlink()
    names = [i["file_name"] for i in convert("datumaro", root).document["images"]]
    assert names == ["train/a.jpg", "val/a.jpg"]


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "..", "a\0.jpg", "x" * 300])
def test_no_name_leads_out(path: str, convert: Convert, tmp_path: Path) -> None:
    outside = {"path": path, "size": [*SIZE]}
    done = convert("datumaro", save(tmp_path / "a.json", item(BOX), item(BOX, image=outside)))
    names = [image["file_name"] for image in done.document["images"]]
    assert names[0] == "a.jpg"
    assert not any("/" in name or ".." in name or "\0" in name for name in names)
    assert len(names) + done.count_of("images whose file name leads out") == 2


def test_sizes_from_photographs(convert: Convert, tmp_path: Path) -> None:
    file = save(tmp_path / "a.json", item(BOX, image={"path": "a.jpg"}))
    with pytest.raises(InputError, match="without a usable width and height"):
        convert("datumaro", file)
    (tmp_path / "p").mkdir()
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "p" / "a.jpg")
    assert convert("datumaro", file, images=tmp_path / "p").rows[0]["bbox"] == [50, 30, 20, 15]


def test_files_that_are_not_read(convert: Convert, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"dm_format_version": "1.0", "items": []}')
    with pytest.raises(InputError, match="found no names in categories"):
        convert("datumaro", tmp_path / "a.json")
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(InputError, match="expected a JSON object"):
        convert("datumaro", tmp_path / "a.json")
