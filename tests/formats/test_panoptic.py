"""COCO panoptic: segments pixel by pixel, things and stuff, PNGs that are missing or broken."""

import json
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
SIZE = (40, 60)
PERSON, CAR, SKY, CROWD = 3226956, 70000, 255, 1
"""Ids of segments; the first three need one, two and three of the PNG's channels."""


def ids() -> Any:
    found = np.zeros(SIZE, dtype=np.uint32)
    found[:10] = SKY
    found[12:30, 5:20] = PERSON
    found[15:18, 8:11] = 0
    found[20:30, 30:55] = CAR
    found[30:38, 30:40] = CAR
    found[35:40, 0:20] = CROWD
    return found


def save(path: Path, found: Any) -> None:
    """As panopticapi's `id2rgb` writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = [found % 256, found // 256 % 256, found // 65536]
    Image.fromarray(np.stack(channels, -1).astype(np.uint8)).save(path)


def segment(number: int, label: int, **more: Any) -> dict[str, Any]:
    ys, xs = np.nonzero(ids() == number)
    box = [0, 0, 1, 1]
    if len(xs):
        x, y = int(xs.min()), int(ys.min())
        box = [x, y, int(xs.max()) - x + 1, int(ys.max()) - y + 1]
    plain = {"id": number, "category_id": label, "iscrowd": 0, "bbox": box, "area": len(xs)}
    return {**plain, **more}


def document(*segments: Any) -> dict[str, Any]:
    """A file with the keys of panoptic_val2017.json, images before annotations."""
    image = {"id": 139, "file_name": "000000000139.jpg", "height": SIZE[0], "width": SIZE[1]}
    record = {"segments_info": list(segments), "file_name": "000000000139.png", "image_id": 139}
    names = {1: ("person", 1), 3: ("car", 1), 187: ("sky-other-merged", 0)}
    return {
        "info": {"year": 2017},
        "licenses": [],
        "images": [{**image, "license": 2}],
        "annotations": [record],
        "categories": [
            {"supercategory": "x", "isthing": thing, "id": number, "name": name}
            for number, (name, thing) in names.items()
        ],
    }


ALL = [segment(PERSON, 1), segment(SKY, 187), segment(CAR, 3), segment(CROWD, 1, iscrowd=1)]


@pytest.fixture
def panoptic(tmp_path: Path) -> Path:
    """annotations/panoptic_val2017.json, its PNGs beside it, and images/."""
    folder = tmp_path / "annotations"
    save(folder / "panoptic_val2017" / "000000000139.png", ids())
    file = folder / "panoptic_val2017.json"
    file.write_text(json.dumps(document(*ALL)))
    (tmp_path / "images").mkdir()
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "images" / "000000000139.jpg")
    return file


@real_tool(
    tool="COCO panoptic",
    writes="a JSON file, and PNGs of segment ids",
    does="things become masks, exact, crowds stay crowds; images and classes keep their ids",
)
def test_things_pixel_by_pixel(convert: Convert, panoptic: Path) -> None:
    assert detect_format(panoptic) == "coco-panoptic"
    done = convert("coco-panoptic", panoptic)
    assert [row["category_id"] for row in done.rows] == [1, 3, 1]
    assert [row["iscrowd"] for row in done.rows] == [0, 0, 1]
    for row, number in zip(done.rows, (PERSON, CAR, CROWD), strict=True):
        assert (coco.decode(row["segmentation"]) == (ids() == number)).all()
        assert row["area"] == (ids() == number).sum()
        assert row["bbox"] == segment(number, 1)["bbox"]
        assert row["image_id"] == 139
    assert done.document["images"] == document()["images"]
    assert [c["name"] for c in done.document["categories"]] == ["person", "car"]


@real_tool(
    tool="COCO panoptic",
    writes="segments of stuff (`isthing: 0`)",
    does="left out and counted by class, exit code 1: they are regions, not objects",
)
def test_stuff_is_counted(panoptic: Path, tmp_path: Path, halfmask_cli: RunsHalfmask) -> None:
    outcome = halfmask_cli("convert", "coco-panoptic", panoptic, tmp_path / "o.json")
    assert outcome.code == 1
    assert "1 segments of stuff classes: left out" in outcome.err
    assert "sky-other-merged (1)" in outcome.err
    only = document(segment(PERSON, 1), segment(CAR, 3), segment(CROWD, 1))
    found = np.where(ids() == SKY, 0, ids())
    save(panoptic.with_suffix("") / "000000000139.png", found)
    panoptic.write_text(json.dumps(only))
    outcome = halfmask_cli("convert", "coco-panoptic", panoptic, tmp_path / "o.json")
    assert (outcome.code, outcome.err) == (0, "")


@real_tool(
    tool="COCO panoptic",
    writes="PNGs that are elsewhere, missing, or of another kind or size",
    does="boxes kept without masks, counted, exit code 1; `--masks` names the folder",
)
def test_pngs_that_are_not_there(convert: Convert, panoptic: Path, tmp_path: Path) -> None:
    folder = panoptic.with_suffix("")
    moved = folder.rename(tmp_path / "elsewhere")
    done = convert("coco-panoptic", panoptic)
    assert [row["bbox"] for row in done.rows] == [s["bbox"] for s in ALL if s is not ALL[1]]
    assert not any("segmentation" in row for row in done.rows)
    assert done.count_of("PNGs that are not there") == 1
    done = convert("coco-panoptic", panoptic, masks=moved)
    assert all("segmentation" in row for row in done.rows)
    assert done.count_of("PNGs") == 0
    png = moved / "000000000139.png"
    for image, what in (
        (Image.new("RGB", (9, 9)), "PNGs that are not RGB of the image's size"),
        (Image.new("P", SIZE[::-1]), "PNGs that are not RGB of the image's size"),
        (None, "PNGs that cannot be read"),
    ):
        png.write_bytes(b"no png")
        if image is not None:
            image.save(png)
        done = convert("coco-panoptic", panoptic, masks=moved)
        assert done.count_of(what) == 1
        assert len(done.rows) == 3


def test_segments_that_do_not_fit(convert: Convert, panoptic: Path) -> None:
    bad = [
        segment(4711, 1, bbox=[1, 1, 5, 5]),
        segment(CAR, 99),
        segment(CAR, 3, id="x"),
        "no segment",
        segment(PERSON, 1, bbox="broken", note="x"),
    ]
    made = document(*bad)
    made["annotations"] += [made["annotations"][0], {"image_id": 7}, 3]
    panoptic.write_text(json.dumps(made))
    done = convert("coco-panoptic", panoptic)
    boxed, person = done.rows
    assert boxed["bbox"] == [1, 1, 5, 5]
    assert "segmentation" not in boxed
    assert person["bbox"] == segment(PERSON, 1)["bbox"]
    assert person["attributes"] == {"note": "x"}
    assert done.count_of("segments without a pixel in their PNG: the box is kept") == 1
    assert done.count_of("segments without an id, or a class in the file") == 3
    assert done.count_of("ids in PNGs that no segment has") == 2
    assert done.count_of("annotations of an image that already has one") == 1
    assert done.count_of("annotations without an image in the file") == 2


@pytest.mark.parametrize("name", ["../../secret.png", "/etc/passwd", 7, None, "x" * 300 + ".png"])
def test_no_png_name_leads_out(name: Any, convert: Convert, panoptic: Path) -> None:
    save(panoptic.parent.parent / "secret.png", ids())
    made = document(*ALL)
    made["annotations"][0]["file_name"] = name
    panoptic.write_text(json.dumps(made))
    done = convert("coco-panoptic", panoptic)
    assert not any("segmentation" in row for row in done.rows)
    assert done.count_of("PNGs") == 1


def test_it_is_opened_with_its_photographs(panoptic: Path, convert: Convert) -> None:
    opened = open_source(panoptic)
    assert (opened.format, opened.images) == ("coco-panoptic", panoptic.parent.parent / "images")
    with pytest.raises(InputError, match="has no parts to choose from"):
        open_source(panoptic, split="train")
    with pytest.raises(InputError, match="or a folder with one only"):
        convert("coco-panoptic", panoptic.parent.parent)
    opened = open_source(panoptic.parent)
    assert (opened.format, opened.images) == ("coco-panoptic", panoptic.parent.parent / "images")


def test_a_new_png_is_read_again(panoptic: Path) -> None:
    png = panoptic.with_suffix("") / "000000000139.png"
    kept = png.read_bytes()
    png.unlink()
    before = json.loads(open_source(panoptic).annotations.read_text())
    png.write_bytes(kept)
    after = json.loads(open_source(panoptic).annotations.read_text())
    assert not any("segmentation" in row for row in before["annotations"])
    assert all("segmentation" in row for row in after["annotations"])


def test_an_instances_file_stays_coco(kinds_file: Path) -> None:
    assert detect_format(kinds_file) == "coco"
