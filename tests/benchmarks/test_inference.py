"""`bench inference` at a tiny size."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.result import Options, Result
from benchmarks.speed import inference, inference_accuracy, inference_gpu
from benchmarks.speed.inference import PEER, measured, scaled_model
from benchmarks.speed.inference_check import sameness
from benchmarks.speed.inference_ways import EAGER, Answer, require
from halfmask.errors import InputError
from halfmask.masks.crops import encode_rle
from halfmask.masks.paste import paste
from halfmask.recipes.recipe import MaskRCNN

for name in ("onnxruntime", "openvino", "pycocotools"):
    pytest.importorskip(name)

CONFIG = MaskRCNN.model_validate(
    {
        "kind": "mask_rcnn",
        "backbone": {"name": "resnet18", "norm": "frozen"},
        "images": {"min_size": [96], "max_size": 128},
        "detector": {
            "fpn_channels": 8,
            "box_width": 16,
            "rpn_post_nms": [60, 60],
            "detections": 10,
        },
        "mask_head": {"kind": "per_class", "width": 8, "convs": 1, "roi_size": 6},
    }
)
IMAGE = torch.rand((3, 96, 128), generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
def test_every_way_gives_torchvisions_answers() -> None:
    model = scaled_model(CONFIG, 5, IMAGE)
    result = measured(model, CONFIG, 5, IMAGE, 1, lambda line: None)
    speeds = [row for row in result.rows if "RLE" in row["name"]]
    assert len(speeds) == 6
    assert [row["bar"] for row in speeds[:4]] == [1.4] * 4
    assert len(result.rows) == 4 * len(speeds)
    for row in result.rows:
        if row in speeds:
            assert row["ratio"] == pytest.approx(row["peer_value"] / row["value"])
        elif row["bar"] is not None:
            assert row["ok"], row
    assert sum(row["bar"] == 0.99 for row in result.rows) == 8
    assert PEER in result.tables["inference"]
    assert "10 detections" in result.tables["inference"]


def answer(boxes: torch.Tensor, labels: torch.Tensor, probs: torch.Tensor) -> Answer:
    rles = encode_rle(paste(probs, boxes, boxes, image_size=(8, 8)))
    return Answer(boxes, labels, torch.ones(len(boxes)), probs, boxes, rles, (8, 8))


def test_other_answers_are_noticed() -> None:
    half = torch.zeros(1, 4, 4)
    half[:, :, :2] = 1
    one = answer(torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([1]), half)
    same = sameness(one, one)
    assert (same.boxes, same.worst, same.delivered) == (1, 1, 1)
    assert sameness(one, answer(one.boxes + 1, one.labels, half)).boxes == 0
    assert sameness(one, answer(one.boxes, one.labels + 1, half)).boxes == 0
    other = sameness(one, answer(one.boxes, one.labels, half.flip(2)))
    assert (other.boxes, other.worst, other.delivered) == (1, 0, 0)
    # The same probabilities, delivered otherwise.
    moved = sameness(one, replace(one, rles=answer(one.boxes, one.labels, half.flip(2)).rles))
    assert (moved.worst, moved.delivered) == (1, 0)


@pytest.mark.parametrize("package", ["onnxruntime", "openvino", "pycocotools", "transformers"])
def test_a_missing_package_is_named_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "benchmarks.speed.inference_ways.find_spec",
        lambda name: None if name == package else find("json"),
    )
    with pytest.raises(
        InputError, match=rf"needs {package}, which is not installed: pip install 'halfmask\["
    ):
        require()
    with pytest.raises(InputError, match=package):
        inference.run(Options(Path("never"), 1, 0, 1))


def test_the_ways_of_a_gpu_on_a_cpu() -> None:
    """What a GPU would run: bfloat16 under autocast, channels_last, compiled parts."""
    compiled = []
    model = scaled_model(CONFIG, 5, IMAGE)

    def compiler(function: object) -> object:
        compiled.append(function)
        return function

    ways = inference_gpu.device_ways(model, CONFIG, 5, torch.device("cpu"), compiler)
    assert len(compiled) == 2
    answers = {name: way(IMAGE) for name, way in ways.items()}
    same = sameness(answers[inference_gpu.EAGER], answers[inference_gpu.OURS_EAGER])
    assert same.boxes == 1
    assert same.worst > 0.99
    assert all(len(one.boxes) for one in answers.values())
    assert all(one.probs.dtype == torch.float32 for one in answers.values())


@pytest.mark.slow
def test_ap_on_the_world(tmp_path: Path) -> None:
    told: list[str] = []
    short = {"boxes": 30, "masks": 4}
    first = inference_accuracy.measured(tmp_path, told.append, 40, 8, short)
    assert all(row["ok"] for row in first.rows if row["bar"] == 0.1), first.rows
    assert any(row["value"] > 0 for row in first.rows)
    again = inference_accuracy.measured(tmp_path, told.append, 40, 8, short)
    assert again.rows == first.rows
    assert len(told) == 1, "trained once"
    with pytest.raises(InputError, match="trained by another recipe"):
        inference_accuracy.measured(tmp_path, told.append, 40, 8, {"boxes": 31, "masks": 4})


def test_parts_become_one_result_with_a_plot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "require", lambda: None)
    monkeypatch.setattr(inference, "scaled_model", lambda *_: None)
    detector = {"seconds": {PEER: 7.0, EAGER: 5.0}}
    boxes = {"seconds_boxes": {"SAM ViT-B": 20.0, EAGER: 0.1}}
    monkeypatch.setattr(
        inference, "measured", lambda *_: Result([{"name": "a"}], {"inference": "A"}, "c", detector)
    )
    monkeypatch.setattr(
        inference.accuracy, "measured", lambda *_: Result([], {"inference-ap": "B"}, "", {})
    )
    monkeypatch.setattr(inference.given_boxes, "sam_peers", dict)
    monkeypatch.setattr(
        inference.given_boxes,
        "measured",
        lambda *_: Result([], {"inference-boxes": "C"}, "", boxes),
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = inference.run(Options(tmp_path, 1, 0, 1, docs=tmp_path / "benchmarks.md"))
    assert result.command == "c"
    assert set(result.tables) == {"inference", "inference-ap", "inference-boxes", "inference:plot"}
    assert (tmp_path / "figures" / "inference.png").stat().st_size > 10_000
