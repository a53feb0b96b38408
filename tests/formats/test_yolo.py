"""YOLO folders: mixed rows, every layout, faults by line; supervision and hotcoco."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from halfmask.errors import InputError
from halfmask.formats.convert import convert as converted
from halfmask.formats.shapes import one_polygon
from halfmask.formats.yolo.read import YoloRow, parse_line
from halfmask.masks.rle import crop_of, rle_of

Convert = Callable[..., Any]
MIXED = "0 0.5 0.5 0.2 0.4\n1 0.1 0.1 0.5 0.1 0.3 0.6\n\n0 0.25 0.25 0.1 0.1 0.87\n"


def folder(root: Path, labels: str = MIXED, config: str | None = "names: [cat, dog]\n") -> Path:
    """Two photographs of 100 × 50; the second has no label file."""
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (100, 50)).save(root / "images" / name)
    (root / "labels" / "a.txt").write_text(labels)
    if config is not None:
        (root / "data.yaml").write_text(config)
    return root


def test_boxes_and_polygons_in_one_file(convert: Convert, tmp_path: Path) -> None:
    done = convert("yolo", folder(tmp_path / "y"))
    assert done.document["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert [i["file_name"] for i in done.document["images"]] == ["a.jpg", "b.jpg"]
    box, polygon, scored = done.rows
    assert box["bbox"] == [40, 15, 20, 20]
    assert "segmentation" not in box
    assert box["area"] == 400
    assert polygon["segmentation"] == [[10, 5, 50, 5, 30, 30]]
    assert polygon["bbox"] == [10, 5, 40, 25]
    assert scored["bbox"] == [20, 10, 10, 5]
    assert scored["score"] == 0.87
    assert not done.report.faults
    assert done.summary.endswith("2 images, 3 annotations, 1 of them with masks, 2 classes")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("0 .5 .5 .2 .4", YoloRow(label=0, box=(0.5, 0.5, 0.2, 0.4))),
        ("1.0 .5 .5 .2 .4", YoloRow(label=1, box=(0.5, 0.5, 0.2, 0.4))),
        ("0 0 0 1 0 1 1 0 1", YoloRow(label=0, polygon=[0, 0, 1, 0, 1, 1, 0, 1])),
        ("0 .5 .5 .2", "4 numbers, expected 5 (a box) or at least 7 (a polygon)"),
        ("0 0 0 1 0 1 1 0", "an odd number of polygon coordinates"),
        ("cat .5 .5 .2 .4", "a word that is not a number"),
        ("0 .5 nan .2 .4", "a number that is not finite"),
        ("0 .5 1e999 .2 .4", "a number that is not finite"),
        ("-1 .5 .5 .2 .4", "a class that is not a whole number"),
        ("0.5 .5 .5 .2 .4", "a class that is not a whole number"),
    ],
)
def test_a_line(line: str, found: YoloRow | str) -> None:
    assert parse_line(line) == found


def test_rows_with_keypoints() -> None:
    row = parse_line("0 .5 .5 .2 .4 .1 .1 2 .2 .2 1", keypoint_values=6)
    assert row == YoloRow(label=0, box=(0.5, 0.5, 0.2, 0.4), keypoints=True)
    assert isinstance(parse_line("0 .5 .5 .2 .4", keypoint_values=6), YoloRow)


def test_bad_rows_are_reported_by_line_and_the_others_are_kept(
    convert: Convert, tmp_path: Path
) -> None:
    labels = "\ufeff0 0.5 0.5 0.2 0.4\n0 0.1 0.1 0.5\nx y\n9 0.5 0.5 0.2 0.4\n1 0.5 0.5 0 0.4\n1 2 2 .1 .1\n0 .1 .1 .1 .1 .1 .1\n"
    source = folder(tmp_path / "y", labels + "1 0.5 0.5 0.2 0.4\n")
    (source / "labels" / "ghost.txt").write_text("0 0.5 0.5 0.2 0.4\n")
    (source / "images" / "c.jpg").write_text("no photograph")
    done = convert("yolo", source)
    assert [a["bbox"] for a in done.rows] == [[40, 15, 20, 20], [40, 15, 20, 20]]
    assert done.count_of("label lines with a word that is not a number") == 1
    assert done.count_of("label lines of a class beyond the 2 names") == 1
    assert (
        done.count_of("annotations with a bad box (box_without_area)") == 2
    )  # one is a polygon without area
    assert done.count_of("annotations with a bad box (box_outside_image)") == 1
    assert done.count_of("broken masks") == 1
    assert done.count_of("label files without a photograph") == 1
    assert done.count_of("photographs that cannot be read") == 1
    first = done.report.first["label lines with a word that is not a number: left out"]
    assert first.endswith("a.txt line 3")
    assert done.count_of("label lines with 4 numbers") == 1


def test_a_photograph_with_exif_orientation_is_reported(convert: Convert, tmp_path: Path) -> None:
    source = folder(tmp_path / "y")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (100, 50)).save(source / "images" / "b.jpg", exif=exif)
    assert convert("yolo", source).count_of("photographs with an EXIF rotation") == 1


def test_splits_of_data_yaml(convert: Convert, tmp_path: Path) -> None:
    root = tmp_path / "y"
    for split, size in (("train", (100, 50)), ("valid", (40, 40))):
        (root / split / "images").mkdir(parents=True)
        (root / split / "labels").mkdir()
        Image.new("RGB", size).save(root / split / "images" / "x.jpg")
        (root / split / "labels" / "x.txt").write_text("3 0.5 0.5 0.5 0.5\n")
    # As Roboflow writes it: from a folder beside the one that data.yaml is in.
    (root / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\nnames: {0: a, 3: b}\n"
    )
    with pytest.raises(
        InputError, match=r"several parts \(train, val\); choose one: --split train"
    ):
        convert("yolo", root)
    done = convert("yolo", root / "data.yaml", split="val")
    assert done.rows[0]["bbox"] == [10, 10, 20, 20]
    assert done.rows[0]["category_id"] == 4
    assert done.document["categories"] == [{"id": 1, "name": "a"}, {"id": 4, "name": "b"}]
    with pytest.raises(InputError, match="no part test; there is: train, val"):
        convert("yolo", root, split="test")
    (root / "list.txt").write_text("./train/images/x.jpg\n")
    (root / "lists.yaml").write_text("train: list.txt\nnames: [a, b, c, d]\n")
    done = convert("yolo", root / "lists.yaml")
    assert done.document["images"][0]["file_name"] == "train/images/x.jpg"
    assert len(done.rows) == 1


def test_without_data_yaml_and_photographs_elsewhere(convert: Convert, tmp_path: Path) -> None:
    source = folder(tmp_path / "y", config=None)
    with pytest.raises(
        InputError, match=r"expected class names: a data.yaml with names, or a classes.txt"
    ):
        convert("yolo", source)
    (source / "classes.txt").write_text("cat\ndog\n")
    assert len(convert("yolo", source).rows) == 3
    (source / "images").rename(tmp_path / "photos")
    (source / "labels" / "a.txt").rename(source / "a.txt")
    (source / "labels").rmdir()
    assert len(convert("yolo", source, images=tmp_path / "photos").rows) == 3
    with pytest.raises(InputError, match="expected photographs, found none"):
        convert("yolo", source)


@pytest.mark.parametrize(
    "config",
    ["names: 3", "[1]", "names: {a: b}", "a: [", "names: []", "names: [a]\ntrain: nowhere"],
)
def test_data_yaml_that_is_none(convert: Convert, tmp_path: Path, config: str) -> None:
    source = folder(tmp_path / "y", config=config)
    with pytest.raises(
        InputError, match=r"data.yaml|expected class names|there is no such folder or list"
    ):
        convert("yolo", source)
    assert not (tmp_path / "yolo.json").exists()


def test_yaml_makes_no_objects(convert: Convert, tmp_path: Path) -> None:
    source = folder(tmp_path / "y", config="names: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(InputError, match="expected YAML"):
        convert("yolo", source)


def test_the_output(convert: Convert, kinds_file: Path, tmp_path: Path) -> None:
    done = convert("to-yolo", kinds_file, tmp_path / "out")
    rows = [
        line.split() for line in (tmp_path / "out" / "labels" / "a.txt").read_text().splitlines()
    ]
    assert [len(row) for row in rows] == [7, 17, 21, 5, 9]
    assert rows[3] == ["2", "0.20625", "0.5791666667", "0.15", "0.15"]
    assert (tmp_path / "out" / "labels" / "sub" / "b.txt").is_file()
    assert done.count_of("rows that are boxes among polygons") == 3
    assert done.count_of("crowds") == 1


def test_existing_outputs_and_names_outside_the_folder(
    convert: Convert, kinds: dict[str, Any], kinds_file: Path, tmp_path: Path
) -> None:
    import json

    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    with pytest.raises(InputError, match="found a folder with other files"):
        convert("to-yolo", kinds_file, tmp_path / "full")
    for name, message in (
        ("../x.png", "leads out"),
        ("/etc/x.png", "leads out"),
        ("C:\\x.png", "leads out"),
        ("sub/b.jpg", "would share"),
    ):
        kinds["images"][0]["file_name"] = name
        bad = tmp_path / "bad.json"
        bad.write_text(json.dumps(kinds))
        for form in ("to-yolo", "to-voc", "to-cvat", "to-label-studio"):
            with pytest.raises(InputError, match=message):
                convert(form, bad, tmp_path / "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.json", "full", "kinds.json"]


def test_a_hole_survives_other_rasterisers() -> None:
    """OpenCV fills polygons as Ultralytics does."""
    cv2 = pytest.importorskip("cv2")
    mask = np.zeros((200, 300), dtype=np.uint8)
    mask[20:180, 30:200] = 1
    mask[60:120, 70:150] = 0
    mask[80:100, 90:120] = 1
    mask[30:90, 230:290] = 1
    rle = rle_of(mask, (0, 0), mask.shape)
    polygon = one_polygon(rle, mask.shape)
    exact = crop_of([polygon], mask.shape)
    assert exact is not None
    assert (exact[0] == mask[20:180, 30:290]).all()
    canvas = np.zeros_like(mask)
    cv2.fillPoly(canvas, [np.array(polygon, dtype=np.int32).reshape(-1, 1, 2)], 1)
    assert (canvas & mask).sum() / (canvas | mask).sum() > 0.94
    assert canvas[110, 140] == 0


def test_supervision_reads_the_same(convert: Convert, tmp_path: Path) -> None:
    """The boxes and polygons are its own; that it makes masks of boxes is why it is not used."""
    supervision = pytest.importorskip("supervision")
    source = folder(tmp_path / "y")
    done = convert("yolo", source)
    paths = str(source / "images"), str(source / "labels"), str(source / "data.yaml")
    theirs = supervision.DetectionDataset.from_yolo(*paths)
    found = next(detections for path, _, detections in theirs if path.endswith("a.jpg"))
    ours = np.array([[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in done.rows)])
    assert np.abs(found.xyxy - ours).max() < 1e-3
    assert found.class_id.tolist() == [a["category_id"] - 1 for a in done.rows]
    assert found.mask[0].any()


def test_hotcoco_reads_the_boxes_that_are_written(
    convert: Convert, kinds: dict[str, Any], tmp_path: Path, kinds_photos: Path
) -> None:
    import json

    import hotcoco

    kinds["annotations"] = [
        {k: v for k, v in a.items() if k != "segmentation"}
        for a in kinds["annotations"]
        if not a["iscrowd"]
    ]
    source = tmp_path / "boxes.json"
    source.write_text(json.dumps(kinds))
    convert("to-yolo", source, tmp_path / "out")
    labels = tmp_path / "out" / "labels"
    (labels / "data.yaml").write_bytes((tmp_path / "out" / "data.yaml").read_bytes())
    theirs = hotcoco.COCO.from_yolo(str(labels), str(kinds_photos)).dataset["annotations"]
    ours = [a["bbox"] for a in kinds["annotations"] if a["image_id"] == 1]
    assert np.abs(np.array([a["bbox"] for a in theirs]) - np.array(ours)).max() < 1e-3


def test_photographs_outside_the_folder_of_data_yaml_are_read_and_named(tmp_path: Path) -> None:
    for name in ("set", "far/images", "far/labels"):
        (tmp_path / name).mkdir(parents=True)
    Image.new("RGB", (20, 10)).save(tmp_path / "far" / "images" / "a.jpg")
    (tmp_path / "far" / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "set" / "data.yaml").write_text("names: [cat]\ntrain: ../far/images\n")
    done = converted("yolo", tmp_path / "set" / "data.yaml", tmp_path / "out.json")
    assert done.ok
    assert done.counts["annotations"] == 1
    [line] = [note for note in done.notes if "outside the folder of data.yaml" in note]
    assert "a.jpg" in line
