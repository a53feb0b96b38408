"""VOC files as tools write them: the official sample, polygons, names, folders, parts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from halfmask.errors import InputError
from halfmask.formats.detect import detect_format
from halfmask.formats.source import open_source
from halfmask.formats.xml_stream import XmlError, children_of, root_of
from tests.real_tools import real_tool

Convert = Callable[..., Any]

OFFICIAL = """<annotation>
  <folder>VOC2012</folder>
  <filename>2007_000032.jpg</filename>
  <source>
    <database>The VOC2007 Database</database>
    <annotation>PASCAL VOC2007</annotation>
    <image>flickr</image>
  </source>
  <owner><flickrid>x</flickrid><name>x</name></owner>
  <size><width>50</width><height>28</height><depth>3</depth></size>
  <segmented>1</segmented>
  <object>
    <name>aeroplane</name><pose>Frontal</pose><truncated>0</truncated><difficult>0</difficult>
    <bndbox><xmin>11</xmin><ymin>8</ymin><xmax>38</xmax><ymax>19</ymax></bndbox>
  </object>
  <object>
    <name>person</name><pose>Rear</pose><occluded>1</occluded><truncated>0</truncated>
    <bndbox><xmin>20</xmin><ymin>18</ymin><xmax>22</xmax><ymax>23</ymax></bndbox>
    <part><name>head</name>
      <bndbox><xmin>20</xmin><ymin>18</ymin><xmax>21</xmax><ymax>19</ymax></bndbox></part>
  </object>
</annotation>"""
"""A file of VOC 2012, smaller: the development kit's own structure and order."""
BOX = "<bndbox><xmin>11</xmin><ymin>21</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"
TRIANGLE = "<x1>11</x1><y1>21</y1><x2>31</x2><y2>21</y2><x3>20</x3><y3>40.5</y3>"


def xml(thing: str = BOX, name: str = "a.jpg", more: str = "", size: str = "60") -> str:
    size = f"<size><width>{size}</width><height>50</height></size>"
    return (
        f"<annotation><filename>{name}</filename>{more}{size}<object><name>bear</name>{thing}"
        "</object></annotation>"
    )


def put(root: Path, files: dict[str, str], photographs: tuple[str, ...] = ()) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    for name in photographs:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 50)).save(root / name)
    return root


def names(done: Any) -> list[str]:
    return [image["file_name"] for image in done.document["images"]]


def test_the_official_sample(convert: Convert, tmp_path: Path) -> None:
    """An element `annotation` deeper than the root, with and without the photograph."""
    source = put(tmp_path / "v", {"Annotations/2007_000032.xml": OFFICIAL})
    done = convert("voc", source)
    assert [(a["bbox"], a["attributes"]) for a in done.rows] == [
        ([10, 7, 28, 12], {"pose": "Frontal"}),
        ([19, 17, 3, 6], {"occluded": 1, "pose": "Rear"}),
    ]
    assert [c["name"] for c in done.document["categories"]] == ["aeroplane", "person"]
    assert done.report.notes == {"objects with parts: COCO has no field for that": 1}
    assert not done.report.faults
    (source / "JPEGImages").mkdir()
    Image.new("RGB", (50, 28)).save(source / "JPEGImages" / "2007_000032.jpg")
    again = convert("voc", source, images=source / "JPEGImages")
    assert again.document["annotations"] == done.document["annotations"]
    assert not again.report.faults


@pytest.mark.parametrize(
    "text",
    [
        OFFICIAL,
        '<?xml version="1.0"?>\n<!-- by a tool -->' + OFFICIAL,
        OFFICIAL.replace("<annotation>", '<annotation xmlns="urn:x" verified="yes">', 1),
        OFFICIAL.replace("<owner>", "<owner><object><name>no</name></object>"),
        OFFICIAL.replace("<source>", "<source><size><width>1</width></size>"),
    ],
    ids=["plain", "comment", "namespace", "object in owner", "size in source"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_only_children_of_the_root_count(
    convert: Convert, tmp_path: Path, text: str, encoding: str
) -> None:
    if encoding == "utf-16":
        text = text.replace('<?xml version="1.0"?>', "")
    path = tmp_path / "v" / "Annotations" / "x.XML"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding=encoding)
    assert detect_format(tmp_path / "v") == "voc"
    done = convert("voc", tmp_path / "v")
    assert [a["bbox"] for a in done.rows] == [[10, 7, 28, 12], [19, 17, 3, 6]]
    assert done.document["images"][0]["width"] == 50
    assert not done.report.faults


def test_the_root_and_its_children(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text("<a><b>1<a><b>2</b></a></b><c/><b>3</b></a>")
    assert [(e.tag, e.text) for e in children_of(path, "a")] == [
        ("b", "1"),
        ("c", None),
        ("b", "3"),
    ]
    assert [e.text for e in root_of(path, "a").findall("b")] == ["1", "3"]
    with pytest.raises(XmlError, match="expected the root element b, found a"):
        root_of(path, "b")


@pytest.mark.parametrize(
    ("polygon", "flat"),
    [
        (f"<polygon>{TRIANGLE}</polygon>", [10, 20, 30, 20, 19, 39.5]),
        (
            "<polygon><y3>40.5</y3><x3>20</x3><x1>11</x1><x2>31</x2><y2>21</y2><y1>21</y1>"
            "</polygon>",
            [10, 20, 30, 20, 19, 39.5],
        ),
        (
            "<polygon><username>x</username><pt><x>11</x><y>21</y></pt><pt><x>31</x><y>21</y>"
            "</pt><pt><x>20</x><y>40.5</y></pt></polygon>",
            [10, 20, 30, 20, 19, 39.5],
        ),
        (
            "<polygon><point><x>11</x><y>21</y></point><point><x>31</x><y>21</y></point>"
            "<point><x>20</x><y>40.5</y></point></polygon>",
            [10, 20, 30, 20, 19, 39.5],
        ),
    ],
    ids=["Roboflow", "unordered", "pt", "point"],
)
def test_polygons(convert: Convert, tmp_path: Path, polygon: str, flat: list[float]) -> None:
    """Their pixels are pycocotools' of the corners less 1: as supervision reads them."""
    source = put(tmp_path / "v", {"Annotations/a.xml": xml(BOX + polygon)})
    done = convert("voc", source)
    [row] = done.rows
    assert row["bbox"] == [10, 20, 20, 20]
    assert row["segmentation"] == [flat]
    wanted = coco_mask.decode(coco_mask.frPyObjects([flat], 50, 60))[:, :, 0]
    found = coco_mask.decode(coco_mask.frPyObjects(row["segmentation"], 50, 60))[:, :, 0]
    assert (found == wanted).all()
    assert row["area"] == wanted.sum() > 150
    assert not done.report.faults
    zero = convert("voc", source, zero_based=True)
    assert zero.rows[0]["segmentation"] == [[v + 1 for v in flat]]


def test_parts_and_polygons_without_a_box(convert: Convert, tmp_path: Path) -> None:
    far = TRIANGLE.replace("20</x3>", "45</x3>").replace("<y1>21", "<y1>2")
    two = f"<polygon>{TRIANGLE}</polygon><polygon>{far}</polygon>"
    bad = "<polygon><x1>3</x1><y1>3</y1><x2>9</x2></polygon>"
    texts = {"a": two, "b": BOX + bad, "c": bad, "d": BOX + f"<polygon>{TRIANGLE}</polygon>{bad}"}
    files = {f"Annotations/{k}.xml": xml(thing, f"{k}.jpg") for k, thing in texts.items()}
    done = convert("voc", put(tmp_path / "v", files))
    first, second, third = done.rows
    assert len(first["segmentation"]) == 2
    assert first["bbox"] == [10, 1, 34, 38.5]
    assert "segmentation" not in second
    assert len(third["segmentation"]) == 1
    assert done.count_of("polygons that cannot be read") == 3
    assert done.count_of("objects without a box of four numbers") == 1


def test_pixels_go_before_a_polygon(convert: Convert, tmp_path: Path) -> None:
    source = put(tmp_path / "v", {"Annotations/a.xml": xml(f"{BOX}<polygon>{TRIANGLE}</polygon>")})
    values = np.zeros((50, 60), dtype=np.uint8)
    values[22:38, 12:28] = 1
    (source / "SegmentationObject").mkdir()
    Image.fromarray(values).save(source / "SegmentationObject" / "a.png")
    Image.fromarray(values).save(source / "SegmentationObject" / "z.png")
    done = convert("voc", source)
    assert (coco_mask.decode(done.rows[0]["segmentation"]) == values).all()
    assert done.count_of("objects with pixels and a polygon") == 1
    assert done.count_of("mask PNGs without an XML file") == 1


def test_content_that_is_not_known_is_counted(convert: Convert, tmp_path: Path) -> None:
    turned = "<robndbox><cx>30</cx><cy>20</cy><w>20</w><h>4</h><angle>1.5707963</angle></robndbox>"
    attributes = (
        "<attributes><attribute><name>hue</name><value>red</value></attribute></attributes>"
    )
    texts = {
        "a": xml(turned, "a.jpg"),
        "b": xml(f"{BOX}{attributes}<confidence>0.5</confidence>", "b.jpg"),
        "c": xml(f"{BOX}<cuboid/>", "c.jpg", more="<weather>fine</weather>"),
        "d": xml(BOX + BOX, "d.jpg"),
    }
    source = put(tmp_path / "v", {f"Annotations/{k}.xml": text for k, text in texts.items()})
    done = convert("voc", source)
    assert done.rows[0]["bbox"] == pytest.approx([28, 10, 4, 20], abs=1e-3)
    assert done.rows[1]["attributes"] == {"hue": "red"}
    assert done.rows[1]["score"] == 0.5
    assert done.count_of("rotated boxes: the upright box") == 1
    assert set(done.report.faults) == {
        "elements <cuboid> of an object: not known, not read",
        "elements <weather> of a VOC file: not known, not read",
        "objects with several boxes: the first is used",
    }


@pytest.mark.parametrize(
    ("written", "photograph", "found"),
    [
        ("a", "JPEGImages/a.jpg", "a.jpg"),
        ("a.b", "JPEGImages/a.b.png", "a.b.png"),
        ("a.jpg", "JPEGImages/a.png", "a.png"),
        ("a.JPG", "images/a.jpg", "a.jpg"),
        ("old_name.jpg", "JPEGImages/x.jpg", "x.jpg"),
        ("C:\\Users\\me\\a.jpg", "JPEGImages/a.jpg", "a.jpg"),
        ("/home/me/a.jpg", "JPEGImages/a.jpg", "a.jpg"),
        ("cafe\u0301.jpg", "JPEGImages/caf\u00e9.jpg", "caf\u00e9.jpg"),
        ("set\\a.jpg", "JPEGImages/set/a.jpg", "set/a.jpg"),
        ("https://x.example/a%20b.jpg", "JPEGImages/a b.jpg", "a b.jpg"),
        ("", "JPEGImages/x.png", "x.png"),
        ("a.jpg", "Annotations/a.jpg", "a.jpg"),
    ],
)
def test_file_names(
    convert: Convert, tmp_path: Path, written: str, photograph: str, found: str
) -> None:
    text = xml(name=written)
    source = put(tmp_path / "v", {"Annotations/x.xml": text}, (photograph,))
    done = convert("voc", source)
    assert names(done) == [found]
    assert not done.report.faults
    opened = open_source(source)
    assert (opened.photographs() / found).is_file()


def test_a_guessed_photograph_has_the_size_of_the_file(convert: Convert, tmp_path: Path) -> None:
    source = put(tmp_path / "v", {"Annotations/x.xml": xml(size="61")}, ("JPEGImages/x.jpg",))
    done = convert("voc", source)
    assert names(done) == ["a.jpg"]
    assert done.count_of("photographs found without the ending") == 1
    source = put(tmp_path / "w", {"Annotations/x.xml": xml()}, ("JPEGImages/z.jpg",))
    assert convert("voc", source).count_of("images without a photograph") == 1


def test_the_same_name_in_two_folders(convert: Convert, tmp_path: Path) -> None:
    nested = {f"Annotations/cam{k}/1.xml": xml(name="1.jpg") for k in (1, 2)}
    done = convert("voc", put(tmp_path / "n", nested))
    assert names(done) == ["cam1/1.jpg", "cam2/1.jpg"]
    flat = {
        f"Annotations/cam{k}_1.xml": xml(name="1.jpg", more=f"<folder>cam{k}</folder>")
        for k in (1, 2)
    }
    assert names(convert("voc", put(tmp_path / "f", flat))) == ["cam1/1.jpg", "cam2/1.jpg"]
    there = ("images/cam1/1.jpg", "images/cam2/1.jpg")
    done = convert("voc", put(tmp_path / "g", flat, there))
    assert names(done) == ["cam1/1.jpg", "cam2/1.jpg"]
    assert not done.report.faults


@real_tool(
    tool="Roboflow",
    writes="VOC: photographs and XML files together, in a folder for each part",
    does="read by parts (`--split`); the photographs are found",
)
def test_folders_for_parts(convert: Convert, tmp_path: Path) -> None:
    """As Roboflow writes VOC: photographs and XML files together, in a folder for each part."""
    files = {f"{part}/x.xml": xml(name="x.jpg") for part in ("train", "valid")}
    source = put(tmp_path / "v", files, ("train/x.jpg", "valid/x.jpg"))
    assert detect_format(source) == "voc"
    opened = open_source(source)
    assert opened.ok
    assert opened.images == source
    done = convert("voc", source, split="val")
    assert names(done) == ["valid/x.jpg"]
    assert len(done.rows) == 1


def test_lines_of_a_list(convert: Convert, tmp_path: Path) -> None:
    files = {f"Annotations/{k}.xml": xml(name=f"{k}.jpg") for k in ("a", "b c", "D", "e", "f")}
    source = put(tmp_path / "v", files)
    lists = source / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    text = "\ufeffa\r\nb c\r\n\r\nd.jpg\r\nJPEGImages/e.jpg -1\r\nnowhere 1\r\n"
    (lists / "val.txt").write_bytes(text.encode())
    done = convert("voc", source, split="val")
    assert names(done) == ["D.jpg", "a.jpg", "b c.jpg", "e.jpg"]
    assert done.count_of("lines of ImageSets without their XML file") == 1
    (lists / "test.txt").write_text("nowhere\n")
    with pytest.raises(InputError, match="none of its images has an XML file"):
        convert("voc", source, split="test")


def test_nothing_found_is_not_nothing_there(convert: Convert, tmp_path: Path) -> None:
    empty = (
        xml().replace("<object>", "<objects><object>").replace("</object>", "</object></objects>")
    )
    done = convert("voc", put(tmp_path / "v", {"Annotations/a.xml": empty}))
    assert done.report.faults == {
        "elements <objects> of a VOC file: not known, not read": 1,
        "images and not one annotation: looked for elements object with a bndbox or polygon, "
        "below annotation": 1,
    }
    source = put(tmp_path / "w", {"Annotations/a.xml": xml()}, ("SegmentationClass/a.png",))
    assert convert("voc", source).count_of("PNGs in SegmentationClass") == 1
    with pytest.raises(InputError, match="no such folder"):
        convert("voc", source, masks=tmp_path / "nowhere")


@real_tool(
    tool="supervision",
    writes="VOC: a polygon and a box of each mask",
    does="the polygon is read as the mask, the box within a pixel",
)
def test_supervision_writes_what_is_read(convert: Convert, tmp_path: Path) -> None:
    supervision = pytest.importorskip("supervision")
    from supervision.dataset.formats.pascal_voc import detections_to_pascal_voc

    mask = np.zeros((1, 50, 60), dtype=bool)
    mask[0, 10:30, 5:40] = True
    box = np.array([[5.0, 10.0, 40.0, 30.0]])
    detections = supervision.Detections(xyxy=box, mask=mask, class_id=np.array([0]))
    text = detections_to_pascal_voc(detections, ["bear"], "a.jpg", (50, 60, 3))
    done = convert("voc", put(tmp_path / "v", {"Annotations/a.xml": text}))
    [row] = done.rows
    found = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(row["segmentation"], 50, 60)))
    assert (found & mask[0]).sum() / (found | mask[0]).sum() > 0.9
    assert np.abs(np.array(row["bbox"]) - [5, 10, 35, 20]).max() <= 1
