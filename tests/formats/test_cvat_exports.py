"""CVAT's exports: labels of the head only, tracks and skeletons told, nothing found told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from halfmask.errors import InputError
from halfmask.formats.source import open_source
from tests.real_tools import real_tool

Convert = Callable[..., Any]

OFFICIAL = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <{owner}>
      <id>4</id><name>segmentation</name><size>2</size><mode>annotation</mode>
      <overlap>0</overlap><flipped>False</flipped>
      <labels>
        <label><name>car</name><color>#c06060</color><type>any</type><attributes/></label>
        <label><name>pose</name><type>skeleton</type><attributes/>
          <svg>&lt;line x1="1"/&gt;</svg></label>
        <label><name>nose</name><type>points</type><attributes/><parent>pose</parent></label>
      </labels>
      <segments><segment><id>4</id><start>0</start><stop>1</stop></segment></segments>
      <owner><username>admin</username><email></email></owner>
    </{owner}>
    <dumped>2021-01-01 01:01:01</dumped>
  </meta>
  <image id="0" name="filename000.jpg" subset="Train" width="160" height="96">
    <box label="car" occluded="0" xtl="70.0" ytl="10.0" xbr="110" ybr="30" z_order="0"></box>
    <polygon label="car" occluded="0" points="9,9;29,9;20,25" z_order="0"/>
    {more}
  </image>
  {end}
</annotations>
"""
"""CVAT for images 1.1 as its documentation shows it."""
TRACK = (
    '<track id="0" label="car"><box frame="0" xtl="1" ytl="1" xbr="5" ybr="5" outside="0"/></track>'
)
SKELETON = '<skeleton label="pose"><points label="nose" points="3,4"/></skeleton>'


def export(path: Path, owner: str = "task", more: str = "", end: str = "") -> Path:
    path.write_text(OFFICIAL.format(owner=owner, more=more, end=end))
    return path


@real_tool(
    tool="CVAT",
    writes="the sample of its documentation, for a task, a project or a job",
    does="read, with the labels of its head",
)
@pytest.mark.parametrize("owner", ["task", "project", "job"])
def test_the_documented_sample(convert: Convert, tmp_path: Path, owner: str) -> None:
    done = convert("cvat", export(tmp_path / "annotations.xml", owner))
    assert [c["name"] for c in done.document["categories"]] == ["car", "pose"]
    assert [(a["bbox"], "segmentation" in a) for a in done.rows] == [
        ([70, 10, 40, 20], False),
        ([9, 9, 20, 16], True),
    ]
    assert not done.report.faults
    assert not done.report.notes


def test_only_children_of_the_root_count(convert: Convert, tmp_path: Path) -> None:
    nested = (
        '<group><image name="b.jpg" width="9" height="9"/><label><name>x</name></label></group>'
    )
    done = convert("cvat", export(tmp_path / "a.xml", end=nested))
    assert len(done.document["images"]) == 1
    assert [c["name"] for c in done.document["categories"]] == ["car", "pose"]
    assert done.report.faults == {"elements <group> of the file: not known, not read": 1}


@real_tool(
    tool="CVAT",
    writes="skeletons, cuboids, tracks, elements that are not known",
    does="left out and counted by kind, exit code 1",
)
@pytest.mark.parametrize(
    ("more", "end", "sentence"),
    [
        (SKELETON, "", "skeleton shapes: left out, COCO instances have none"),
        ('<cuboid label="car" xtl1="1"/>', "", "cuboid shapes: left out, COCO instances have none"),
        ('<circle label="car"/>', "", "circle shapes: left out, not known"),
        ("", TRACK, "tracks (CVAT for video): left out; export as CVAT for images"),
        (
            '<box label="car" xtl="1" ytl="1" xbr="9" ybr="9"><depth>3</depth></box>',
            "",
            "elements <depth> of a shape: not known, not read",
        ),
        (
            '<polygon label="car" points="1,1;9,1;5,9" rotation="30"/>',
            "",
            "rotated polygon shapes: read without the rotation",
        ),
    ],
)
def test_what_is_left_out_is_a_problem(
    convert: Convert, tmp_path: Path, more: str, end: str, sentence: str
) -> None:
    done = convert("cvat", export(tmp_path / "a.xml", more=more, end=end))
    assert done.report.faults == {sentence: 1}


@real_tool(tool="CVAT", writes="a box with a `rotation`", does="the upright box around it; counted")
@pytest.mark.parametrize("degrees", ["90", "-90", "450", "90.0"])
def test_a_rotation_is_told(convert: Convert, tmp_path: Path, degrees: str) -> None:
    box = f'<box label="car" xtl="10" ytl="10" xbr="20" ybr="12" rotation="{degrees}"/>'
    done = convert("cvat", export(tmp_path / "a.xml", more=box))
    assert done.rows[2]["bbox"] == [14, 6, 2, 10]
    assert done.report.notes == {"rotated boxes: the upright box around them is used": 1}


@real_tool(
    tool="CVAT",
    writes="CVAT for video: tracks only",
    does="refused; the message names CVAT for images 1.1",
)
def test_a_video_is_refused_with_its_tracks(convert: Convert, tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(f"<annotations><version>1.1</version>{TRACK * 2}</annotations>")
    with pytest.raises(InputError, match=r"no element image but 2 tracks.*CVAT for images 1\.1"):
        convert("cvat", tmp_path / "a.xml")
    (tmp_path / "b.xml").write_text(f"<dataset>{TRACK}</dataset>")
    with pytest.raises(InputError, match="expected the root element annotations, found dataset"):
        convert("cvat", tmp_path / "b.xml")


def test_no_shape_and_no_subset(convert: Convert, tmp_path: Path) -> None:
    text = '<annotations><image name="{}" subset="Train" width="9" height="9"/></annotations>'
    (tmp_path / "a.xml").write_text(text.format("a.jpg"))
    done = convert("cvat", tmp_path / "a.xml")
    assert done.count_of("images and not one annotation: looked for elements box") == 1
    with pytest.raises(InputError, match="has no subset val; there is: Train"):
        open_source(tmp_path / "a.xml", split="val")
    for name in ("C:\\data\\a.jpg", "/data/a.jpg"):
        (tmp_path / "a.xml").write_text(text.format(name))
        done = convert("cvat", tmp_path / "a.xml")
        assert done.document["images"][0]["file_name"] == "a.jpg"
        assert done.count_of("file names that are paths of another machine") == 1
