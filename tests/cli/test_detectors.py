"""Detectors of other projects on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import halfmask
from halfmask.errors import InputError
from halfmask.inference.predictor import load
from tests.models.test_detectors import graph

torch.set_num_threads(1)

Cli = Callable[..., Any]


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    """An ONNX file that finds a Cat and a bus in every photograph."""
    pytest.importorskip("onnxruntime")
    return graph(tmp_path / "finder.onnx", 21)


def test_photographs_alone_become_a_file_for_the_other_verbs(
    halfmask_cli: Cli, tiny_segmenter: Path, detector: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = ("--detector", detector, "--classes", "bus, Cat", "--out", out, "--score", "0.5")
    done = halfmask_cli("predict", tiny_segmenter, photos, *options)
    assert done.code == 0, done.err
    assert f"halfmask review {out / 'instances.json'} --images {photos}" in done.out
    document = json.loads((out / "instances.json").read_text())
    assert [image["file_name"] for image in document["images"]] == ["1.jpg", "2.jpg", "3.jpg"]
    assert document["categories"] == [{"id": 1, "name": "bus"}, {"id": 2, "name": "Cat"}]
    rows = document["annotations"]
    assert [(a["image_id"], a["category_id"], a["score"]) for a in rows] == [
        (1, 2, 0.72),
        (2, 2, 0.72),
        (3, 2, 0.72),
    ]
    assert all(a["halfmask"]["state"] == "filled" for a in rows)
    assert all(a["halfmask"]["detector"].startswith("finder@") for a in rows)
    results = json.loads((out / "results.json").read_text())
    assert sorted({r["score"] for r in results}) == [0.09, 0.72]
    reviewed = tmp_path / "reviewed.json"
    again = halfmask_cli("complete", tiny_segmenter, out / "instances.json", "--images", photos, "--out", reviewed)  # fmt: skip
    assert again.code == 0, again.err
    assert reviewed.read_bytes() == (out / "instances.json").read_bytes(), "nothing to fill"


def test_classes_that_do_not_meet_are_named(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    detector: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    arguments = (tiny_segmenter, coco_file(), "--images", photos, "--detector", detector)
    report = tmp_path / "r.json"
    done = halfmask_cli("evaluate", *arguments, "--classes", "bus, Cat", "--json", report)
    assert done.code == 0, done.err
    assert "3 boxes of classes that the file lacks do not count: bus (3)" in done.err
    assert "classes that the detector does not know" in done.err
    found = json.loads(report.read_text())["detector_classes"]
    assert found == {"left_out": {"bus": 3}, "not_found": ["dog", "owl"]}
    none = halfmask_cli("evaluate", *arguments, "--classes", "bus, train")
    assert none.code == 2
    assert "finds no class of" in none.err


def test_detections_in_predict(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    found, out = tmp_path / "found.json", tmp_path / "out"
    rows = [{"image_id": 2, "category_id": 5, "bbox": [3, 4, 20, 10], "score": 0.8}]
    found.write_text(json.dumps(rows))
    options = ("--detections", found, "--out", out)
    done = halfmask_cli("predict", tiny_segmenter, photos, *options, "--data", coco_file())
    assert done.code == 0, done.err
    [one] = json.loads((out / "results.json").read_text())
    assert (one["image_id"], one["category_id"], one["score"]) == (2, 5, 0.8)
    alone = halfmask_cli("predict", tiny_segmenter, photos, *options)
    assert alone.code == 2
    assert "add --data DATA.json" in alone.err
    both = halfmask_cli("predict", tiny_segmenter, photos, *options, "--detector", "x")
    assert both.code == 2
    assert "give only one" in both.err


@pytest.mark.shared
def test_yolox_on_coco_mini(shared_data: Path, tmp_path: Path, halfmask_cli: Cli) -> None:
    """Trained weights find what COCO's people drew, on a few photographs."""
    pytest.importorskip("onnxruntime")
    truth = json.loads((shared_data / "coco-mini" / "instances_val.json").read_text())
    truth["images"] = truth["images"][:12]
    kept = {image["id"] for image in truth["images"]}
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] in kept]
    data, report = tmp_path / "few.json", tmp_path / "r.json"
    data.write_text(json.dumps(truth))
    options = ("--images", shared_data / "coco-mini" / "val", "--json", report)
    weights = shared_data / "weights" / "yolox_nano.onnx"
    done = halfmask_cli("evaluate", "baseline:box", data, *options, "--detector", weights)
    assert done.code == 0, done.err
    assert json.loads(report.read_text())["box"]["all"]["AP50"] > 30


def test_export_takes_halfmasks_own_detectors_only(
    tiny_segmenter: Path, detector: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    found = load(tiny_segmenter, str(detector), "cpu", classes="a, b")
    with pytest.raises(InputError, match="another project's detector"):
        halfmask.export(found, out=tmp_path / "out")
