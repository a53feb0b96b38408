"""Supervisely: a project of its documentation, bitmaps pixel by pixel, data sets as parts."""

import base64
import io
import json
import zlib
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
CLASSES = {"person": "bitmap", "bike": "rectangle", "road": "polygon", "lane": "line", "x": "any"}


def packed(bitmap: Any) -> str:
    """A mask as the SDK's `Bitmap.data_2_base64` writes it: a palette PNG, zlib, base64."""
    image = Image.fromarray(np.array(bitmap, dtype=np.uint8)).convert("P")
    image.putpalette([0, 0, 0, 255, 255, 255])
    file = io.BytesIO()
    image.save(file, format="PNG", transparency=0, optimize=0)
    return base64.b64encode(zlib.compress(file.getvalue())).decode()


def thing(label: str, kind: str | None, **more: Any) -> dict[str, Any]:
    """An object with the keys of the documentation."""
    head = {"id": 497521359, "classId": 1661571, "description": "", "labelerLogin": "alexxx"}
    times = dict.fromkeys(("createdAt", "updatedAt"), "2020-08-07T11:09:51.054Z")
    kinds = {} if kind is None else {"geometryType": kind}
    return {**head, **kinds, **times, "tags": [], "classTitle": label, **more}


def bitmap(mask: Any, x: int, y: int, label: str = "person", **more: Any) -> dict[str, Any]:
    return thing(label, "bitmap", bitmap={"data": packed(mask), "origin": [x, y]}, **more)


def outline(label: str, kind: str, points: Any, *holes: Any, **more: Any) -> dict[str, Any]:
    return thing(label, kind, points={"exterior": points, "interior": list(holes)}, **more)


def project(root: Path, **datasets: dict[str, list[Any]]) -> Path:
    """meta.json, and in each data set `ann` and `img`."""
    classes = [
        {"title": title, "shape": shape, "color": "#FF0000", "id": 1, "hotkey": ""}
        for title, shape in CLASSES.items()
    ]
    root.mkdir(parents=True)
    meta = {"classes": classes, "tags": [], "projectType": "images"}
    (root / "meta.json").write_text(json.dumps(meta))
    for name, images in datasets.items():
        for kind in ("ann", "img"):
            (root / name / kind).mkdir(parents=True)
        for photograph, objects in images.items():
            size = {"height": SIZE[0], "width": SIZE[1]}
            document = {"description": "", "tags": [], "size": size, "objects": objects}
            (root / name / "ann" / f"{photograph}.json").write_text(json.dumps(document))
            Image.new("RGB", SIZE[::-1]).save(root / name / "img" / photograph)
    return root


def flat(points: Any) -> list[float]:
    return [v for point in points for v in point]


def pixels(segmentation: Any) -> Any:
    if isinstance(segmentation, list):
        segmentation = coco.merge(coco.frPyObjects(segmentation, *SIZE))
    return coco.decode(segmentation) > 0


RING = np.pad(np.zeros((4, 6), dtype=np.uint8), 3, constant_values=1)
BOX = [[10, 20], [29, 34]]
TRIANGLE = [[5, 5], [45, 5], [25, 50]]


@real_tool(
    tool="Supervisely",
    writes="a project with bitmaps, polygons with holes, rectangles",
    does="masks exact; rectangles stay boxes, in whole numbers their last pixel is inside",
)
def test_a_project(convert: Convert, tmp_path: Path) -> None:
    hole = [[20, 10], [30, 10], [25, 20]]
    objects = [
        bitmap(RING, 50, 7, tags=[{"name": "situated", "value": "outside"}, {"name": "like"}]),
        outline("bike", "rectangle", BOX),
        outline("road", "polygon", TRIANGLE, hole),
        outline("road", "polygon", TRIANGLE),
        outline("bike", "rectangle", [[29.5, 34.5], [10.25, 20.5]]),
        outline("bike", "rectangle", BOX, geometryType=None),
    ]
    root = project(tmp_path / "p", ds0={"a.jpg": objects})
    assert detect_format(root) == detect_format(root / "ds0") == "supervisely"
    done = convert("supervisely", root)
    ring, box, road, plain, fine, old = done.rows
    expected = np.zeros(SIZE, dtype=bool)
    expected[7:17, 50:62] = RING
    assert (pixels(ring["segmentation"]) == expected).all()
    assert ring["attributes"] == {"situated": "outside", "like": True}
    assert box["bbox"] == old["bbox"] == [10, 20, 20, 15]
    assert "segmentation" not in box
    full, cut = pixels([flat(TRIANGLE)]), pixels([flat(hole)])
    assert (pixels(road["segmentation"]) == full & ~cut).all()
    assert plain["segmentation"] == [flat(TRIANGLE)]
    assert fine["bbox"] == [10.25, 20.5, 19.25, 14]
    assert [c["name"] for c in done.document["categories"]] == list(CLASSES)
    assert done.document["images"][0]["file_name"] == "ds0/img/a.jpg"
    assert not done.report.faults
    assert not done.report.notes


@real_tool(
    tool="Supervisely",
    writes="several data sets in a project; bound objects (`instance`)",
    does="each data set is a part (`--split`); bound objects of a class become one",
)
def test_data_sets_and_instances(convert: Convert, tmp_path: Path) -> None:
    parts = [bitmap(RING, 0, 0, instance="k"), outline("person", "polygon", TRIANGLE, instance="k")]
    root = project(tmp_path / "p", train={"a.jpg": parts}, val={"a.jpg": []})
    done = convert("supervisely", root)
    [row] = done.rows
    expected = pixels([flat(TRIANGLE)])
    expected[:10, :12] |= RING > 0
    assert (pixels(row["segmentation"]) == expected).all()
    names = [image["file_name"] for image in done.document["images"]]
    assert names == ["train/img/a.jpg", "val/img/a.jpg"]
    opened = open_source(root)
    images = json.loads(opened.annotations.read_text())["images"]
    assert [image["split"] for image in images] == ["train", "val"]
    assert opened.images == root
    assert len(convert("supervisely", root, split="val").document["images"]) == 1
    with pytest.raises(InputError, match="a data set called test, found train, val"):
        convert("supervisely", root, split="test")


@real_tool(
    tool="Supervisely",
    writes="lines, points, graphs, cuboids, alpha masks; broken bitmaps",
    does="left out and counted by type, exit code 1; a broken hole is filled and counted",
)
def test_what_is_left_out_is_counted(
    convert: Convert, tmp_path: Path, halfmask_cli: RunsHalfmask
) -> None:
    big = bitmap(np.ones((100, 100)), 0, 0)
    bomb = base64.b64encode(zlib.compress(b"\0" * 10_000_000)).decode()
    objects = [
        outline("road", "polygon", TRIANGLE, [[1, 1], [2, 2]]),
        outline("lane", "line", [[1, 1], [5, 5]]),
        thing("x", "graph", nodes={"a": {"loc": [1, 1]}}),
        thing("x", "cuboid"),
        thing("x", None),
        bitmap(RING, 200, 200),
        big,
        thing("person", "bitmap", bitmap={"data": bomb, "origin": [0, 0]}),
        thing("person", "bitmap", bitmap={"data": "!", "origin": [0, 0]}),
        thing("person", "bitmap", bitmap={"data": packed(RING), "origin": [0]}),
        outline("road", "polygon", [[1, 1], [2, 2]]),
        outline("unlisted", "rectangle", BOX),
        thing("", "rectangle"),
        7,
    ]
    root = project(tmp_path / "p", ds0={"a.jpg": objects})
    done = convert("supervisely", root)
    road, unlisted = done.rows
    assert road["segmentation"] == [flat(TRIANGLE)]
    assert unlisted["bbox"] == [10, 20, 20, 15]
    for what in (
        "line shapes",
        "graph shapes",
        "cuboid shapes",
        "any shapes",
        "objects with 'nodes'",
    ):
        assert done.count_of(what) == 1
    assert done.count_of("shapes that cannot be read") == 6
    assert done.count_of("holes that cannot be read: filled") == 1
    assert done.count_of("objects without a classTitle") == 2
    assert done.count_of("objects of a class that meta.json does not list") == 1
    outcome = halfmask_cli("convert", "supervisely", root, tmp_path / "o.json")
    assert outcome.code == 1
    assert "graph shapes: left out" in outcome.err


def test_one_file_of_a_project_names_its_folder(tmp_path: Path, halfmask_cli: RunsHalfmask) -> None:
    root = project(tmp_path / "p", ds0={"a.jpg": [bitmap(RING, 0, 0)]})
    for file in (root / "meta.json", root / "ds0" / "ann" / "a.jpg.json"):
        outcome = halfmask_cli("doctor", file)
        assert outcome.code == 2
        assert outcome.line.endswith(f"expected its folder: name {root}")
    outcome = halfmask_cli("doctor", root)
    assert outcome.code == 0, outcome.err


def test_old_files_without_a_size_or_the_ending(convert: Convert, tmp_path: Path) -> None:
    root = project(tmp_path / "p", ds0={"a.jpg": [outline("bike", "rectangle", BOX)]})
    folder = root / "ds0" / "ann"
    document = json.loads((folder / "a.jpg.json").read_text())
    del document["size"]
    (folder / "a.jpg.json").unlink()
    (folder / "a.json").write_text(json.dumps(document))
    (folder / "b.jpg.json").write_text("{")
    (folder / "c.jpg.json").write_text('{"objects": 3}')
    done = convert("supervisely", root)
    [image] = done.document["images"]
    assert (image["file_name"], image["height"]) == ("ds0/img/a.jpg", 60)
    assert done.count_of("files that cannot be read") == 2


def test_an_unpacked_bitmap_of_old_projects(convert: Convert, tmp_path: Path) -> None:
    raw = zlib.decompress(base64.b64decode(packed(RING)))
    old = bitmap(RING, 3, 4)
    old["bitmap"]["data"] = base64.b64encode(raw).decode()
    done = convert("supervisely", project(tmp_path / "p", ds0={"a.jpg": [old]}))
    assert done.rows[0]["area"] == RING.sum()


def test_folders_that_are_no_project(convert: Convert, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a Supervisely project"):
        convert("supervisely", tmp_path)
    (tmp_path / "meta.json").write_text('{"classes": 3}')
    with pytest.raises(InputError, match="a list of classes"):
        convert("supervisely", tmp_path)
    (tmp_path / "meta.json").write_text('{"classes": []}')
    with pytest.raises(InputError, match="expected a data set, found none"):
        convert("supervisely", tmp_path)
