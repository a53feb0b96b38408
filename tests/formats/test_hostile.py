"""Any source gives either an InputError or a COCO file that halfmask reads."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from halfmask.coco.file import CocoFile
from halfmask.errors import InputError
from halfmask.formats.convert import convert
from tests.conftest import RunsHalfmask
from tests.formats import test_datumaro as datumaro
from tests.formats import test_labelme as labelme
from tests.formats import test_panoptic as panoptic
from tests.formats import test_supervisely as supervisely
from tests.formats import test_via as via

values: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=5)
    | st.just("\ud800"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=5,
)
any_file = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def survives(form: str, source: Path, **options: Any) -> None:
    out = source.parent / "out.json"
    out.unlink(missing_ok=True)
    try:
        convert(form, source, out, **options)
    except InputError:
        assert not out.exists()
        return
    file = CocoFile.read(out)
    for image in file.images:
        file.states_of(image["id"])
    assert len(file.document["annotations"]) == sum(
        len(file.annotations_of(i["id"])) for i in file.images
    )


def spoiled(document: Any, draw: Any) -> Any:
    """The document with one to three values at any depth replaced by anything."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        items = (
            node.items()
            if isinstance(node, dict)
            else enumerate(node)
            if isinstance(node, list)
            else []
        )
        for key, value in items:
            places.append((node, key))
            walk(value)

    walk(document)
    for _ in range(draw(st.integers(1, 3))):
        node, key = places[draw(st.integers(0, len(places) - 1))]
        node[key] = draw(values)
    return document


def tasks() -> list[Any]:
    size = {"original_width": 20, "original_height": 10, "image_rotation": 0}
    box = {
        "id": "1",
        "type": "rectanglelabels",
        **size,
        "value": {"x": 1, "y": 2, "width": 9, "height": 9, "rotation": 0, "rectanglelabels": ["a"]},
    }
    polygon = {
        "type": "polygonlabels",
        **size,
        "value": {"points": [[1, 1], [9, 1], [5, 9]], "polygonlabels": ["b"]},
    }
    brush = {"type": "brushlabels", **size, "value": {"rle": [0, 0, 3, 32], "brushlabels": ["b"]}}
    round_one = {
        "type": "ellipselabels",
        **size,
        "value": {"x": 50, "y": 50, "radiusX": 9, "radiusY": 9, "ellipselabels": ["b"]},
    }
    kept = {
        **polygon,
        "meta": {
            "bbox": [0, 0, 9, 9],
            "mask_box": [0.2, 0.1, 1.6, 0.8],
            "halfmask": {"state": "filled"},
            "iscrowd": 1,
        },
    }
    return [
        {
            "id": 1,
            "data": {"image": "a.jpg"},
            "annotations": [{"result": [box, polygon, brush, round_one, kept]}],
        }
    ]


@any_file
@given(st.data())
def test_label_studio(tmp_path: Path, data: Any) -> None:
    (tmp_path / "e.json").write_text(json.dumps(spoiled(tasks(), data.draw)))
    survives("label-studio", tmp_path / "e.json")


@any_file
@given(st.data())
def test_lvis(tmp_path: Path, data: Any) -> None:
    row = {
        "id": 4,
        "image_id": 1,
        "category_id": 3,
        "bbox": [1, 2, 10, 12.5],
        "area": 5,
        "segmentation": [[1, 2, 11, 2, 5, 14]],
    }
    document = {
        "annotations": [row, {**row, "id": 5}],
        "images": [{"id": 1, "coco_url": "http://x/val2017/1.jpg", "width": 40, "height": 30}],
        "categories": [{"id": 3, "name": "a"}, {"id": 1, "name": "b"}],
    }
    (tmp_path / "e.json").write_text(json.dumps(spoiled(document, data.draw)))
    out = tmp_path / "out.json"
    try:
        convert("lvis", tmp_path / "e.json", out)
    except InputError:
        return
    CocoFile.read(out)


SHAPES = (
    '<box label="a" xtl="1" ytl="2" xbr="9" ybr="9" rotation="5" group_id="1" z_order="1"/>'
    '<polygon label="a" points="1,1;9,1;5,9" group_id="1"/>'
    '<mask label="a" rle="1,2,1" left="1" top="1" width="2" height="2" group_id="1"/><ellipse '
    'label="a" cx="9" cy="5" rx="4" ry="3"/>'
)
CVAT = f'<annotations><label><name>a</name></label><image id="0" name="a.jpg" width="20" height="10">{SHAPES}</image></annotations>'


@any_file
@given(
    st.integers(0, 2**32),
    st.sampled_from(["nan", "1e309", "-1", "", "x", "99999999999", "&lt;", "0.5", "<", '"', "1e6"]),
)
def test_cvat(tmp_path: Path, seed: int, piece: str) -> None:
    rng = random.Random(seed)
    text = CVAT
    for _ in range(rng.randint(1, 3)):
        values = [i for i, c in enumerate(text) if c.isdigit()]
        at = rng.choice(values)
        text = text[:at] + piece + text[at + rng.randint(0, 1) :]
    (tmp_path / "e.xml").write_text(text)
    survives("cvat", tmp_path / "e.xml")


def test_cvat_image_that_a_coco_file_cannot_have(tmp_path: Path) -> None:
    """As many pixels as no photograph has: the image is left out, and that is told."""
    more = '<image id="1" name="b.jpg" width="16000" height="16000">' + SHAPES + "</image>"
    text = CVAT.replace("</annotations>", f"{more}</annotations>")
    (tmp_path / "e.xml").write_text(text)
    report = convert("cvat", tmp_path / "e.xml", tmp_path / "out.json").report
    assert any("without a usable width and height" in what for what in report.faults)
    survives("cvat", tmp_path / "e.xml")


@any_file
@given(
    st.lists(
        st.lists(
            st.floats().map(str) | st.integers(-3, 3).map(str) | st.text(max_size=3), max_size=11
        ).map(" ".join),
        max_size=5,
    )
)
def test_yolo(tmp_path: Path, lines: list[str]) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir(exist_ok=True)
    Image.new("RGB", (20, 10)).save(tmp_path / "images" / "a.png")
    (tmp_path / "data.yaml").write_text("names: [a, b]\n")
    (tmp_path / "labels" / "a.txt").write_text("\n".join(lines), encoding="utf-8", errors="replace")
    out = tmp_path / "out.json"
    report = convert("yolo", tmp_path, out).report
    document = json.loads(out.read_text())
    assert all(math.isfinite(v) for row in document["annotations"] for v in row["bbox"])
    text = (tmp_path / "labels" / "a.txt").read_text()
    rows = sum(1 for line in text.splitlines() if line.strip())
    reported = sum(
        count
        for what, count in report.faults.items()
        if not what.startswith(("broken masks", "images and not one annotation"))
    )
    assert len(document["annotations"]) + reported == rows


@any_file
@given(st.data())
def test_labelme(tmp_path: Path, data: Any) -> None:
    shapes = [
        labelme.shape("polygon", labelme.POLYGON, group_id=1),
        labelme.shape("rectangle", [[1, 2], [9, 9]], group_id=1),
        labelme.shape("circle", [[20, 20], [25, 20]]),
        labelme.shape("mask", [[1, 2], [4, 5]], mask=labelme.png([[0, 1]] * 4), group_id=1),
    ]
    file = labelme.labelme(tmp_path / "e.json", *shapes)
    file.write_text(json.dumps(spoiled(json.loads(file.read_text()), data.draw)))
    survives("labelme", file)


@any_file
@given(st.data())
def test_via(tmp_path: Path, data: Any) -> None:
    kinds = {"c": {"type": "dropdown", "options": {"a": "A", "b": ""}}}
    shapes = (via.RECT, via.POLYGON, via.CIRCLE, via.ELLIPSE)
    regions = [via.region(shape, c="a", d={"x": True}) for shape in shapes]
    file = via.project(tmp_path / "e.json", via.image(*regions, note="x"), attributes=kinds)
    file.write_text(json.dumps(spoiled(json.loads(file.read_text()), data.draw)))
    survives("via", file)


@any_file
@given(st.data())
def test_panoptic(tmp_path: Path, data: Any) -> None:
    panoptic.save(tmp_path / "e" / "000000000139.png", panoptic.ids())
    document = spoiled(panoptic.document(*json.loads(json.dumps(panoptic.ALL))), data.draw)
    (tmp_path / "e.json").write_text(json.dumps(document))
    out = tmp_path / "out.json"
    try:
        convert("coco-panoptic", tmp_path / "e.json", out)
    except InputError:
        return
    CocoFile.read(out)


@any_file
@given(st.data())
def test_supervisely(tmp_path: Path, data: Any) -> None:
    objects = [
        supervisely.bitmap(supervisely.RING, 5, 7, instance="k", tags=[{"name": "t", "value": 1}]),
        supervisely.outline(
            "road", "polygon", supervisely.TRIANGLE, [[20, 10], [30, 10], [25, 20]]
        ),
        supervisely.outline("bike", "rectangle", supervisely.BOX),
    ]
    root = tmp_path / "p"
    if not root.is_dir():
        supervisely.project(root, ds0={"a.jpg": []})
    file = root / "ds0" / "ann" / "a.jpg.json"
    size = {"height": 60, "width": 80}
    document = {"description": "", "tags": [], "size": size, "objects": objects}
    document = json.loads(json.dumps(document))  # the samples stay as they are
    file.write_text(json.dumps(spoiled(document, data.draw)))
    survives("supervisely", root)


@any_file
@given(st.data())
def test_datumaro(tmp_path: Path, data: Any) -> None:
    rows = [
        {**datumaro.BOX, "group": 1, "attributes": {"is_crowd": True, "score": 0.5}},
        {**datumaro.MASK, "group": 1},
        datumaro.POLYGON,
        datumaro.annotation("ellipse", points=[10.0, 40.0, 30.0, 55.0]),
        datumaro.annotation("rotated_bbox", points=[40, 30, 20, 10, 45]),
    ]
    document = datumaro.document(datumaro.item(*json.loads(json.dumps(rows))))
    (tmp_path / "e.json").write_text(json.dumps(spoiled(document, data.draw)))
    survives("datumaro", tmp_path / "e.json")


@pytest.mark.parametrize("form", ["labelme", "via", "coco-panoptic", "supervisely", "datumaro"])
@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "[" * 100_000, '{"a": 1' + "0" * 5000 + "}", '{"shapes": [}']
)
def test_a_file_that_is_no_json_of_the_format(
    form: str, text: str, tmp_path: Path, halfmask_cli: RunsHalfmask
) -> None:
    (tmp_path / "e.json").write_text(text)
    (tmp_path / "meta.json").write_text(text)
    source = tmp_path if form == "supervisely" else tmp_path / "e.json"
    outcome = halfmask_cli("convert", form, source, tmp_path / "out.json")
    assert outcome.code == 2
    assert outcome.line.startswith("halfmask: ")
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("form", ["to-yolo", "to-voc", "to-cvat", "to-label-studio"])
@any_file
@given(data=st.data())
def test_coco_outward(form: str, tmp_path: Path, kinds: dict[str, Any], data: Any) -> None:
    document = spoiled(json.loads(json.dumps(kinds)), data.draw)
    source = tmp_path / "k.json"
    source.write_text(json.dumps(document))
    out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
    try:
        convert(form, source, out)
    except InputError:
        assert not out.exists()


def test_a_file_name_with_a_line_break_is_named_as_such(tmp_path: Path) -> None:
    """Renaming the photograph and its record, as the message says, mends it."""
    record = {"id": 1, "file_name": "a\nb.jpg", "width": 20, "height": 20}
    document = {"images": [record], "annotations": [], "categories": [{"id": 1, "name": "x"}]}
    path = tmp_path / "x.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="line break"):
        convert("to-yolo", path, tmp_path / "out")
    path.write_text(json.dumps(document | {"images": [record | {"file_name": "a b.jpg"}]}))
    convert("to-yolo", path, tmp_path / "out")
