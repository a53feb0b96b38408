"""labelme: the file of its documentation, every shape, groups, names of photographs."""

import base64
import io
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


def shape(kind: str | None, points: Any, label: Any = "cat", **more: Any) -> dict[str, Any]:
    """A shape with the keys that labelme 5 writes."""
    plain = {"label": label, "points": points, "group_id": None, "description": ""}
    return {**plain, "shape_type": kind, "flags": {}, "mask": None, **more}


def labelme(path: Path, *shapes: Any, image: str = "a.jpg", **more: Any) -> Path:
    """A file as labelme 5 writes it, key by key in its order."""
    document = {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": image,
        "imageData": None,
        "imageHeight": SIZE[0],
        "imageWidth": SIZE[1],
        **more,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2))
    return path


def png(bitmap: Any) -> str:
    """A mask as labelme's `img_arr_to_b64` writes it."""
    file = io.BytesIO()
    Image.fromarray(np.asarray(bitmap, dtype=np.uint8)).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def flat(points: Any) -> list[float]:
    return [v for point in points for v in point]


def pixels(segmentation: Any) -> Any:
    """The mask of a segmentation as pycocotools draws it."""
    if isinstance(segmentation, dict):
        return coco.decode(segmentation) > 0
    return coco.decode(coco.merge(coco.frPyObjects(segmentation, *SIZE))) > 0


POLYGON = [[4.25, 5.5], [24.25, 5.5], [14.0, 23.5]]


@real_tool(
    tool="labelme",
    writes="a JSON file per photograph, with polygons and rectangles",
    does="polygons become masks, rectangles stay boxes; flags become attributes",
)
def test_the_file_of_the_documentation(convert: Convert, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "d" / "a.jpg")
    flags = {"occluded": True, "blurred": False}
    labelme(
        tmp_path / "d" / "a.json",
        shape("polygon", POLYGON, flags=flags),
        shape("rectangle", [[50.0, 30.0], [40.0, 10.5]], "dog"),
        flags={"night": True},
    )
    done = convert("labelme", tmp_path / "d")
    mask, box = done.rows
    assert not done.report.faults
    assert not done.report.notes
    image = {"id": 1, "file_name": "a.jpg", "width": 80, "height": 60}
    assert done.document["images"] == [{**image, "attributes": {"night": True}}]
    assert (pixels(mask["segmentation"]) == pixels([flat(POLYGON)])).all()
    assert mask["attributes"] == {"occluded": True}
    assert box["bbox"] == [40, 10.5, 10, 19.5]
    assert "segmentation" not in box
    assert [c["name"] for c in done.document["categories"]] == ["cat", "dog"]


@real_tool(
    tool="labelme",
    writes="masks of its AI tools: a PNG as text, and two corners",
    does="exact, cut to the corners and to the photograph",
)
def test_masks_are_exact(convert: Convert, tmp_path: Path) -> None:
    bitmap = np.zeros((20, 30), dtype=np.uint8)
    bitmap[2:15, 3:20] = 1
    bitmap[5:8, 6:9] = 0
    expected = np.zeros(SIZE, dtype=bool)
    expected[20:40, 70:80] = bitmap[:, :10]
    inside = shape("mask", [[70, 20], [99, 39]], mask=png(bitmap))
    white = shape("mask", [[10, 5], [39, 24]], mask=png(bitmap * 255))
    left = shape("mask", [[-5.5, 0.5], [23.5, 19.5]], mask=png(bitmap))
    labelme(tmp_path / "d" / "a.json", inside, white, left)
    done = convert("labelme", tmp_path / "d")
    assert not done.report.faults
    assert (pixels(done.rows[0]["segmentation"]) == expected).all()
    found = pixels(done.rows[1]["segmentation"])
    assert (found[5:25, 10:40] == bitmap).all()
    assert found.sum() == bitmap.sum() == done.rows[1]["area"]
    assert (pixels(done.rows[2]["segmentation"])[0:20, 0:24] == bitmap[:, 6:]).all()


@real_tool(
    tool="labelme",
    writes="shapes of one `group_id` and label",
    does="one object: their masks joined, in the box of the group if it has one",
)
def test_a_group_is_one_object(convert: Convert, tmp_path: Path) -> None:
    other = [[60, 30], [70, 30], [65, 50]]
    patch = np.ones((5, 4))
    labelme(
        tmp_path / "a.json",
        shape("polygon", POLYGON, group_id=1),
        shape("polygon", other, group_id=1),
        shape("rectangle", [[0, 0], [75, 55]], group_id=1),
        shape("polygon", POLYGON, "dog", group_id=1),
        shape("polygon", other, "dog", group_id=2),
        shape("mask", [[1, 50], [4, 54]], "dog", group_id=2, mask=png(patch)),
        shape("rectangle", [[0, 0], [10, 5]], "hen", group_id=7),
        shape("rectangle", [[30, 20], [40, 25]], "hen", group_id=7),
        image="a.jpg",
    )
    done = convert("labelme", tmp_path / "a.json")
    both, alone, mixed, boxes = done.rows
    assert both["bbox"] == [0, 0, 75, 55]
    parts = [flat(POLYGON), flat(other)]
    assert both["segmentation"] == parts
    assert (pixels(alone["segmentation"]) == pixels(parts[:1])).all()
    expected = pixels(parts[1:])
    expected[50:55, 1:5] = True
    assert (pixels(mixed["segmentation"]) == expected).all()
    assert boxes["bbox"] == [0, 0, 40, 25]
    assert "segmentation" not in boxes
    assert done.count_of("objects of several shapes, joined by their group") == 3
    assert done.count_of("objects of several boxes") == 1
    assert not done.report.faults


@real_tool(
    tool="labelme",
    writes="circles, and oriented rectangles",
    does="circles become polygons, oriented rectangles the upright box around them; both counted",
)
def test_circles_and_oriented_rectangles(convert: Convert, tmp_path: Path) -> None:
    corners = [[20, 10], [30, 20], [20, 30], [10, 20]]
    labelme(
        tmp_path / "a.json",
        shape("circle", [[40, 30], [40, 45]]),
        shape("oriented_rectangle", corners),
    )
    done = convert("labelme", tmp_path / "a.json")
    circle, box = done.rows
    ys, xs = np.mgrid[:60, :80] + 0.5
    disc = (xs - 40) ** 2 + (ys - 30) ** 2 <= 15**2
    found = pixels(circle["segmentation"])
    assert (disc & found).sum() / (disc | found).sum() > 0.97
    assert circle["area"] == pytest.approx(math.pi * 15**2, rel=0.01)
    assert box["bbox"] == [10, 10, 20, 20]
    assert "segmentation" not in box
    assert done.count_of("ellipses and circles") == done.count_of("rotated boxes") == 1
    assert not done.report.faults


@real_tool(
    tool="labelme",
    writes="lines, line strips, points; shapes without an area or a label",
    does="left out and counted by type, exit code 1; the other shapes stay",
)
def test_what_is_left_out_is_counted(
    convert: Convert, tmp_path: Path, halfmask_cli: RunsHalfmask
) -> None:
    file = labelme(
        tmp_path / "a.json",
        shape("polygon", POLYGON),
        shape("line", [[1, 1], [5, 5]]),
        shape("linestrip", [[1, 1], [5, 5], [9, 1]]),
        shape("point", [[1, 1]]),
        shape("points", [[1, 1], [2, 2]]),
        shape("heart", [[1, 1], [5, 5]]),
        shape("polygon", [[1, 1], [5, 5]]),
        shape("polygon", [[1, 1], [5, "5"], [2, 2]]),
        shape("circle", [[5, 5], [5, 5]]),
        shape("mask", [[0, 0], [1, 1]], mask="no base64"),
        shape("mask", [[0, 0], [3, 3]], mask=png(np.zeros((4, 4)))),
        shape("rectangle", [[90, 70], [95, 75]]),
        shape("polygon", POLYGON, label=""),
        "no shape",
    )
    done = convert("labelme", file)
    assert len(done.rows) == 1
    for kind in ("line", "linestrip", "point", "points"):
        assert done.count_of(f"{kind} shapes: left out") == 1
    assert done.count_of("shapes of the unknown type 'heart'") == 1
    assert done.count_of("shapes that cannot be read") == 7
    assert done.count_of("shapes without a label") == 1
    assert sum(done.report.faults.values()) == 13
    outcome = halfmask_cli("convert", "labelme", file, tmp_path / "o.json")
    assert outcome.code == 1
    assert "linestrip shapes: left out" in outcome.err


@real_tool(
    tool="X-AnyLabeling",
    writes="labelme's format with scores, attributes, rotated boxes and keys of its own",
    does="read like labelme's; scores and attributes kept, unknown keys counted by name",
)
def test_x_anylabeling(convert: Convert, tmp_path: Path) -> None:
    corners = [[10, 10], [30, 10], [30, 25], [10, 25]]
    keys = {"kie_linking": [[1, 2]], "difficult": True, "attributes": {"colour": "red"}}
    file = labelme(
        tmp_path / "a.json",
        shape("rectangle", corners, score=0.75, **keys),
        shape("rotation", corners, direction=1.5),
        checked=True,
        cells=[1],
    )
    done = convert("labelme", file)
    assert [row["bbox"] for row in done.rows] == [[10, 10, 20, 15]] * 2
    assert done.rows[0]["score"] == 0.75
    assert done.rows[0]["attributes"] == {"colour": "red", "difficult": True}
    assert done.count_of("shapes with 'kie_linking'") == 1
    assert done.count_of("labelme files with 'cells'") == 1
    assert not done.report.faults


@real_tool(
    tool="labelme",
    writes="`imagePath` of another computer, or in another folder (`..\\images\\a.jpg`)",
    does="finds the photograph beside the file, or in the folder that is named",
)
def test_photographs_are_found(tmp_path: Path, convert: Convert) -> None:
    for place in ("images/a.jpg", "images/sub/a.jpg", "d/b.png", "d/sub/c.jpg"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1]).save(tmp_path / place)
    labelme(tmp_path / "d" / "a.json", image="..\\images\\a.jpg")
    labelme(tmp_path / "d" / "b.json", image="C:\\Users\\x\\other.jpg")
    labelme(tmp_path / "d" / "sub" / "c.json", image="/home/x/c.jpg")
    opened = open_source(tmp_path / "d")
    names = [i["file_name"] for i in json.loads(opened.annotations.read_text())["images"]]
    assert opened.images == tmp_path
    assert names[:1] == ["images/a.jpg"]
    done = convert("labelme", tmp_path / "d", images=tmp_path / "images")
    names = [image["file_name"] for image in done.document["images"]]
    assert names == ["a.jpg", "other.jpg", "sub/c.jpg"]
    (tmp_path / "d" / "a.json").unlink()
    opened = open_source(tmp_path / "d")
    names = [i["file_name"] for i in json.loads(opened.annotations.read_text())["images"]]
    assert (opened.images, names) == (tmp_path / "d", ["b.png", "sub/c.jpg"])


@pytest.mark.parametrize("path", ["../../../etc/passwd", "/etc/passwd", "..", "a\0.jpg", "x" * 300])
def test_no_name_leads_out(path: str, convert: Convert, tmp_path: Path) -> None:
    labelme(tmp_path / "d" / "ok.json", shape("polygon", POLYGON))
    labelme(tmp_path / "d" / "z.json", shape("polygon", POLYGON), image=path)
    done = convert("labelme", tmp_path / "d")
    names = [image["file_name"] for image in done.document["images"]]
    assert names[0] == "a.jpg"
    assert not any("/" in name or ".." in name or "\0" in name for name in names)
    if path == "..":
        assert done.count_of("images whose file name leads out") == 1


def test_sizes_of_old_files_come_from_the_photograph(convert: Convert, tmp_path: Path) -> None:
    file = labelme(tmp_path / "a.json", shape(None, POLYGON), imageHeight=None, imageWidth=None)
    with pytest.raises(InputError, match="without a usable width and height"):
        convert("labelme", file)
    Image.new("RGB", (80, 60)).save(tmp_path / "a.jpg")
    done = convert("labelme", file)
    assert done.document["images"][0]["height"] == 60
    assert len(done.rows) == 1


def test_classes_of_labels_txt_and_other_json_files(convert: Convert, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    labelme(folder / "a.json", shape("polygon", POLYGON))
    (folder / "labels.txt").write_text("__ignore__\n_background_\ndog\ncat\n")
    (folder / "b.json").write_text('{"images": []}')
    (folder / "c.json").write_text("{")
    assert detect_format(folder) == detect_format(folder / "a.json") == "labelme"
    done = convert("labelme", folder)
    assert [c["name"] for c in done.document["categories"]] == ["dog", "cat"]
    assert done.count_of("JSON files that are not labelme's, or broken") == 2
    with pytest.raises(InputError, match="expected a labelme file"):
        convert("labelme", folder / "b.json")
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="found no JSON file"):
        convert("labelme", tmp_path / "none")
    embedded = labelme(tmp_path / "e.json", shape("polygon", POLYGON), imageData="A" * 9000)
    text = json.dumps(dict(sorted(json.loads(embedded.read_text()).items())))
    embedded.write_text(text)
    assert detect_format(embedded) == "labelme"


def test_a_mask_larger_than_its_image_is_not_unpacked(convert: Convert, tmp_path: Path) -> None:
    big = png(np.ones((4000, 4000)))
    file = labelme(
        tmp_path / "a.json", shape("polygon", POLYGON), shape("mask", [[0, 0], [9, 9]], mask=big)
    )
    done = convert("labelme", file)
    assert len(done.rows) == 1
    assert "larger than its image" in done.report.first["shapes that cannot be read: left out"]
