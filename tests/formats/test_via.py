"""VIA: its demonstration project, every shape, its CSV, and which attribute is the class."""

import csv
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
SIZE = (360, 480)
RECT = {"name": "rect", "x": 174, "y": 139, "width": 108, "height": 200}
POLYGON = {"name": "polygon", "all_points_x": [10, 60, 35], "all_points_y": [20, 20, 70]}
CIRCLE = {"name": "circle", "cx": 100, "cy": 80, "r": 30}
ELLIPSE = {"name": "ellipse", "cx": 316, "cy": 180, "rx": 57, "ry": 12, "theta": math.pi / 6}


def region(shape: Any, **attributes: Any) -> dict[str, Any]:
    return {"shape_attributes": shape, "region_attributes": attributes}


def image(*regions: Any, name: str = "swan.jpg", **attributes: Any) -> dict[str, Any]:
    head = {"filename": name, "size": 62201, "regions": list(regions)}
    return {**head, "file_attributes": attributes}


def project(path: Path, *images: Any, attributes: Any = None) -> Path:
    """A project as VIA 2.0.12 saves it, with its photographs beside it."""
    document = {
        "_via_settings": {"ui": {}, "core": {"default_filepath": ""}, "project": {"name": "p"}},
        "_via_img_metadata": {f"{i['filename']}{i['size']}": i for i in images},
        "_via_attributes": {"region": attributes or {}, "file": {}},
        "_via_data_format_version": "2.0.10",
        "_via_image_id_list": [f"{i['filename']}{i['size']}" for i in images],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    for entry in images:
        Image.new("RGB", SIZE[::-1]).save(path.parent / entry["filename"])
    return path


def classes_of(done: Any) -> list[str]:
    names = {c["id"]: c["name"] for c in done.document["categories"]}
    return [names[row["category_id"]] for row in done.rows]


def overlap(segmentation: Any, expected: Any) -> float:
    """IoU of a segmentation, drawn by pycocotools, with a raster."""
    found = coco.decode(coco.merge(coco.frPyObjects(segmentation, *SIZE))) > 0
    return float((found & expected).sum() / (found | expected).sum())


@real_tool(
    tool="VIA 2",
    writes="a project (JSON) with rectangles, polygons, circles, ellipses",
    does="rectangles stay boxes; the others become masks; sizes come from the photographs",
)
def test_every_shape_of_a_project(convert: Convert, tmp_path: Path) -> None:
    options = {"type": {"type": "dropdown", "options": {"cup": "", "human": "Human being"}}}
    shapes = (RECT, POLYGON, CIRCLE, ELLIPSE)
    regions = [region(s, type="cup" if s is CIRCLE else "human") for s in shapes]
    file = project(tmp_path / "p.json", image(*regions, caption="x"), attributes=options)
    done = convert("via", file)
    box, polygon, circle, ellipse = done.rows
    assert classes_of(done) == ["Human being", "Human being", "cup", "Human being"]
    assert [c["name"] for c in done.document["categories"]] == ["cup", "Human being"]
    record = {"id": 1, "file_name": "swan.jpg", "width": 480, "height": 360}
    assert done.document["images"] == [{**record, "attributes": {"caption": "x"}}]
    assert box["bbox"] == [174, 139, 108, 200]
    assert "segmentation" not in box
    assert polygon["segmentation"] == [[10, 20, 60, 20, 35, 70]]
    ys, xs = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    assert overlap(circle["segmentation"], (xs - 100) ** 2 + (ys - 80) ** 2 <= 900) > 0.97
    dx, dy = xs - 316, ys - 180
    cos, sin = math.cos(math.pi / 6), math.sin(math.pi / 6)
    turned = ((dx * cos + dy * sin) / 57) ** 2 + ((dy * cos - dx * sin) / 12) ** 2 <= 1
    assert overlap(ellipse["segmentation"], turned) > 0.95
    assert done.report.notes == {"ellipses and circles: drawn as polygons": 2}
    assert not done.report.faults


@real_tool(
    tool="VIA 1 and 2",
    writes="annotations as JSON or CSV (VIA 1: regions as an object, `#filename`)",
    does="read like a project",
)
@pytest.mark.parametrize("form", ["annotations", "via1", "csv", "csv1"])
def test_annotations_as_json_and_csv(form: str, convert: Convert, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    regions = [region(RECT, name="a"), region(POLYGON, name="b")]
    entry = image(*regions, note="x")
    Image.new("RGB", SIZE[::-1]).save(folder / "swan.jpg")
    if form.startswith("csv"):
        file = folder / "v.csv"
        mark = "#" * (form == "csv1")
        head = [f"{mark}filename", "file_size", "file_attributes", "region_count", "region_id"]
        with file.open("w", newline="", encoding="utf-8-sig") as opened:
            rows = csv.writer(opened)
            rows.writerow([*head, "region_shape_attributes", "region_attributes"])
            for i, r in enumerate(regions):
                cells = [json.dumps(r[k]) for k in ("shape_attributes", "region_attributes")]
                rows.writerow(["swan.jpg", 62201, '{"note":"x"}', 2, i, *cells])
    else:
        if form == "via1":
            entry |= {"regions": {str(i): r for i, r in enumerate(regions)}, "fileref": ""}
        file = folder / "v.json"
        file.write_text(json.dumps({"swan.jpg62201": entry}))
    assert detect_format(file) == "via"
    assert detect_format(folder) == "via"
    for source in (file, folder):
        done = convert("via", source)
        assert classes_of(done) == ["a", "b"]
        assert done.rows[0]["bbox"] == [174, 139, 108, 200]
        assert done.rows[1]["segmentation"] == [[10, 20, 60, 20, 35, 70]]
        assert done.document["images"][0]["attributes"] == {"note": "x"}
        assert not done.report.faults


@real_tool(
    tool="VIA 2",
    writes="several attributes of a region, check boxes, regions without attributes",
    does="the class is the attribute called class, label, category or type; said, and the others "
    "kept; without attributes it is `object`",
)
def test_which_attribute_is_the_class(convert: Convert, tmp_path: Path) -> None:
    demonstration = [
        region(RECT, name="Plato", type="human", image_quality={"good": True, "frontal": False}),
        region(CIRCLE, name="Hemlock", type="cup"),
        region(POLYGON, name="no type"),
    ]
    done = convert("via", project(tmp_path / "a" / "p.json", image(*demonstration)))
    assert classes_of(done) == ["human", "cup"]
    assert done.rows[0]["attributes"] == {"name": "Plato", "image_quality": "good"}
    [note] = [what for what in done.report.notes if "one of several attributes" in what]
    assert done.report.first[note] == "the class is 'type', not name, image_quality"
    assert done.count_of("regions without a class") == 1

    checked = [
        region(RECT, animal={"cat": True, "dog": True}),
        region(CIRCLE, animal={"dog": True}),
    ]
    done = convert("via", project(tmp_path / "b" / "p.json", image(*checked)))
    assert classes_of(done) == ["cat", "dog"]
    assert done.count_of("regions of several classes") == 1

    done = convert("via", project(tmp_path / "c" / "p.json", image(region(RECT), region(CIRCLE))))
    assert classes_of(done) == ["object", "object"]
    assert done.count_of("regions without any attribute") == 2

    by_group = {
        "furniture": {"type": "radio", "options": {"64": "potted plant"}},
        "person": {"type": "radio", "options": {"1": "person"}},
    }
    regions = [region(RECT, furniture="64"), region(CIRCLE, person="1")]
    file = project(tmp_path / "d" / "p.json", image(*regions), attributes=by_group)
    assert classes_of(convert("via", file)) == ["potted plant", "person"]


@real_tool(
    tool="VIA 1 and 2",
    writes="points and polylines; broken regions",
    does="left out and counted by type, exit code 1",
)
def test_what_is_left_out_is_counted(
    convert: Convert, tmp_path: Path, halfmask_cli: RunsHalfmask
) -> None:
    line = {"name": "polyline", "all_points_x": [1, 5], "all_points_y": [1, 5]}
    regions = [
        region(RECT, c="a"),
        region(line, c="a"),
        region({"name": "point", "cx": 3, "cy": 3}, c="a"),
        region({"name": "star"}, c="a"),
        region({"name": "circle", "cx": 3, "cy": 3}, c="a"),
        region({**POLYGON, "all_points_y": [1]}, c="a"),
        region({**RECT, "x": "1"}, c="a"),
        {"region_attributes": {"c": "a"}},
        "no region",
    ]
    file = project(tmp_path / "p.json", image(*regions))
    done = convert("via", file)
    assert len(done.rows) == 1
    for what in ("polyline shapes", "point shapes", "shapes of the unknown type 'star'"):
        assert done.count_of(what) == 1
    assert done.count_of("shapes that cannot be read") == 5
    outcome = halfmask_cli("convert", "via", file, tmp_path / "o.json")
    assert outcome.code == 1
    assert "polyline shapes: left out" in outcome.err


@real_tool(
    tool="VIA 1 and 2",
    writes="addresses and paths as file names, no sizes",
    does="the photograph with the last part is used; without it, `--images` is asked for",
)
def test_photographs(convert: Convert, tmp_path: Path) -> None:
    names = ("http://example.org/a/my%20swan.jpg", "C:\\x\\b.jpg", "../../etc/passwd")
    file = tmp_path / "d" / "p.json"
    file.parent.mkdir()
    file.write_text(json.dumps({n: image(region(RECT, c="a"), name=n) for n in names}))
    with pytest.raises(InputError, match="name the folder of the photographs with --images"):
        convert("via", file)
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "photos" / "my swan.jpg")
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "photos" / "sub" / "b.jpg")
    done = convert("via", file, images=tmp_path / "photos")
    assert [i["file_name"] for i in done.document["images"]] == ["my swan.jpg", "b.jpg"]
    assert done.count_of("images whose photograph is not there") == 1
    opened = open_source(file, images=tmp_path / "photos")
    assert (opened.format, opened.ok) == ("via", False)


def test_a_photograph_that_arrives_later_is_read(tmp_path: Path) -> None:
    file = project(tmp_path / "p.json", image(region(RECT, c="a")), image(name="b.jpg"))
    (tmp_path / "b.jpg").unlink()
    assert not open_source(file).ok
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "b.jpg")
    opened = open_source(file)
    assert opened.ok
    assert opened.images == tmp_path


def test_a_turned_photograph_has_its_upright_size(convert: Convert, tmp_path: Path) -> None:
    file = project(tmp_path / "p.json", image(region(RECT, c="a")))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", SIZE).save(tmp_path / "swan.jpg", exif=exif)
    done = convert("via", file)
    assert done.document["images"][0]["width"] == SIZE[1]
    assert done.count_of("photographs with an EXIF turn") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"project": {"pid": "x"}, "file": {}, "metadata": {}}', "found a project of VIA 3"),
        ('{"_via_settings": {}}', "found no image with a filename"),
        ('{"_via_img_metadata": []}', "is no object"),
        ("[]", "found list"),
        ("{", "found something else"),
    ],
)
def test_files_that_are_not_read(text: str, message: str, convert: Convert, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(InputError, match=message):
        convert("via", tmp_path / "p.json")
    if "_via" in text or "pid" in text:
        with pytest.raises(InputError, match=message):
            open_source(tmp_path / "p.json")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a,b\n1,2\n", "expected VIA's columns, found a, b"),
        (b"\xff\xfe", "in UTF-8"),
        (b"", "found nothing"),
    ],
)
def test_csv_that_is_not_read(data: bytes, message: str, convert: Convert, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes(data)
    with pytest.raises(InputError, match=message):
        convert("via", tmp_path / "p.csv")
