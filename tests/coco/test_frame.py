"""Photographs with an EXIF orientation are read in the frame that their record's size means."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from torch import Tensor

from halfmask.coco.doctor.photographs import check_photographs
from halfmask.coco.file import CocoFile
from halfmask.coco.images import read_photograph
from halfmask.coco.photographs.orientation import Frame, Orientation, Ruling, turned
from halfmask.coco.photographs.reader import LOOKED_AT, reader_of
from halfmask.data.dataset import CocoInstances
from halfmask.errors import InputError
from halfmask.inference.complete.complete import FillOptions, fill_missing
from halfmask.inference.images import as_tensor
from halfmask.inference.predict import predict
from halfmask.inference.predictor import Predictor
from halfmask.models.fixed.baselines import SIZE, Baseline
from halfmask.pictures.scene import read_scene
from tests.real_tools import real_tool

H, W = 40, 64  # of the pixels in the file
TURNS = range(1, 9)
ROW_0 = {1: "top", 2: "top", 3: "bottom", 4: "bottom", 5: "left", 6: "right", 7: "right", 8: "left"}
COLUMN_0 = {1: "left", 2: "right", 3: "right", 4: "left", 5: "top", 6: "top", 7: "bottom"}
COLUMN_0 |= {8: "bottom"}


def shown(pixels: np.ndarray[Any, Any], turn: int) -> np.ndarray[Any, Any]:
    """What a viewer shows, pixel by pixel from EXIF's words about the row and column 0."""
    height, width = pixels.shape[:2]
    sideways = ROW_0[turn] in ("left", "right")
    out = np.zeros((width, height, 3) if sideways else (height, width, 3), dtype=pixels.dtype)
    for row in range(height):
        for column in range(width):
            place = {}
            for number, count, side in (
                (row, height, ROW_0[turn]),
                (column, width, COLUMN_0[turn]),
            ):
                axis = "x" if side in ("left", "right") else "y"
                place[axis] = number if side in ("left", "top") else count - 1 - number
            out[place["y"], place["x"]] = pixels[row, column]
    return out


def picture(seed: int = 0, size: tuple[int, int] = (H, W)) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def save(pixels: np.ndarray[Any, Any], path: Path, turn: int, **more: Any) -> Path:
    exif = Image.Exif()
    exif[0x0112] = turn
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, exif=exif, **more)
    return path


def size_of(pixels: np.ndarray[Any, Any]) -> tuple[int, int]:
    return int(pixels.shape[0]), int(pixels.shape[1])


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
def test_each_orientation_is_read_both_ways(tmp_path: Path, turn: int, ending: str) -> None:
    stored = picture()
    path = save(
        stored, tmp_path / f"a.{ending}", turn, **({"lossless": True} if ending == "webp" else {})
    )
    expected = shown(stored, turn)
    assert (read_photograph(path) == expected).all()
    assert (read_photograph(io.BytesIO(path.read_bytes())) == expected).all()
    assert (read_photograph(path, size=size_of(expected)) == expected).all()
    by_stored = read_photograph(path, size=(H, W), ruling=Ruling(Frame.STORED))
    assert (by_stored == stored).all()
    assert torch.equal(
        (as_tensor(path) * 255).round().to(torch.uint8), torch.from_numpy(expected).permute(2, 0, 1)
    )


@pytest.mark.parametrize("turn", TURNS)
def test_a_jpeg_is_turned_as_opencv_turns_it(tmp_path: Path, turn: int) -> None:
    path = save(picture(), tmp_path / "a.jpg", turn, quality=95)
    theirs = cv2.imread(str(path))
    assert theirs is not None
    difference = np.abs(read_photograph(path).astype(int) - theirs[..., ::-1].astype(int))
    assert difference.max() <= 3  # two decoders of JPEG


@given(st.integers(1, 8), st.integers(1, 5), st.integers(1, 5))
def test_points_go_where_pixels_go(turn: int, height: int, width: int) -> None:
    found = Orientation(turn, (height, width))
    stored = np.arange(height * width).reshape(height, width)
    for row in range(height):
        for column in range(width):
            x, y = found.point_turned((column + 0.5, row + 0.5))
            assert turned(stored, turn)[int(y), int(x)] == stored[row, column]
    assert turned(stored, turn).shape == found.turned


@pytest.mark.parametrize("value", [0, 9, 274])
def test_an_unknown_orientation_is_upright(tmp_path: Path, value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    Image.fromarray(picture()).save(tmp_path / "a.png", exif=exif)
    assert (read_photograph(tmp_path / "a.png") == picture()).all()


# ---- a file of several photographs ----


class Bright(Baseline):
    """The mask is what is bright in the box: it tells whether box and photograph agree."""

    def rule(self, image: Tensor, boxes: Tensor) -> Tensor:
        steps = (torch.arange(SIZE) + 0.5) / SIZE
        out = []
        for x0, y0, x1, y1 in boxes.tolist():
            rows = (y0 + steps * (y1 - y0)).long().clamp(0, image.shape[1] - 1)
            columns = (x0 + steps * (x1 - x0)).long().clamp(0, image.shape[2] - 1)
            out.append((image.mean(0)[rows][:, columns] > 0.5).float())
        return torch.stack(out)


def bright() -> Predictor:
    return Predictor(Bright(), None, "bright", digest="", device=torch.device("cpu"))


OBJECT = (20, 10, 36, 20)  # x, y, width, height in the stored frame; bright is its left half


def scene_of(size: tuple[int, int] = (H, W)) -> np.ndarray[Any, Any]:
    pixels = np.full((*size, 3), 20, dtype=np.uint8)
    x, y, w, h = OBJECT
    pixels[y : y + h, x : x + w // 2] = 240
    return pixels


def marks(turn: int, size: tuple[int, int] = (H, W)) -> tuple[list[int], np.ndarray[Any, Any]]:
    """The object's box in the turned frame, and its bright pixels there."""
    region = np.zeros((*size, 3), dtype=np.uint8)
    x, y, w, h = OBJECT
    region[y : y + h, x : x + w] = 1
    rows, columns = np.nonzero(shown(region, turn)[..., 0])
    left, top = int(columns.min()), int(rows.min())
    box = [left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top]
    return box, shown(scene_of(size), turn)[..., 0] > 128


def a_file(
    folder: Path,
    turns: list[int],
    frame: Frame,
    *,
    size: tuple[int, int] = (H, W),
    exchange: bool = False,
) -> CocoFile:
    """A file with a photograph of each turn, all in one frame."""
    images, annotations = [], []
    for k, turn in enumerate(turns, 1):
        save(scene_of(size), folder / f"{k}.png", turn)
        box, pixels = marks(turn if frame == Frame.TURNED else 1, size)
        height, width = size_of(pixels)[:: -1 if exchange else 1]
        images.append({"id": k, "file_name": f"{k}.png", "width": width, "height": height})
        annotations.append({"id": k, "image_id": k, "category_id": 1, "bbox": box, "iscrowd": 0})
    return CocoFile.from_document(
        {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}]},
        "f.json",
    )


def completed(file: CocoFile, folder: Path, out: Path) -> list[np.ndarray[Any, Any] | None]:
    """The masks that `complete` writes, decoded by pycocotools."""
    given = out / "given.json"
    given.write_text(json.dumps(file.document))
    fill_missing(bright(), given, FillOptions(workers=0), images=folder, out=out / "out.json")
    rows = json.loads((out / "out.json").read_text())["annotations"]
    return [
        coco_mask.decode(row["segmentation"]) if row.get("segmentation") else None for row in rows
    ]


@pytest.mark.parametrize("frame", Frame)
def test_complete_fills_all_orientations_in_the_frame_of_the_file(
    tmp_path: Path, frame: Frame
) -> None:
    turns = list(TURNS)
    file = a_file(tmp_path / "photos", turns, frame)
    for turn, mask in zip(turns, completed(file, tmp_path / "photos", tmp_path), strict=True):
        expected = marks(turn if frame == Frame.TURNED else 1)[1]
        assert mask is not None
        assert mask.shape == expected.shape
        assert (mask == expected).mean() > 0.999, turn  # grid cells, not pixels


@pytest.mark.parametrize("frame", Frame)
def test_training_pictures_and_scenes_use_the_same_frame(tmp_path: Path, frame: Frame) -> None:
    turns = list(TURNS)
    file = a_file(tmp_path, turns, frame)
    data = CocoInstances(file, tmp_path)
    for k, turn in enumerate(turns):
        image, target = data[k]
        box, pixels = marks(turn if frame == Frame.TURNED else 1)
        assert ((image[0] > 0.5).numpy() == pixels).all()
        x, y, w, h = box
        assert target.boxes.tolist() == [[x, y, x + w, y + h]]
        assert (read_scene(file, file.images[k], tmp_path).image[..., 0] > 128).tolist() == (
            pixels.tolist()
        )


def test_predict_reads_boxes_of_a_file_in_its_frame_and_others_as_a_viewer(tmp_path: Path) -> None:
    for frame in Frame:
        photos = tmp_path / str(frame)
        file = a_file(photos, list(TURNS), frame)
        (tmp_path / "f.json").write_text(json.dumps(file.document))
        found = predict(
            bright(),
            photos,
            data=tmp_path / "f.json",
            out=tmp_path / f"out-{frame}",
            overlays=False,
        )
        for turn, row in zip(TURNS, found.results, strict=True):
            expected = marks(turn if frame == Frame.TURNED else 1)[1]
            assert (coco_mask.decode(row["segmentation"]) == expected).mean() > 0.999


def test_square_mirrored_and_headlong_photographs_follow_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for frame in Frame:
        file = a_file(tmp_path, [2, 6, 8, 3, 4], frame)
        assert reader_of(file, tmp_path).ruling == Ruling(frame, decided=True)
        assert "(3 of those looked at): read " + frame in caplog.text
        assert "as most others" in caplog.text
    square = a_file(tmp_path, [6], Frame.TURNED, size=(W, W))
    caplog.clear()
    assert reader_of(square, tmp_path).ruling == Ruling(Frame.TURNED)
    assert "as a viewer shows them" in caplog.text


def test_photographs_without_a_rotation_say_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    file = a_file(tmp_path, [1, 1], Frame.STORED)
    assert reader_of(file, tmp_path).ruling == Ruling()
    assert not caplog.records


def test_of_many_photographs_some_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("halfmask.coco.photographs.reader.LOOKED_AT", 3)
    assert LOOKED_AT == 256
    file = a_file(tmp_path, [1, 1, 1, 1, 6, 1, 1, 1, 1], Frame.STORED)
    assert reader_of(file, tmp_path).ruling == Ruling()  # those at 0, 3 and 6
    file = a_file(tmp_path, [1, 1, 1, 6, 1, 1, 1, 1, 1], Frame.STORED)
    assert reader_of(file, tmp_path).ruling == Ruling(Frame.STORED, decided=True)


@real_tool(
    tool="Label Studio",
    writes="COCO: sizes before the EXIF rotation, boxes after it",
    does="refused; width and height are to be exchanged in the record, which helps",
)
@pytest.mark.parametrize("frame", Frame)
def test_exchanged_sides_are_refused_and_the_remedy_ends_it(tmp_path: Path, frame: Frame) -> None:
    """Label Studio's COCO export: stored sizes, and boxes on the turned photograph."""
    photos = tmp_path / "photos"
    file = a_file(photos, [6, 7], frame, exchange=True)
    tall = {"id": 1, "file_name": "1.png"}
    side = file.size_of(1)
    wrong = Frame.STORED if frame == Frame.TURNED else Frame.TURNED
    assert reader_of(file, photos).ruling.exchanged == {wrong}
    with pytest.raises(InputError, match="exchange width and height in its record"):
        reader_of(file, photos).read(tall, side)
    found = check_photographs(file, photos)
    assert [str(p.kind) for p in found if p.facts.severity == "problem"][:2] == [
        "photograph_sides_exchanged"
    ] * 2
    mended = json.loads(json.dumps(file.document))
    for image in mended["images"]:
        image["width"], image["height"] = image["height"], image["width"]
    again = CocoFile.from_document(mended, "f.json")
    kinds = {str(p.kind) for p in check_photographs(again, photos)}
    assert "photograph_sides_exchanged" not in kinds
    for mask, turn in zip(completed(again, photos, tmp_path), [6, 7], strict=True):
        assert (mask == marks(turn if frame == Frame.TURNED else 1)[1]).mean() > 0.999


@pytest.mark.parametrize("frame", Frame)
@pytest.mark.parametrize("turn", [2, 3, 5, 6, 8])
def test_the_finding_of_a_rotation_names_a_remedy_that_keeps_the_masks(
    tmp_path: Path, frame: Frame, turn: int
) -> None:
    file = a_file(tmp_path, [turn, 6], frame)
    found = [p for p in check_photographs(file, tmp_path) if "exif" in str(p.kind)]
    assert [p.ids for p in found] == [(1,), (2,)]
    assert all(f"read {frame}" in p.message for p in found)
    remedy = "save it turned and remove" if frame == Frame.TURNED else "keep its pixels and remove"
    assert all(remedy in p.message for p in found)
    before = [reader_of(file, tmp_path).read(i, file.size_of(i["id"])) for i in file.images]
    for image, pixels in zip(file.images, before, strict=True):
        mended = shown(scene_of(), turn if image["id"] == 1 else 6)
        mended = mended if frame == Frame.TURNED else scene_of()
        assert (pixels == mended).all()
        Image.fromarray(mended).save(tmp_path / image["file_name"])
    after = [reader_of(file, tmp_path).read(i, file.size_of(i["id"])) for i in file.images]
    assert not [p for p in check_photographs(file, tmp_path) if "exif" in str(p.kind)]
    assert all((a == b).all() for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("size", "remedy"), [((W, H), "exchange width and height"), ((H, W + 1), "correct the record")]
)
def test_a_size_that_fits_no_frame_is_named_with_a_remedy_that_works(
    tmp_path: Path, size: tuple[int, int], remedy: str
) -> None:
    path = save(scene_of(), tmp_path / "1.png", 1)
    with pytest.raises(InputError, match=remedy):
        read_photograph(path, size=size)
    mended = size[::-1] if remedy.startswith("exchange") else (H, W)
    assert read_photograph(path, size=mended).shape[:2] == (H, W)


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("name", ["displayed.json", "yolo"])
def test_telephone_photographs_are_filled_on_the_turned_picture(
    shared_data: Path, tmp_path: Path, name: str
) -> None:
    from halfmask.formats.convert import convert

    folder = shared_data / "real-tools/exif"
    truth = json.loads((folder / "displayed.json").read_text())
    if name == "yolo":
        convert("yolo", folder / "yolo/data.yaml", tmp_path / "given.json")
    else:
        (tmp_path / "given.json").write_bytes((folder / "boxes.json").read_bytes())
    images = folder / ("yolo/images" if name == "yolo" else "photos")
    fill_missing("box-segmenter", tmp_path / "given.json", images=images, out=tmp_path / "o.json")
    done = json.loads((tmp_path / "o.json").read_text())
    ious = [best_iou(row, done, truth) for row in done["annotations"]]
    assert len(ious) == 69
    assert sum(ious) / len(ious) > 0.75


def best_iou(row: dict[str, Any], done: dict[str, Any], truth: dict[str, Any]) -> float:
    """IoU with the truth's mask of the same photograph and box, by pycocotools."""
    names = [{i["id"]: i for i in d["images"]} for d in (done, truth)]
    own = names[0][row["image_id"]]
    ious = [0.0]
    for other in truth["annotations"]:
        image = names[1][other["image_id"]]
        same = Path(image["file_name"]).name == Path(own["file_name"]).name
        near = np.abs(np.array(row["bbox"]) - other["bbox"]).max() < 1.5
        if same and near:
            masks = [
                as_rle(r["segmentation"], (i["height"], i["width"]))
                for r, i in ((row, own), (other, image))
            ]
            ious.append(float(coco_mask.iou([masks[0]], [masks[1]], [0])[0, 0]))
    return max(ious)


def as_rle(segmentation: Any, size: tuple[int, int]) -> Any:
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, *size)
    return segmentation
