"""Pascal VOC: counting from 1, masks by number, hostile XML; hotcoco and supervision."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from halfmask.errors import InputError
from halfmask.masks.rle import crop_of

Convert = Callable[..., Any]

OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>{}</object>"
SIZE = "<size><width>40</width><height>30</height><depth>3</depth></size>"


def xml(*objects: str, name: str = "a.jpg", size: str = SIZE) -> str:
    return f"<annotation><filename>{name}</filename>{size}{''.join(objects)}</annotation>"


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Two images; the first has three objects, of which the first and the third have pixels."""
    root = tmp_path / "voc"
    (root / "Annotations").mkdir(parents=True)
    (root / "SegmentationObject").mkdir()
    (root / "ImageSets" / "Main").mkdir(parents=True)
    things = [
        OBJECT.format(
            "dog", 1, 1, 10, 10, "<pose>Left</pose><truncated>1</truncated><difficult>0</difficult>"
        ),
        OBJECT.format(
            "cat", 11, 3, 20.5, 12, "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
        ),
        OBJECT.format("dog", 21, 11, 40, 30, "<difficult>1</difficult>"),
    ]
    (root / "Annotations" / "a.xml").write_text(xml(*things))
    (root / "Annotations" / "b.xml").write_text(
        xml(OBJECT.format("bird", 5, 5, 9, 9, ""), name="b.jpg")
    )
    values = np.zeros((30, 40), dtype=np.uint8)
    values[0:10, 0:10] = 1
    values[12:28, 22:38] = 3
    values[9, 9] = 255
    image = Image.fromarray(values, mode="P")
    image.putpalette([0, 0, 0] * 256)
    image.save(root / "SegmentationObject" / "a.png")
    (root / "ImageSets" / "Main" / "val.txt").write_text("b\n")
    return root


def test_boxes_masks_and_attributes(convert: Convert, voc: Path) -> None:
    done = convert("voc", voc)
    assert [c["name"] for c in done.document["categories"]] == ["bird", "cat", "dog"]
    first, second, third, other = done.rows
    assert first["bbox"] == [0, 0, 10, 10]
    assert first["area"] == 99
    assert first["attributes"] == {"truncated": 1, "pose": "Left"}
    assert second["bbox"] == [10, 2, 10.5, 10]
    assert "segmentation" not in second
    assert third["attributes"] == {"difficult": 1}
    crop = crop_of(third["segmentation"], (30, 40))
    assert crop is not None
    assert crop[1] == (22, 12)
    assert crop[0].all()
    assert crop[0].shape == (16, 16)
    assert other["image_id"] == 2
    assert done.count_of("objects with parts") == 1
    assert not done.report.faults


def test_a_split_has_the_classes_of_all(convert: Convert, voc: Path) -> None:
    done = convert("voc", voc, split="val")
    assert [i["file_name"] for i in done.document["images"]] == ["b.jpg"]
    assert [c["name"] for c in done.document["categories"]] == ["bird", "cat", "dog"]
    (voc / "labels.txt").write_text("dog\ncat\nbird\n")
    assert [c["name"] for c in convert("voc", voc).document["categories"]] == ["dog", "cat", "bird"]
    with pytest.raises(InputError, match=r"no list ImageSets/Segmentation/\.\./val.txt"):
        convert("voc", voc, split="../val")


def test_counting_from_zero(convert: Convert, voc: Path) -> None:
    (voc / "Annotations" / "a.xml").write_text(xml(OBJECT.format("dog", 0, 0, 10, 10, "")))
    (voc / "SegmentationObject" / "a.png").unlink()
    done = convert("voc", voc)
    assert done.count_of("boxes that begin at 0") == 1
    assert done.rows[0]["bbox"] == [-1, -1, 11, 11]
    zero = convert("voc", voc, zero_based=True)
    assert zero.rows[0]["bbox"] == [0, 0, 10, 10]


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE annotation [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'
    "<annotation><filename>&b;</filename></annotation>"
)
OUTSIDE = '<!DOCTYPE annotation [<!ENTITY x SYSTEM "file:///etc/hostname">]><annotation><filename>&x;</filename></annotation>'


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (BOMB, "XML files that cannot be read"),
        (OUTSIDE, "XML files that cannot be read"),
        ("<annotation><filename>", "XML files that cannot be read"),
        ("", "XML files that cannot be read"),
        ("\x00\x01", "XML files that cannot be read"),
        ('<?xml version="1.0" encoding="nonsense"?><annotation/>', "XML files that cannot be read"),
        ("<other/>", "XML files that cannot be read"),
        (xml(name="../../secret.jpg"), "images whose file name leads out"),
        (xml(name="/etc/passwd"), "images whose file name leads out"),
        (xml(name="b.jpg"), "images that occur twice"),
        (xml(size=""), "images without a usable width"),
        (xml(size=SIZE.replace("40", "99999999")), "images without a usable width"),
        (xml(size=SIZE.replace("40", "-3")), "images without a usable width"),
        (xml(OBJECT.format("dog", "x", 1, 2, 3, "")), "objects without a box of four numbers"),
        (xml(OBJECT.format("dog", "nan", 1, 2, 3, "")), "objects without a box of four numbers"),
        (xml("<object><name>dog</name></object>"), "objects without a box of four numbers"),
        (xml(OBJECT.format("", 1, 1, 2, 3, "")), "objects without a name"),
        (
            xml(OBJECT.format("dog", 9, 1, 2, 3, "")),
            "annotations with a bad box (box_without_area)",
        ),
        (
            xml(OBJECT.format("dog", 90, 1, 99, 3, "")),
            "annotations with a bad box (box_outside_image)",
        ),
    ],
)
def test_bad_files_are_counted_and_the_others_read(
    convert: Convert, voc: Path, text: str, what: str
) -> None:
    (voc / "SegmentationObject" / "a.png").unlink()
    (voc / "Annotations" / "c.xml").write_text(text.replace("a.jpg", "c.jpg"))
    done = convert("voc", voc)
    assert done.count_of(what) == 1
    assert "c.xml" in next(
        place for sentence, place in done.report.first.items() if sentence.startswith(what)
    )
    assert len(done.rows) == 4


def test_unusable_masks_keep_the_boxes(convert: Convert, voc: Path) -> None:
    path = voc / "SegmentationObject" / "a.png"
    good = path.read_bytes()
    for content, what in (
        (b"no image", "mask PNGs that cannot be read"),
        (good[:60], "mask PNGs that cannot be read"),
    ):
        path.write_bytes(content)
        done = convert("voc", voc)
        assert done.count_of(what) == 1
        assert not any("segmentation" in a for a in done.rows)
    Image.new("P", (41, 30)).save(path)
    assert convert("voc", voc).count_of("mask PNGs that are not palette") == 1
    Image.new("RGB", (40, 30)).save(path)
    assert convert("voc", voc).count_of("mask PNGs that are not palette") == 1
    values = np.zeros((30, 40), dtype=np.uint8)
    values[20:25, 0:5], values[0:2, 30:32] = 1, 77
    Image.fromarray(values).save(path)
    done = convert("voc", voc)
    assert done.count_of("masks that lie outside their object's box") == 1
    assert done.count_of("values in mask PNGs that no object has") == 1


def test_nothing_there(convert: Convert, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="found no XML file"):
        convert("voc", tmp_path / "empty")
    (tmp_path / "empty" / "a.xml").write_text(BOMB)
    with pytest.raises(InputError, match=r"no image could be used.*DOCTYPE"):
        convert("voc", tmp_path / "empty")
    assert not (tmp_path / "voc.json").exists()


def test_overlaps_and_placeholders_are_reported(
    convert: Convert, kinds: dict[str, Any], tmp_path: Path
) -> None:
    import json

    box = {"image_id": 1, "category_id": 3, "iscrowd": 0, "area": 1}
    large = {**box, "id": 1, "bbox": [0, 0, 40, 40], "segmentation": [[0, 0, 40, 0, 40, 38, 0, 40]]}
    small = {**box, "id": 2, "bbox": [5, 5, 10, 10], "segmentation": [[5, 5, 15, 5, 15, 13, 5, 15]]}
    same = {**small, "id": 3}
    source = tmp_path / "o.json"
    source.write_text(json.dumps({**kinds, "annotations": [large, small, same]}))
    done = convert("to-voc", source, tmp_path / "v")
    assert done.count_of("masks with pixels under another's") == 1
    assert done.count_of("masks completely under others") == 1
    values = np.array(Image.open(tmp_path / "v" / "SegmentationObject" / "a.png"))
    assert values[6, 6] == 3
    assert values[30, 30] == 1
    assert (tmp_path / "v" / "ImageSets" / "Segmentation" / "all.txt").read_text() == "a\n"


def test_hotcoco_and_supervision_read_the_output(
    convert: Convert, kinds_file: Path, kinds: dict[str, Any], tmp_path: Path
) -> None:
    import hotcoco

    convert("to-voc", kinds_file, tmp_path / "v")
    theirs = hotcoco.COCO.from_voc(str(tmp_path / "v")).dataset
    assert [c["name"] for c in theirs["categories"]] == [c["name"] for c in kinds["categories"]]
    assert len(theirs["annotations"]) == len(kinds["annotations"])
    found = np.array([a["bbox"] for a in theirs["annotations"]])
    wanted = np.array([a["bbox"] for a in kinds["annotations"]])
    assert (
        np.abs(found[:, 2:] - wanted[:, 2:]).max() <= 1.5
    )  # it takes VOC's corners for the edges of pixels
    assert np.abs(found[:, :2] - wanted[:, :2]).max() <= 1.5
