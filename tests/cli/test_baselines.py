"""Every baseline goes through the same verbs as the method: rules (box, ellipse,
GrabCut), class-agnostic heads, the oracle.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from halfmask.models.build import build_model
from halfmask.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from halfmask.recipes.recipe import parse_recipe

torch.set_num_threads(1)

Cli = Callable[..., Any]
RULES = ["box", "ellipse", "grabcut"]
BLOCKS = ("box", "mask", "given_boxes")
MODEL: dict[str, Any] = {
    "kind": "mask_rcnn",
    "backbone": {"name": "small_resnet", "widths": [4, 8], "blocks": [1, 1]},
    "images": {"min_size": [48], "max_size": 64},
    "detector": {
        "fpn_channels": 8,
        "strides": [4, 8],
        "extra_level": False,
        "anchor_sizes": [16, 32],
        "box_width": 12,
        "box_roi_size": 3,
        "box_batch": 16,
        "detections": 9,
    },
}
HEADS: dict[str, dict[str, Any]] = {
    "class-agnostic": {"kind": "agnostic"},
    "class-agnostic + MLP": {"kind": "agnostic", "mlp": "full"},
    "class-agnostic + light MLP": {"kind": "agnostic", "mlp": "light"},
    "oracle": {"kind": "per_class"},
    "transfer": {"kind": "transfer"},
    "transfer + MLP": {"kind": "transfer", "mlp": "full"},
}


def evaluated(cli: Cli, path: Path, *arguments: object) -> tuple[dict[str, Any], str]:
    outcome = cli("evaluate", *arguments, "--json", path, "--device", "cpu")
    assert outcome.code == 0, outcome.err
    return json.loads(path.read_text()), outcome.out


@pytest.fixture(autouse=True)
def opencv(request: pytest.FixtureRequest) -> None:
    if "grabcut" in request.node.name:
        pytest.importorskip("cv2")


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_on_a_detectors_boxes(
    halfmask_cli: Cli,
    tiny_detector: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
    rule: str,
) -> None:
    data = (coco_file(), "--images", photos)
    both = (f"baseline:{rule}", *data, "--detector", tiny_detector, "--given-boxes")
    result, report = evaluated(halfmask_cli, tmp_path / "r.json", *both)
    alone, _ = evaluated(halfmask_cli, tmp_path / "s.json", tiny_detector, *data)
    assert result["box"] == alone["box"], "the boxes are the detector's"
    assert result["mask"]["A"]["AP"] is not None
    assert [row["masked"] for row in result["per_category"]] == [
        row["masked"] for row in alone["per_category"]
    ]
    assert result["model"].startswith(f"baseline:{rule} on boxes of {tiny_detector.name}@")
    assert "Average precision" in report
    assert "Mask IoU on given boxes" in report
    on_file, _ = evaluated(
        halfmask_cli, tmp_path / "t.json", f"baseline:{rule}", *data, "--masked", "cat,dog"
    )
    assert on_file["given_boxes"] == result["given_boxes"], (
        "given boxes are the file's, whoever else finds some"
    )
    assert set(on_file["box"]["all"].values()) == {None}


@pytest.mark.parametrize("name", HEADS)
def test_a_head_and_its_report(
    halfmask_cli: Cli, coco_file: Callable[..., Path], photos: Path, tmp_path: Path, name: str
) -> None:
    data = coco_file()
    stage = {"name": "all", "train": ["all"], "steps": 1, "batch_size": 1, "optimiser": {"lr": 0.1}}
    model = {**MODEL, "mask_head": {"width": 8, "convs": 1, "roi_size": 6, **HEADS[name]}}
    paths = {"annotations": str(data), "images": str(photos)}
    recipe = parse_recipe(
        {"name": "tiny", "model": model, "data": paths, "stages": [stage]}, "test"
    )
    categories = json.loads(data.read_text())["categories"]
    torch.manual_seed(0)
    state = build_model(recipe.model, 4).state_dict()
    save_checkpoint(
        tmp_path / "head.safetensors",
        Checkpoint(state=state, recipe=recipe, categories=categories, masked=[2]),
    )
    arguments = (
        tmp_path / "head.safetensors",
        data,
        "--images",
        photos,
        "--given-boxes",
        "--per-category",
    )
    result, report = evaluated(halfmask_cli, tmp_path / "r.json", *arguments)
    assert result["given_boxes"]["A"]["instances"] == 6
    assert result["mask"]["A"]["AP"] is not None
    assert [row["masked"] for row in result["per_category"]] == [True, False, False]
    assert "A (had masks)" in report
    assert "is not recorded" in report, "the checkpoint has no numbers"
    assert "cat" in report


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_fills_a_file(
    halfmask_cli: Cli, coco_file: Callable[..., Path], photos: Path, tmp_path: Path, rule: str
) -> None:
    data, out = coco_file(), tmp_path / "out.json"
    arguments = ("complete", f"baseline:{rule}", data, "--images", photos, "--out", out)
    tried = halfmask_cli(*arguments, "--dry-run")
    assert tried.code == 0
    assert "would fill 6 masks" in tried.out
    outcome = halfmask_cli(*arguments)
    assert outcome.code == 0, outcome.err
    assert "6 masks filled" in outcome.out
    assert "does not know" not in tried.out + outcome.out, "a rule asks for no class"
    before, after = json.loads(data.read_text()), json.loads(out.read_text())
    assert after["info"]["halfmask"]["model"] == f"baseline:{rule}"
    for old, new in zip(before["annotations"], after["annotations"], strict=True):
        if "segmentation" in old:
            assert new == old
        else:
            assert new["halfmask"] == {
                "model": f"baseline:{rule}",
                "score": new["halfmask"]["score"],
                "state": "filled",
            }
            width, height = new["bbox"][2:]
            assert 0 < new["area"] <= width * height
            if rule == "box":
                assert new["area"] == width * height


@pytest.mark.slow
def test_grabcut_mask_rcnn_from_boxes_to_its_numbers(
    halfmask_cli: Cli, coco_file: Callable[..., Path], photos: Path, tmp_path: Path
) -> None:
    """Table 2's row, verb by verb: split, complete with GrabCut, train a per-class head
    on the filled masks, evaluate.
    """
    half, filled, run = tmp_path / "half.json", tmp_path / "filled.json", tmp_path / "run"
    whole = coco_file()
    assert halfmask_cli("split", whole, "--masked", "cat", "--out", half).code == 0
    assert (
        halfmask_cli("complete", "baseline:grabcut", half, "--images", photos, "--out", filled).code
        == 0
    )
    stage = {
        "name": "all",
        "train": ["all"],
        "steps": 2,
        "batch_size": 2,
        "optimiser": {"lr": 0.001},
    }
    data = {"annotations": str(filled), "images": str(photos), "masked_threshold": 1}
    model = {**MODEL, "mask_head": {"width": 8, "convs": 1, "roi_size": 6, "kind": "per_class"}}
    recipe = tmp_path / "grabcut.yaml"
    recipe.write_text(
        json.dumps({"name": "grabcut", "model": model, "data": data, "stages": [stage]})
    )
    plain = halfmask_cli("train", recipe, "--out", tmp_path / "plain")
    assert plain.code == 0, plain.err
    assert "6 of them with a mask" in plain.out, (
        "by default a model does not learn from what was filled in"
    )
    trained = halfmask_cli("train", recipe, "data.use=filled", "--out", run)
    assert trained.code == 0, trained.err
    assert "12 of them with a mask" in trained.out
    assert load_checkpoint(run / "model.safetensors").mask_counts == {2: 6, 5: 3, 9: 3}
    arguments = (run, whole, "--images", photos, "--masked", "cat", "--given-boxes")
    result, _ = evaluated(halfmask_cli, tmp_path / "r.json", *arguments)
    assert [row["masked"] for row in result["per_category"]] == [True, False, False]
    assert result["given_boxes"]["A"]["instances"] == 6


def test_a_rule_draws_into_a_detectors_boxes_in_predict(
    halfmask_cli: Cli, tiny_detector: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "found"
    arguments = (
        "predict",
        "baseline:box",
        photos,
        "--detector",
        tiny_detector,
        "--out",
        out,
        "--no-overlays",
    )
    outcome = halfmask_cli(*arguments)
    assert outcome.code == 0, outcome.err
    rows = json.loads((out / "results.json").read_text())
    assert rows
    assert {row["mask_score"] for row in rows} == {1.0}
    line = halfmask_cli("predict", "baseline:box", photos, "--out", out)
    assert line.code == 2
    assert "finds no boxes itself" in line.line


def test_names_that_are_no_rule(
    halfmask_cli: Cli, coco_file: Callable[..., Path], photos: Path, tmp_path: Path
) -> None:
    for verb, *more in (("evaluate",), ("complete", "--out", tmp_path / "out.json")):
        outcome = halfmask_cli(verb, "baseline:magic", coco_file(), "--images", photos, *more)
        assert outcome.code == 2
        assert (
            "no such baseline; there are baseline:box, baseline:ellipse, baseline:grabcut"
            in outcome.line
        )
