"""Label Studio's tasks: which value is the picture, its name, several pictures, predictions,
bitmasks, and what is left out. Masks are compared with pycocotools'.
"""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as reference_mask
from typer.testing import CliRunner

from halfmask.coco.supervision import MaskState, classify
from halfmask.formats.label_studio.brush import pack_brush, unpack_bitmask
from tests.real_tools import real_tool

Convert = Callable[..., Any]
Json = dict[str, Any]

CAT = {"x": 10, "y": 20, "width": 50, "height": 30, "rotation": 0, "rectanglelabels": ["cat"]}
DOG = {"x": 1, "y": 2, "width": 5, "height": 30, "rotation": 0, "rectanglelabels": ["dog"]}
CAT_BOX, DOG_BOX = [20, 20, 100, 30], [2, 2, 10, 30]


def region(value: Json, kind: str = "rectanglelabels", **more: Any) -> Json:
    size = {"original_width": 200, "original_height": 100, "image_rotation": 0}
    return {
        "id": "r1",
        "type": kind,
        "from_name": "x",
        "to_name": "image",
        **size,
        "value": value,
        **more,
    }


def task(number: int, data: Json, *regions: Json, **more: Any) -> Json:
    done = {"annotations": [{"result": list(regions)}]} if regions else {}
    return {"id": number, "data": data, **done, **more}


@pytest.fixture
def read(convert: Convert, tmp_path: Path) -> Convert:
    """`read(*tasks, **options)` converts an export; `found` is image name → boxes."""

    def run(*tasks: Json, **options: Any) -> Any:
        (tmp_path / "e.json").write_text(json.dumps(tasks))
        return convert("label-studio", tmp_path / "e.json", **options)

    return run


def found(done: Any) -> dict[str, list[list[float]]]:
    boxes: dict[int, list[list[float]]] = {i["id"]: [] for i in done.document["images"]}
    for row in done.rows:
        boxes[row["image_id"]].append(row["bbox"])
    return {i["file_name"]: boxes[i["id"]] for i in done.document["images"]}


def photographs(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (200, 100)).save(folder / name)
    return folder


# Which value is the picture.
def test_another_text_comes_first(read: Convert) -> None:
    """The rows otherkey and otherkey1."""
    text = {"camera": "north gate"}
    done = read(
        task(1, {**text, "img": "/data/upload/2/0a1b2c3d-a.jpg"}, region(CAT)),
        task(2, {**text, "img": "/data/upload/2/0a1b2c3e-b.jpg"}, region(DOG)),
    )
    assert found(done) == {"0a1b2c3d-a.jpg": [CAT_BOX], "0a1b2c3e-b.jpg": [DOG_BOX]}
    assert not done.report.faults


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ({"id": "7", "url": "https://host/photos/a.JPG?width=3", "note": "x.y"}, "a.JPG"),
        ({"text": "a dog, maybe", "photo": "https://host/photos/17"}, "17"),
        ({"image": "a.jpg", "thumbnail": "small/a.png"}, "a.jpg"),
        ({"first": "a.jpg", "image": 3, "second": None}, "a.jpg"),
        ({"meta": {"image": "b.jpg"}, "pic": "C:\\data\\day 1\\a.jpg"}, "a.jpg"),
        ({"ref": "/tasks/3/resolve/?fileuri=czM6Ly9iL2RheS9hLnBuZw=="}, "a.png"),
        ({"url": "https://host/get?id=3&file=day/a.jpg", "text": "x"}, "a.jpg"),
    ],
)
def test_the_value_that_looks_like_a_picture(read: Convert, data: Json, name: str) -> None:
    done = read(task(1, data, region(CAT)))
    assert found(done) == {name: [CAT_BOX]}
    assert not done.report.faults


def test_two_pictures_need_the_configuration(read: Convert, tmp_path: Path) -> None:
    """And the remedy of the message helps."""
    data = {"left": "l/a.jpg", "right": "r/b.jpg"}
    both = [region(CAT, to_name="one"), region(DOG, to_name="two")]
    whole = task(2, {"image": "c.jpg"}, region(CAT))
    done = read(task(1, data, *both), whole)
    assert found(done) == {"c.jpg": [CAT_BOX]}
    [fault] = done.report.faults
    assert "no value is clearly the picture: left out; put the project's" in fault
    assert "label_config.xml" in fault
    assert done.report.first[fault] == "task 1: it may be any of left, right"
    (tmp_path / "label_config.xml").write_text(
        '<View><Image name="one" value="$left"/><Image name="two" value="$right"/></View>'
    )
    assert found(read(task(1, data, *both))) == {"a.jpg": [CAT_BOX], "b.jpg": [DOG_BOX]}


def test_regions_may_name_the_key(read: Convert) -> None:
    data = {"left": "a.jpg", "right": "b.jpg"}
    done = read(task(1, data, region(CAT, to_name="right"), region(DOG, to_name="left")))
    assert found(done) == {"a.jpg": [DOG_BOX], "b.jpg": [CAT_BOX]}


def test_a_task_without_a_picture_is_left_out(read: Convert) -> None:
    done = read(
        task(1, {"image": "a.jpg"}, region(CAT)), task(2, {"text": "hello"}, region(CAT)), {"id": 3}
    )
    assert found(done) == {"a.jpg": [CAT_BOX]}
    assert done.count_of("tasks in which no value is clearly the picture") == 1
    assert done.count_of("items that are no task") == 1
    assert len(done.report.faults) == 2


@real_tool(
    tool="Label Studio",
    writes="a picture inside the task (`data:image/jpeg;base64,…`)",
    does="named after the task; counted",
)
def test_a_picture_inside_the_task(read: Convert) -> None:
    done = read(task(4, {"image": "data:image/jpeg;base64,AA/BB/CC"}, region(CAT)))
    assert found(done) == {"task-4.jpg": [CAT_BOX]}
    assert done.count_of("pictures inside the export") == 1


# Names.
def names(read: Convert, *addresses: str, **options: Any) -> list[str]:
    rows = [task(k, {"image": a}, region(CAT)) for k, a in enumerate(addresses)]
    done = read(*rows, **options)
    assert len(done.rows) == len(addresses) - sum(done.report.faults.values())
    return [i["file_name"] for i in done.document["images"]]


def test_equal_names_in_different_folders(read: Convert) -> None:
    """The row same."""
    rows = ["s3://bucket/day1/frame_001.jpg", "s3://bucket/day2/frame_001.jpg"]
    assert names(read, *rows) == ["day1/frame_001.jpg", "day2/frame_001.jpg"]


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        (
            ["s3://b/x/y/1.jpg", "s3://b/x/z/1.jpg", "s3://b/x/z/2.jpg"],
            ["y/1.jpg", "z/1.jpg", "z/2.jpg"],
        ),
        (["gs://one/1.jpg", "gs://two/1.jpg"], ["one/1.jpg", "two/1.jpg"]),
        (["https://h/a/1.jpg?s=1", "https://h/b/1.jpg?s=2"], ["a/1.jpg", "b/1.jpg"]),
        (["s3://b/x/1.jpg", "s3://b/y/2.jpg"], ["1.jpg", "2.jpg"]),
        (["azure-blob://c/a #1?.jpg", "azure-blob://c/a #2?.jpg"], ["a #1?.jpg", "a #2?.jpg"]),
        (["https://h/get?id=1", "https://h/get?id=2"], ["get-id=1", "get-id=2"]),
        (["day1\\1.jpg", "day2\\1.jpg"], ["day1/1.jpg", "day2/1.jpg"]),
        (["/data/local-files/?d=l0/a.jpg", "s3://b/a.jpg"], ["l0/a.jpg", "a.jpg"]),
    ],
)
def test_names_of_addresses(read: Convert, addresses: list[str], expected: list[str]) -> None:
    assert names(read, *addresses) == expected


def test_folders_below_the_photographs(read: Convert, tmp_path: Path) -> None:
    rows = ["s3://bucket/p/day1/1.jpg", "s3://bucket/p/day2/1.jpg", "s3://bucket/p/day2/9.jpg"]
    photos = photographs(tmp_path / "photos", "day1/1.jpg", "day2/1.jpg")
    assert names(read, *rows, images=photos) == ["day1/1.jpg", "day2/1.jpg", "9.jpg"]


def test_one_photograph_for_two_addresses_is_nobody_s(read: Convert, tmp_path: Path) -> None:
    """And the remedy of the message helps."""
    rows = ["s3://b/day1/1.jpg", "s3://b/day2/1.jpg", "s3://b/day2/2.jpg"]
    photos = photographs(tmp_path / "photos", "1.jpg", "2.jpg")
    done = read(*(task(k, {"image": a}, region(CAT)) for k, a in enumerate(rows)), images=photos)
    assert list(found(done)) == ["2.jpg"]
    assert done.count_of("images whose photograph below --images is that of another") == 2
    [fault] = done.report.faults
    assert fault.endswith("keep the folders of their addresses there")
    photographs(photos, "day1/1.jpg", "day2/1.jpg")
    assert names(read, *rows, images=photos) == ["day1/1.jpg", "day2/1.jpg", "2.jpg"]


def test_the_same_picture_in_two_tasks_is_told(read: Convert) -> None:
    rows = [task(k, {"image": "s3://b/1.jpg"}, region(CAT)) for k in (1, 2)]
    assert read(*rows).count_of("images that occur twice") == 1


# Several pictures in a task.
IMAGES = ["/data/local-files/?d=l0/a.jpg", "/data/local-files/?d=l1/a.jpg"]


def test_item_index(read: Convert) -> None:
    """The row multi2."""
    data = {"title": "pair 7", "images": IMAGES}
    done = read(task(1, data, region(CAT, item_index=0), region(DOG, item_index=1)))
    assert found(done) == {"l0/a.jpg": [CAT_BOX], "l1/a.jpg": [DOG_BOX]}
    assert not done.report.faults


def test_each_picture_has_its_own_size(read: Convert) -> None:
    small = region(CAT, item_index=1, original_width=100, original_height=50)
    done = read(task(1, {"images": IMAGES}, region(CAT, item_index=0), small))
    assert found(done) == {"l0/a.jpg": [CAT_BOX], "l1/a.jpg": [[10, 10, 50, 15]]}
    assert [i["width"] for i in done.document["images"]] == [200, 100]


def test_a_list_of_one_picture_needs_no_index(read: Convert) -> None:
    done = read(task(1, {"images": IMAGES[:1]}, region(CAT)))
    assert found(done) == {"l0/a.jpg": [CAT_BOX]}


def test_regions_of_no_picture_are_told(read: Convert) -> None:
    rows = [region(CAT, item_index=0), region(DOG, item_index=2), region(DOG)]
    done = read(task(1, {"images": IMAGES}, *rows))
    assert found(done) == {"l0/a.jpg": [CAT_BOX]}
    assert done.count_of("regions that name none of their task's images") == 2
    assert done.count_of("images without a region, so without a size") == 1


def test_a_configured_list(read: Convert, tmp_path: Path) -> None:
    (tmp_path / "label_config.xml").write_text(
        '<View><Image name="image" valueList="$pages"/><RectangleLabels name="x" toName="image">'
        '<Label value="dog"/></RectangleLabels></View>'
    )
    data = {"cover": "c.jpg", "pages": ["s3://b/1.jpg", "s3://b/2.jpg"]}
    done = read(task(1, data, region(CAT, item_index=1), region(DOG, item_index=0)))
    assert found(done) == {"1.jpg": [DOG_BOX], "2.jpg": [CAT_BOX]}
    assert [c["name"] for c in done.document["categories"]] == ["dog", "cat"]


# Annotations that are none, and predictions.
@real_tool(
    tool="Label Studio",
    writes="cancelled annotations, and tasks that nobody annotated",
    does="not used and counted; a task without another annotation is left out, exit code 1",
)
def test_cancelled_annotations_are_told(read: Convert) -> None:
    cancelled = {"result": [region(DOG)], "was_cancelled": True}
    done = read(
        task(1, {"image": "a.jpg"}, annotations=[cancelled]),
        task(2, {"image": "b.jpg"}, annotations=[cancelled, {"result": [region(CAT)]}]),
        task(3, {"image": "c.jpg"}, annotations=[{"result": [region(DOG)], "skipped": True}]),
        task(4, {"image": "d.jpg"}, annotations=[]),
    )
    assert found(done) == {"b.jpg": [CAT_BOX]}
    assert done.report.faults == {
        "tasks whose annotations are all cancelled: left out": 2,
        "tasks that nobody has annotated: left out": 1,
    }
    assert done.count_of("cancelled annotations: not used") == 1


def test_the_old_name_of_annotations(read: Convert) -> None:
    done = read(task(1, {"image": "a.jpg"}, completions=[{"result": [region(CAT)]}]))
    assert found(done) == {"a.jpg": [CAT_BOX]}


def predicted(*regions: Json, **more: Any) -> Json:
    return {"result": list(regions), "model_version": "yolo 3", "score": 0.25, **more}


@real_tool(
    tool="Label Studio",
    writes="predictions of a model",
    does="counted; `--predictions` reads them, their masks as filled",
)
def test_predictions_are_told_and_read_on_request(read: Convert) -> None:
    """The remedy of the message is carried out."""
    mask = np.zeros((100, 200), dtype=np.uint8)
    mask[10:30, 50:90] = 1
    brush = {"format": "rle", "rle": pack_brush(mask), "brushlabels": ["dog"]}
    tasks = [
        task(
            1,
            {"image": "a.jpg"},
            predictions=[
                predicted(region(DOG)),
                predicted(region(CAT, score=0.5), region(brush, "brushlabels")),
            ],
        ),
        task(2, {"image": "b.jpg"}, region(CAT), predictions=[predicted(region(DOG))]),
        task(3, {"image": "c.jpg"}, region(CAT), predictions=[17]),
    ]
    done = read(*tasks)
    assert found(done) == {"b.jpg": [CAT_BOX], "c.jpg": [CAT_BOX]}
    [fault] = done.report.faults
    assert "`convert label-studio --predictions` reads them" in fault
    assert done.count_of("predictions beside an annotation: not used") == 1
    done = read(*tasks, predictions=True)
    assert not done.report.faults
    assert done.count_of("tasks without an annotation: their last prediction is used") == 1
    box, drawn = done.rows[:2]
    assert (box["bbox"], box["score"]) == (CAT_BOX, 0.5)
    assert drawn["halfmask"] == {"model": "yolo 3", "state": "filled", "score": 0.25}
    assert classify(drawn, (100, 200)) == MaskState.FILLED  # no person drew it
    assert "halfmask" not in done.rows[2]


def test_the_command_reads_predictions(tmp_path: Path) -> None:
    from halfmask.cli.main import app

    tasks = [task(1, {"image": "a.jpg"}, predictions=[predicted(region(CAT))])]
    tasks.append(task(2, {"image": "b.jpg"}, region(CAT)))
    (tmp_path / "e.json").write_text(json.dumps(tasks))
    words = ["convert", "label-studio", str(tmp_path / "e.json"), str(tmp_path / "o.json")]
    assert CliRunner().invoke(app, words).exit_code == 1
    done = CliRunner().invoke(app, [*words, "--predictions"])
    assert done.exit_code == 0
    assert "2 images, 2 annotations" in done.output


# Bitmasks, and regions that are two results.
def bitmask(mask: np.ndarray, mode: str = "RGBA") -> str:
    """A bitmask as Label Studio writes it: black on transparent ground."""
    image = Image.fromarray(np.dstack([np.zeros((*mask.shape, 3), np.uint8), mask * 255]))
    data = io.BytesIO()
    image.convert(mode).save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


@real_tool(
    tool="Label Studio",
    writes="bitmasks: PNGs as text",
    does="masks exact, with the box of their pixels",
)
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_bitmasks(read: Convert, seed: int, mode: str) -> None:
    mask = (np.random.default_rng(seed).random((100, 200)) < 0.3).astype(np.uint8)
    value = {"imageDataURL": bitmask(mask, mode), "bitmasklabels": ["cat"]}
    done = read(task(1, {"image": "a.jpg"}, region(value, "bitmasklabels")))
    [row] = done.rows
    expected = reference_mask.encode(np.asfortranarray(mask))
    theirs = row["segmentation"]
    if isinstance(theirs["counts"], list):
        theirs = reference_mask.frPyObjects(theirs, 100, 200)
    assert (reference_mask.decode(theirs) == mask).all()
    assert row["area"] == reference_mask.area(expected)
    assert row["bbox"] == reference_mask.toBbox(expected).tolist()


def test_masks_of_every_kind_equal_pycocotools_(read: Convert) -> None:
    points = [[10, 10], [50, 12], [30, 60]]
    mask = np.zeros((100, 200), dtype=np.uint8)
    mask[5:40, 7:120] = 1
    done = read(
        task(
            1,
            {"image": "a.jpg"},
            region({"points": points, "polygonlabels": ["cat"]}, "polygonlabels"),
            region(
                {"rle": pack_brush(mask), "format": "rle", "brushlabels": ["cat"]}, "brushlabels"
            ),
        )
    )
    polygon, brush = done.rows
    flat = [[v for x, y in points for v in (x * 2, y * 1)]]
    [expected] = reference_mask.decode(reference_mask.frPyObjects(flat, 100, 200)).transpose(
        2, 0, 1
    )
    [drawn] = reference_mask.decode(
        reference_mask.frPyObjects(polygon["segmentation"], 100, 200)
    ).transpose(2, 0, 1)
    assert (drawn == expected).all()
    rle = brush["segmentation"]
    rle = rle if isinstance(rle["counts"], str) else reference_mask.frPyObjects(rle, 100, 200)
    assert (reference_mask.decode(rle) == mask).all()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (3, "no data:image/png"),
        ("data:image/png;base64,AAAA", "is no PNG"),
        ("data:image/png;base64,***", "is no PNG"),
        ("https://host/mask.png", "no data:image/png"),
        (bitmask(np.ones((10, 20), np.uint8)), "has 20 × 10 pixels, expected 200 × 100"),
        (bitmask(np.ones((100, 200), np.uint8), "RGB"), "has no transparency"),
        (bitmask(np.ones((100, 200), np.uint8))[:-40], "is no PNG"),
    ],
)
def test_bitmasks_that_cannot_be_read(read: Convert, address: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unpack_bitmask(address, (100, 200))
    value = {"imageDataURL": address, "bitmasklabels": ["cat"]}
    done = read(task(1, {"image": "a.jpg"}, region(CAT), region(value, "bitmasklabels")))
    assert len(done.rows) == 1
    assert message in done.report.first["regions that cannot be read: left out"]


def test_a_shape_and_its_label_are_one_region(read: Convert) -> None:
    shape = {"x": 10, "y": 20, "width": 50, "height": 30, "rotation": 0}
    done = read(
        task(
            1,
            {"image": "a.jpg"},
            region(shape, "rectangle"),
            region({**shape, "labels": ["cat"]}, "labels"),
            region({**shape, "x": 5}, "rectangle", id="r2"),
        )
    )
    assert found(done) == {"a.jpg": [CAT_BOX]}
    assert done.report.faults == {"regions without a label (rectangle): left out": 1}


def test_results_of_other_kinds_are_named(read: Convert) -> None:
    key = {"x": 1, "y": 1, "width": 0.5, "keypointlabels": ["nose"]}
    vector = {"vertices": [{"x": 1, "y": 2}], "closed": True, "vectorlabels": ["road"]}
    done = read(
        task(
            1,
            {"image": "a.jpg"},
            region(CAT),
            region(key, "keypointlabels"),
            region(vector, "vectorlabels"),
            {"type": "relation", "from_id": "r1", "to_id": "r2"},
            region({"choices": ["blurred"]}, "choices"),
        )
    )
    assert done.report.faults == {
        "regions of a type that COCO cannot hold (keypointlabels): left out": 1,
        "regions of a type that COCO cannot hold (vectorlabels): left out": 1,
    }
    assert done.count_of("results that are not regions (relation)") == 1
    assert done.count_of("results that are not regions (choices)") == 1


@pytest.mark.shared
def test_the_shared_files(convert: Convert, shared_data: Path) -> None:
    folder = shared_data / "real-tools" / "label_studio"
    if not folder.is_dir():
        pytest.skip("no real-tools/label_studio in the shared data")
    expected = {
        "otherkey": {"0a1b2c3d-a.jpg": [CAT_BOX], "0a1b2c3e-b.jpg": [DOG_BOX]},
        "otherkey1": {"0a1b2c3d-a.jpg": [CAT_BOX]},
        "same": {"day1/frame_001.jpg": [CAT_BOX], "day2/frame_001.jpg": [[40, 20, 100, 30]]},
        "multi2": {"l0/a.jpg": [CAT_BOX], "l1/a.jpg": [DOG_BOX]},
    }
    for name, boxes in expected.items():
        done = convert("label-studio", folder / f"{name}.json")
        assert found(done) == boxes
        assert not done.report.faults
