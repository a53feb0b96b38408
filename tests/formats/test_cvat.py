"""CVAT for images 1.1: shapes, groups, partial masks, hostile XML, memory, hotcoco."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from halfmask.errors import InputError
from halfmask.formats.convert import convert as convert_format
from halfmask.masks.rle import crop_of

Convert = Callable[..., Any]

META = "<version>1.1</version><meta><task><labels><label><name>dog</name></label><label><name>cat</name></label></labels></task></meta>"


def export(
    path: Path, *shapes: str, image: str = 'id="0" name="a.jpg" width="40" height="30"'
) -> Path:
    path.write_text(f"<annotations>{META}<image {image}>{''.join(shapes)}</image></annotations>")
    return path


def test_every_shape(convert: Convert, tmp_path: Path) -> None:
    done = convert(
        "cvat",
        export(
            tmp_path / "annotations.xml",
            '<box label="cat" occluded="1" xtl="1.5" ytl="2" xbr="11.5" ybr="12" '
            'z_order="2"><attribute name="age">3</attribute></box>',
            '<polygon label="dog" points="1,1;20,1;10,15"/>',
            '<mask label="cat" rle="1, 2, 1" left="5" top="6" width="2" height="2"/>',
            '<ellipse label="dog" cx="20" cy="15" rx="10" ry="5" rotation="90"/>',
            '<box label="dog" xtl="10" ytl="10" xbr="20" ybr="12" rotation="90"/>',
            '<polyline label="dog" points="1,1;2,2"/><points label="dog" points="1,1"/><tag '
            'label="cat"/>',
        ),
    )
    box, polygon, mask, ellipse, turned = done.rows
    assert done.document["categories"] == [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
    assert box["bbox"] == [1.5, 2, 10, 10]
    assert box["attributes"] == {"age": "3", "occluded": 1, "z_order": 2}
    assert "segmentation" not in box
    assert polygon["segmentation"] == [[1, 1, 20, 1, 10, 15]]
    crop = crop_of(mask["segmentation"], (30, 40))
    assert crop is not None
    assert crop[1] == (5, 6)
    assert crop[0].tolist() == [[0, 1], [1, 0]]
    assert ellipse["area"] == pytest.approx(np.pi * 50, rel=0.03)
    assert np.abs(np.array(ellipse["bbox"]) - [15, 5, 10, 20]).max() < 0.05
    assert turned["bbox"] == [14, 6, 2, 10]
    assert {what.split(" ")[0] for what in done.report.notes} == {"ellipses:", "rotated"}
    assert {what.split(" ")[0] for what in done.report.faults} == {"polyline", "points", "tag"}


def test_a_group_is_one_object(convert: Convert, tmp_path: Path) -> None:
    done = convert(
        "cvat",
        export(
            tmp_path / "x.xml",
            '<polygon label="dog" points="1,1;9,1;5,9" group_id="4"/>',
            '<polygon label="dog" points="20,20;29,20;25,29" group_id="4"/>',
            '<box label="dog" xtl="0" ytl="0" xbr="35" ybr="30" group_id="4"/>',
            '<box label="cat" xtl="0" ytl="0" xbr="5" ybr="5" group_id="4"/>',
            '<mask label="cat" rle="0, 4" left="5" top="6" width="2" height="2" group_id="7"/>',
            '<polygon label="cat" points="20,20;29,20;25,29" group_id="7"/>',
            '<box label="cat" xtl="0" ytl="0" xbr="5" ybr="5" group_id="9"/>',
            '<box label="cat" xtl="9" ytl="9" xbr="15" ybr="15" group_id="9"/>',
        ),
    )
    dog, cat, both, one, two = done.rows
    assert len(dog["segmentation"]) == 2
    assert dog["bbox"] == [0, 0, 35, 30]
    assert "segmentation" not in cat
    assert isinstance(both["segmentation"], dict)
    assert both["area"] > 4
    assert one["bbox"] == [0, 0, 5, 5]
    assert two["bbox"] == [9, 9, 6, 6]


@pytest.mark.parametrize(
    "shape",
    [
        '<box label="dog" xtl="1" ytl="x" xbr="3" ybr="4"/>',
        '<box label="dog" xtl="1"/>',
        '<box label="" xtl="1" ytl="1" xbr="3" ybr="4"/>',
        '<box label="dog" xtl="1" ytl="1" xbr="3" ybr="4" rotation="much"/>',
        '<polygon label="dog" points="1,1;2"/>',
        '<polygon label="dog" points="1,1;20,1"/>',
        '<polygon label="dog" points="1,nan;20,1;3,3"/>',
        '<polygon label="dog"/>',
        '<ellipse label="dog" cx="1"/>',
        '<mask label="dog" rle="1,2,x" left="0" top="0" width="2" height="2"/>',
        '<mask label="dog" rle="1,9" left="0" top="0" width="2" height="2"/>',
        '<mask label="dog" rle="-1,2" left="0" top="0" width="2" height="2"/>',
        '<mask label="dog" rle="0,4" left="39" top="0" width="2" height="2"/>',
        '<mask label="dog" rle="0,4" left="0" top="0" width="99999999" height="99999999"/>',
        '<mask label="dog" rle="4" left="0" top="0" width="2" height="2"/>',
        '<mask label="dog"/>',
    ],
)
def test_a_malformed_shape_is_reported_and_the_others_are_kept(
    convert: Convert, tmp_path: Path, shape: str
) -> None:
    good = '<box label="dog" xtl="1" ytl="1" xbr="3" ybr="4"/>'
    done = convert("cvat", export(tmp_path / "x.xml", good, shape, good))
    assert done.count_of("shapes that cannot be read") == 1
    assert "'a.jpg' shape 2" in done.report.first["shapes that cannot be read: left out"]
    assert len(done.rows) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('<!DOCTYPE a [<!ENTITY x "y">]><annotations><image name="&x;"/></annotations>', "DOCTYPE"),
        ("<annotations><image", "not well-formed XML"),
        ("<annotations></annotations>", "found no element image"),
        ("{}", "not well-formed XML"),
        ('<annotations><track label="dog"><box/></track></annotations>', "found no element image"),
        (
            '<annotations><image name="../x" width="4" height="4"/></annotations>',
            "leads out of the folder",
        ),
        ('<annotations><image name="x" width="4.5" height="4"/></annotations>', "width and height"),
    ],
)
def test_files_that_are_refused(convert: Convert, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.xml").write_text(text)
    with pytest.raises(InputError, match=message):
        convert("cvat", tmp_path / "x.xml")
    assert [p.name for p in tmp_path.iterdir()] == ["x.xml"]


def test_memory_does_not_grow_with_the_file(convert: Convert, tmp_path: Path) -> None:
    def peak(images: int) -> int:
        path = tmp_path / f"{images}.xml"
        points = ";".join(f"{k % 40},{k % 30}" for k in range(300))
        with path.open("w") as file:
            file.write(f"<annotations>{META}")
            for i in range(images):
                file.write(
                    f'<image id="{i}" name="{i}.jpg" width="40" height="30"><polygon '
                    f'label="dog" points="{points}"/></image>'
                )
            file.write("</annotations>")
        tracemalloc.start()
        convert_format("cvat", path, tmp_path / "out.json")
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    convert("cvat", export(tmp_path / "warm.xml"))
    small, large = peak(20), peak(100)
    assert large < small + 500_000  # 80 more images of 300 points: 2 MB if they were kept


def test_hotcoco_reads_the_output(convert: Convert, kinds: dict[str, Any], tmp_path: Path) -> None:
    import hotcoco

    rows = [a for a in kinds["annotations"] if a["id"] in (1, 4, 5)]
    source = tmp_path / "polygons.json"
    source.write_text(json.dumps({**kinds, "annotations": rows}))
    convert("to-cvat", source, tmp_path / "out.xml")
    theirs = hotcoco.COCO.from_cvat(str(tmp_path / "out.xml")).dataset
    assert [c["name"] for c in theirs["categories"]] == [c["name"] for c in kinds["categories"]]
    for a, b in zip(rows, theirs["annotations"], strict=True):
        assert b["bbox"] == pytest.approx(a["bbox"])
        assert b.get("segmentation") == a.get("segmentation")


def test_provenance_is_there_to_filter_by(
    convert: Convert, kinds_file: Path, tmp_path: Path
) -> None:
    convert("to-cvat", kinds_file, tmp_path / "out.xml")
    text = (tmp_path / "out.xml").read_text()
    assert '<attribute name="halfmask_score">0.75</attribute>' in text
    assert text.count('source="auto"') == 1
    assert "<name>halfmask_state</name>" in text
