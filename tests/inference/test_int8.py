"""8-bit exports: calibrated on the user's photographs, and told how far their masks are off."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from halfmask.cli.main import app
from halfmask.errors import InputError
from halfmask.formats.source import open_source
from halfmask.inference.export.export import write_graphs
from halfmask.inference.export.int8 import agreement, feeds_of, same_boxes, session_of
from halfmask.inference.export.samples import BOXES, Sample, samples, some_boxes
from halfmask.inference.predictor import load

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for k in range(3):
        small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize((96, 72), Image.Resampling.BICUBIC).save(folder / f"{k}.png")
    (folder / "notes.txt").write_text("no photograph")
    return folder


def test_a_box_segmenter_in_8_bits(tiny_segmenter: Path, photos: Path, tmp_path: Path) -> None:
    command = [
        "export",
        str(tiny_segmenter),
        "--out",
        str(tmp_path),
        "--precision",
        "int8",
        "--calibrate",
        str(photos),
    ]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    int8 = json.loads((tmp_path / "model.json").read_text())["graphs"]["segment"]["int8"]
    assert (
        f"IoU with the float32 masks on 3 photographs, {3 * BOXES} masks: mean "
        f"{int8['mean_iou']:.3f}" in done.output
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "model.json",
        "segment.int8.onnx",
        "segment.onnx",
    ]
    assert int8["masks"] == 3 * BOXES
    assert 0 < int8["layers"] < int8["of"]
    assert 0.5 < int8["mean_iou"] <= 1
    assert int8["p5_iou"] <= int8["mean_iou"]
    exact, coarse = (
        session_of(tmp_path / "segment.onnx"),
        session_of(tmp_path / "segment.int8.onnx"),
    )
    feed = feeds_of(exact, samples(photos, limit=1))[0]
    probs, rounded = exact.run(None, feed)[0], coarse.run(None, feed)[0]
    assert np.abs(probs - rounded).max() > 0, "nothing was quantised"
    assert np.abs(probs - rounded).mean() < 0.05


@pytest.mark.slow
def test_a_detector_in_8_bits(tiny_detector: Path, photos: Path, tmp_path: Path) -> None:
    predictor = load(tiny_detector, device="cpu")
    with torch.no_grad():
        predictor.model.box_heads.box_predictor.cls_score.weight.mul_(20)  # type: ignore[operator, union-attr]
    report = write_graphs(predictor, tmp_path, samples(photos))
    int8 = report["graphs"]["detect"]["int8"]
    assert (tmp_path / "detect.int8.onnx").stat().st_size == int8["bytes"] > 0
    assert int8["masks"] > 0
    assert 0 < int8["found"] <= 1
    assert report["graphs"]["segment"]["int8"]["found"] == 1


@pytest.mark.slow
def test_a_model_that_finds_nothing_cannot_be_calibrated(
    tiny_detector: Path, photos: Path, tmp_path: Path
) -> None:
    predictor = load(tiny_detector, device="cpu")
    with torch.no_grad():
        predictor.model.box_heads.box_predictor.cls_score.bias[0] += 50  # type: ignore[index, operator, union-attr]
    with pytest.raises(InputError, match="finds nothing on these photographs"):
        write_graphs(predictor, tmp_path, samples(photos))
    assert not (tmp_path / "detect.int8.onnx").exists()


def test_other_masks_are_told(tiny_segmenter: Path, photos: Path, tmp_path: Path) -> None:
    """The same weights with another head: the IoU falls."""
    predictor = load(tiny_segmenter, device="cpu")
    given = samples(photos)
    write_graphs(predictor, tmp_path)
    exact = session_of(tmp_path / "segment.onnx")
    assert agreement(exact, exact, given)["mean_iou"] == 1
    with torch.no_grad():
        for parameter in predictor.model.predictor.parameters():  # type: ignore[union-attr]
            parameter.mul_(-1)
    write_graphs(predictor, tmp_path / "other")
    assert (
        agreement(exact, session_of(tmp_path / "other" / "segment.onnx"), given)["mean_iou"] < 0.6
    )


def test_detections_are_paired_once() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60]], dtype=np.float32)
    labels = np.array([1, 1, 2])
    assert same_boxes(boxes, labels, boxes[[2, 0]], other_labels=labels[[2, 0]]) == ([0, 2], [1, 0])
    assert same_boxes(boxes, labels, boxes, other_labels=np.array([3, 3, 3])) == ([], [])
    assert same_boxes(boxes, labels, boxes[:0], other_labels=labels[:0]) == ([], [])


def test_boxes_come_from_a_file_or_are_made_up(photos: Path, tmp_path: Path) -> None:
    first, again = samples(photos), samples(photos)
    assert [s.image.shape for s in first] == [(3, 72, 96)] * 3
    assert all(torch.equal(a.boxes, b.boxes) for a, b in zip(first, again, strict=True))
    boxes = some_boxes(72, 96, torch.Generator().manual_seed(1), count=500)
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= torch.tensor([96.0, 72.0]) + 1e-3).all()
    assert (boxes[:, 2:] - boxes[:, :2]).min() >= 2 - 1e-3
    rows = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40]}]
    rows += [{"id": 2, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40], "iscrowd": 1}]
    images = [{"id": k + 1, "file_name": f"{k}.png", "width": 96, "height": 72} for k in range(2)]
    document = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "boxes.json").write_text(json.dumps(document))
    found = samples(photos, open_source(tmp_path / "boxes.json"))
    assert [s.boxes.tolist() for s in found] == [[[1, 2, 31, 42]]]
    assert isinstance(found[0], Sample)
    assert len(samples(photos, limit=2)) == 2


def test_what_cannot_be_calibrated_on_is_refused(
    tiny_segmenter: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("nothing")
    torn = tmp_path / "torn"
    torn.mkdir()
    (torn / "a.png").write_bytes((photos / "0.png").read_bytes()[:90])
    nowhere = tmp_path / "nowhere.json"
    nowhere.write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    int8, calibrate = ["--precision", "int8"], "--calibrate"
    cases = [
        (int8, "name a folder of photographs like those to come with --calibrate"),
        ([calibrate, str(photos)], "are for --precision int8"),
        ([*int8, calibrate, str(tmp_path / "absent")], "no such folder of photographs"),
        ([*int8, calibrate, str(empty)], "a folder without images"),
        ([*int8, calibrate, str(torn)], "expected a photograph"),
        ([*int8, calibrate, str(photos), "--data", str(nowhere)], "no photograph with a box in"),
    ]
    for words, message in cases:
        done = CliRunner().invoke(
            app, ["export", str(tiny_segmenter), "--out", str(tmp_path / "out"), *words]
        )
        assert isinstance(done.exception, InputError), (words, done.output)
        assert message in str(done.exception)
    monkeypatch.setattr("halfmask.inference.export.export.find_spec", lambda name: None)
    command = [
        "export",
        str(tiny_segmenter),
        "--out",
        str(tmp_path / "out"),
        *int8,
        calibrate,
        str(photos),
    ]
    done = CliRunner().invoke(app, command)
    assert "pip install 'halfmask[export]'" in str(done.exception)
    assert not (tmp_path / "out").exists()
