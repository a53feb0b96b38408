"""Label Studio exports: regions, names of uploads, errors, and the brush codec."""

import copy
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from halfmask.errors import InputError
from halfmask.formats.label_studio.brush import pack_brush, unpack_brush

Convert = Callable[..., Any]


def region(kind: str, labels: list[str], **value: Any) -> dict[str, Any]:
    size = {"original_width": 200, "original_height": 100, "image_rotation": 0}
    return {
        "id": "r1",
        "type": kind,
        "from_name": "x",
        "to_name": "image",
        **size,
        "value": {**value, kind: labels},
    }


RECTANGLE = region("rectanglelabels", ["cat"], x=10, y=20, width=50, height=30, rotation=0)


def export(
    path: Path, *regions: Any, image: str = "/data/upload/1/0a1b2c3d-my%20photo.jpg"
) -> Path:
    path.write_text(
        json.dumps(
            [{"id": 7, "data": {"image": image}, "annotations": [{"result": list(regions)}]}]
        )
    )
    return path


def test_every_region(convert: Convert, tmp_path: Path) -> None:
    brush = np.zeros((100, 200), dtype=np.uint8)
    brush[10:30, 50:90] = 1
    done = convert(
        "label-studio",
        export(
            tmp_path / "e.json",
            RECTANGLE,
            region("polygonlabels", ["dog"], points=[[10, 10], [50, 10], [30, 60]], closed=True),
            region("brushlabels", ["dog"], format="rle", rle=pack_brush(brush)),
            region("ellipselabels", ["cat"], x=50, y=50, radiusX=10, radiusY=10, rotation=0),
            region("rectanglelabels", ["cat", "pet"], x=50, y=50, width=10, height=10, rotation=90),
            region("labels", ["cat"], x=0, y=0, width=10, height=10, rotation=0),
            {"id": "c", "type": "choices", "value": {"choices": ["good"]}},
            region("rectanglelabels", [], x=0, y=0, width=10, height=10),
        ),
    )
    box, polygon, mask, ellipse, turned, plain = done.rows
    assert done.document["images"] == [
        {"id": 1, "file_name": "0a1b2c3d-my photo.jpg", "width": 200, "height": 100}
    ]
    assert [c["name"] for c in done.document["categories"]] == ["cat", "dog"]
    assert box["bbox"] == [20, 20, 100, 30]
    assert "segmentation" not in box
    assert polygon["segmentation"] == [[20, 10, 100, 10, 60, 60]]
    assert mask["bbox"] == [50, 10, 40, 20]
    assert mask["area"] == 800
    assert ellipse["area"] == pytest.approx(np.pi * 20 * 10, rel=0.03)
    assert turned["bbox"] == [90, 50, 10, 20]
    assert plain["bbox"] == [0, 0, 20, 10]
    assert done.count_of("regions of several labels") == 1
    assert done.count_of("results that are not regions") == 1
    assert done.report.faults == {"regions without a label (rectanglelabels): left out": 1}


@pytest.mark.parametrize(
    "bad",
    [
        region("rectanglelabels", ["cat"], x="a", y=20, width=50, height=30),
        region("rectanglelabels", ["cat"], x=1, y=20),
        region("rectanglelabels", ["cat"], x=1, y=20, width=3, height=4, rotation="x"),
        region("polygonlabels", ["cat"], points=[[1, 2], [3]]),
        region("polygonlabels", ["cat"], points="1,2"),
        region("brushlabels", ["cat"], rle=[0, 1, 2]),
        region("brushlabels", ["cat"], rle=pack_brush(np.ones((10, 10)))),
        region("brushlabels", ["cat"], rle=pack_brush(np.ones((100, 200)))[:-3]),
        region("brushlabels", ["cat"], rle=[999]),
        region("brushlabels", ["cat"], rle="bytes"),
        region("brushlabels", ["cat"], rle=[255] * 40),
    ],
)
def test_a_malformed_region_is_reported(
    convert: Convert, tmp_path: Path, bad: dict[str, Any]
) -> None:
    done = convert("label-studio", export(tmp_path / "e.json", RECTANGLE, bad, RECTANGLE))
    assert done.count_of("regions that cannot be read") == 1
    assert "task 7 region r1" in done.report.first["regions that cannot be read: left out"]
    assert len(done.rows) == 2


def test_regions_of_another_size_or_a_rotated_image(convert: Convert, tmp_path: Path) -> None:
    other, turned = copy.deepcopy(RECTANGLE), copy.deepcopy(RECTANGLE)
    other["original_width"], turned["image_rotation"] = 100, 90
    done = convert(
        "label-studio",
        export(tmp_path / "e.json", RECTANGLE, other, turned, "no region", {"value": 3}),
    )
    assert done.count_of("regions on a rotated image, or of another size") == 2
    assert len(done.rows) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "expected a JSON list"),
        ("[", "cut short"),
        ('[{"image": "a.jpg", "label": []}]', "export as JSON, not JSON-MIN"),
        ("[3]", "export as JSON, not JSON-MIN"),
        (
            '[{"data": {"text": 3}, "annotations": [{}]}]',
            "no value is clearly the picture.*its data has text",
        ),
        ("[]", "no image could be used"),
        (
            '[{"data": {"image": "a.jpg"}, "annotations": [{"result": []}]}]',
            r"no image could be used.*without a region, so without a size",
        ),
        ('[{"data": {"image": "a.jpg"}}]', r"no image could be used.*nobody has annotated"),
    ],
)
def test_files_that_are_refused(convert: Convert, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "e.json").write_text(text)
    with pytest.raises(InputError, match=message):
        convert("label-studio", tmp_path / "e.json")
    assert [p.name for p in tmp_path.iterdir()] == ["e.json"]


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("/data/local-files/?d=sub/a%20b.jpg", "sub/a b.jpg"),
        ("s3://bucket/folder/a%20b.jpg", "a b.jpg"),
        ("https://host/x/a%20b.jpg?token=3", "a b.jpg"),
        ("/data/upload/3/0a1b2c3d-a%20b.jpg", "a b.jpg"),
        ("/data/local-files/?d=elsewhere/a%20b.jpg", "a b.jpg"),
    ],
)
def test_names_are_looked_up_among_the_photographs(
    convert: Convert, tmp_path: Path, address: str, name: str
) -> None:
    photos = tmp_path / "photos"
    (photos / "sub").mkdir(parents=True)
    for place in ("a b.jpg", "sub/a b.jpg"):
        Image.new("RGB", (200, 100)).save(photos / place)
    done = convert("label-studio", export(tmp_path / "e.json", image=address), images=photos)
    assert done.document["images"][0] == {"id": 1, "file_name": name, "width": 200, "height": 100}


def test_names_that_lead_out(convert: Convert, tmp_path: Path) -> None:
    path = export(tmp_path / "e.json", RECTANGLE, image="/data/local-files/?d=../../etc/a.jpg")
    with pytest.raises(InputError, match="leads out of the folder"):
        convert("label-studio", path)


def test_which_annotation_counts(convert: Convert, tmp_path: Path) -> None:
    def done(x: int, **more: Any) -> dict[str, Any]:
        return {"result": [region("rectanglelabels", ["cat"], x=x, y=0, width=5, height=5)], **more}

    task = {
        "id": 1,
        "data": {"image": "a.jpg"},
        "annotations": [done(1, was_cancelled=True), done(2), done(3, ground_truth=True)],
    }
    (tmp_path / "e.json").write_text(json.dumps([task]))
    found = convert("label-studio", tmp_path / "e.json")
    assert [a["bbox"][0] for a in found.rows] == [6]
    assert found.count_of("further annotations") == 1
    assert found.count_of("cancelled annotations") == 1


def test_a_box_that_was_kept_goes_when_its_mask_was_changed(
    convert: Convert, kinds_file: Path, tmp_path: Path
) -> None:
    convert("to-label-studio", kinds_file, tmp_path / "out")
    path = tmp_path / "out" / "tasks.json"
    tasks = json.loads(path.read_text())
    loose = next(
        r for task in tasks for r in task["annotations"][0]["result"] if r["id"] == "annotation-9"
    )
    assert loose["meta"]["bbox"] == [50, 5, 25, 30]
    loose["value"]["points"][0] = [10, 10]
    path.write_text(json.dumps(tasks))
    back = convert("label-studio", path)
    assert [8, 6, 79.5, 22] not in [a["bbox"] for a in back.rows]
    assert [50, 5, 25, 30] not in [a["bbox"] for a in back.rows]


def test_the_configuration_names_every_class(
    convert: Convert, kinds: dict[str, Any], tmp_path: Path
) -> None:
    kinds["categories"][0]["name"] = 'a <"&> \x01 b'
    source = tmp_path / "k.json"
    source.write_text(json.dumps(kinds))
    convert("to-label-studio", source, tmp_path / "out", image_url="s3://b/")
    text = (tmp_path / "out" / "label_config.xml").read_text()
    assert text.count("<Label ") == 9
    assert "a &lt;&quot;&amp;&gt;   b" in text
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text())
    assert [t["data"]["image"] for t in tasks] == ["s3://b/a.png", "s3://b/sub/b.png"]


bitmaps = st.tuples(
    st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(0, 1)
)


def drawn(given: tuple[int, int, int, float]) -> np.ndarray[Any, Any]:
    height, width, seed, share = given
    return (np.random.default_rng(seed).random((height, width)) < share).astype(np.uint8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(bitmaps)
def test_brush_masks_return(given: tuple[int, int, int, float]) -> None:
    mask = drawn(given)
    assert (unpack_brush(pack_brush(mask), mask.shape) == mask).all()


def test_a_large_brush_mask() -> None:
    mask = np.zeros((3000, 4000), dtype=np.uint8)
    mask[100:2900, 100:3900] = 1
    assert (unpack_brush(pack_brush(mask), mask.shape) == mask).all()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, 255), max_size=60))
def test_any_bytes_are_a_mask_or_a_value_error(data: list[int]) -> None:
    header = list((4 * 6).to_bytes(4, "big"))
    for rle in (data, header + data):
        with suppress(ValueError):
            assert unpack_brush(rle, (2, 3)).shape == (2, 3)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(bitmaps)
def test_label_studio_s_own_codec(given: tuple[int, int, int, float]) -> None:
    """Both ways: what it writes is read, what is written it reads."""
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    mask = drawn(given)
    theirs = brush.mask2rle(mask * 255)
    assert (unpack_brush(theirs, mask.shape) == mask).all()
    back = brush.decode_rle(pack_brush(mask)).reshape(*mask.shape, 4)
    assert (back == mask[:, :, None] * 255).all()
