"""`train hide=k`: what is hidden is hidden, the estimate is of it, and the final model
carries the fit.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from halfmask.cli import train as command
from halfmask.data.synthetic.write import synth
from halfmask.errors import InputError
from halfmask.inference.predictor import load
from halfmask.models.checkpoint import load_checkpoint
from halfmask.recipes.recipe import Recipe, parse_recipe
from halfmask.training.data import read_training_data
from halfmask.training.hide import plan_hiding
from halfmask.training.train import train

MODEL = {
    "kind": "box_segmenter",
    "encoder": {"name": "small_resnet", "widths": [8, 12, 16], "blocks": [1, 1, 1]},
    "crop_size": 32,
    "decoder_widths": [12, 8],
    "mirror": True,
}
SIZES = {"min_size": [64], "max_size": 64}
STAGE = {
    "name": "masks",
    "train": ["all"],
    "loss": "masks",
    "steps": 3,
    "batch_size": 2,
    "optimiser": {"lr": 0.01},
}
A = "c1,c2,c4,c6"

Make = Callable[..., Recipe]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    document = json.loads(synth(folder, images=14, seed=3, classes=6, size=64).path.read_text())
    document["categories"] = [
        {"id": c["id"], "name": f"c{c['id']}"} for c in document["categories"]
    ]
    (folder / "instances.json").write_text(json.dumps(document))
    return folder


@pytest.fixture
def make(world: Path) -> Make:
    def build(file: Path | None = None, data: dict[str, Any] | None = None, **keys: Any) -> Recipe:
        annotations = str(file or world / "instances.json")
        section = {
            "annotations": annotations,
            "images": str(world / "images"),
            "masked": A,
            "masked_threshold": 1,
        }
        base = {"name": "tiny", "model": MODEL, "stages": [STAGE], "hide": 2}
        return parse_recipe({**base, "data": section | (data or {}), **keys}, "test")

    return build


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("halfmask.pictures.curves.training_curves", lambda folder: None)
    if request.function is not test_a_run_with_hidden_classes:
        monkeypatch.setattr("halfmask.training.report.write_run_report", lambda *_: None)


def without_masks_of(file: Path, out: Path, classes: set[int]) -> Path:
    """The file with ruined masks for some classes: half of the box's width."""
    document = json.loads(file.read_text())
    for annotation in document["annotations"]:
        if annotation["category_id"] in classes:
            x, y, w, h = annotation["bbox"]
            annotation["segmentation"] = [[x, y, x + w / 2, y, x + w / 3, y + h]]
    out.write_text(json.dumps(document))
    return out


def test_a_run_with_hidden_classes(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, recipe = tmp_path / "run", make()
    path = train(recipe, run)
    assert path == run / "model.safetensors"
    names = {p.name for p in run.iterdir()}
    assert names == {
        "recipe.yaml",
        "model.safetensors",
        "metrics.json",
        "logs",
        "hidden",
        "quality.json",
        "reliability.png",
        "report.html",
    }
    assert not (run / "hidden" / "report.html").exists()
    page = (run / "report.html").read_text()
    assert "No image was held out" in page
    assert "mask IoU to expect on box-only classes" in page
    assert "data:image/png" in page, "the reliability diagram"
    plan = plan_hiding(recipe)
    first, final = load_checkpoint(run / "hidden" / "model.safetensors"), load_checkpoint(path)
    assert len(plan.classes) == 2
    assert set(first.masked) == {1, 2, 4, 6} - set(plan.classes)
    assert all(first.mask_counts[i] == 0 for i in plan.classes)
    assert (first.recipe.hide, final.recipe.hide) == (0, 2)
    assert final.masked == [1, 2, 4, 6]
    result = json.loads((run / "quality.json").read_text())
    assert list(result) == ["estimate", "hidden", "quality", "unfitted", "objects", "version"]
    count = sum(read_training_data(recipe).mask_counts[i] for i in plan.classes)
    assert result["quality"]["instances"] == len(result["objects"]) == count
    assert (
        {row["id"] for row in result["hidden"]}
        == {o["category_id"] for o in result["objects"]}
        == set(plan.classes)
    )
    assert result["estimate"]["low"] <= result["estimate"]["miou"] <= result["estimate"]["high"]
    mean = sum(o["iou"] for o in result["objects"]) / count
    assert result["estimate"]["miou"] == pytest.approx(mean, abs=1e-6)
    assert Image.open(run / "reliability.png").width > 800
    printed = capsys.readouterr().out
    assert "expect a mean IoU of" in printed
    assert all(f"c{i} (" in printed for i in plan.classes)
    unfitted, fitted = load(run / "hidden", device="cpu"), load(run, device="cpu")
    assert not unfitted.model.quality_score.fitted
    assert fitted.model.quality_score.fitted


def test_the_final_weights_are_those_of_a_run_that_hides_nothing(
    make: Make, tmp_path: Path
) -> None:
    one, two = train(make(), tmp_path / "a"), train(make(hide=0), tmp_path / "b")
    assert one is not None
    assert two is not None
    with_fit, without = load_checkpoint(one).state, load_checkpoint(two).state
    for key, tensor in without.items():
        assert torch.equal(with_fit[key], tensor) != key.startswith("quality_score."), key


def test_hidden_masks_teach_nothing_and_masks_of_b_change_nothing(
    make: Make, world: Path, tmp_path: Path
) -> None:
    hidden = set(plan_hiding(make()).classes)
    ruined = without_masks_of(world / "instances.json", tmp_path / "h.json", hidden)
    box_only = without_masks_of(world / "instances.json", tmp_path / "b.json", {3, 5})
    runs = {name: tmp_path / name for name in ("plain", "ruined", "b")}
    train(make(), runs["plain"])
    train(make(file=ruined), runs["ruined"])
    train(make(file=box_only), runs["b"])

    def state(name: str, part: str = "") -> dict[str, torch.Tensor]:
        return load_checkpoint(runs[name] / part / "model.safetensors").state

    first, again = state("plain", "hidden"), state("ruined", "hidden")
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not all(torch.equal(t, state("ruined")[k]) for k, t in state("plain").items()), (
        "they teach the run itself"
    )
    scores = [(runs[name] / "quality.json").read_text() for name in runs]
    assert scores[0] != scores[1]
    assert scores[0] == scores[2]
    assert all(torch.equal(t, state("b")[k]) for k, t in state("plain").items())


def test_hidden_masks_do_not_come_back_through_a_teacher(
    make: Make, world: Path, tmp_path: Path
) -> None:
    """Two rounds: the first training has a teacher of its own, which never saw them either."""
    hidden = set(plan_hiding(make()).classes)
    ruined = without_masks_of(world / "instances.json", tmp_path / "h.json", hidden)
    for name, file in (("plain", None), ("ruined", ruined)):
        train(make(rounds=2) if file is None else make(file=file, rounds=2), tmp_path / name)
    for part in ("hidden", "hidden/teacher"):
        one, two = (
            load_checkpoint(tmp_path / n / part / "model.safetensors").state
            for n in ("plain", "ruined")
        )
        assert all(torch.equal(one[k], two[k]) for k in one), part


def test_the_choice_is_the_seeds_and_spread_over_counts(make: Make) -> None:
    counts = read_training_data(make()).mask_counts
    ranked = sorted({1, 2, 4, 6}, key=lambda i: (-counts[i], i))
    fitting = [i for i in ranked if counts[i] <= sum(counts.values()) / 3]
    seen = set()
    for seed in range(8):
        classes = plan_hiding(make(seed=seed)).classes
        assert plan_hiding(make(seed=seed)).classes == classes
        half = (len(fitting) + 1) // 2
        assert classes[0] in fitting[:half]
        assert classes[1] in fitting[half:]
        seen.add(tuple(classes))
    assert len(seen) > 1


def test_one_hidden_class_is_enough(make: Make, tmp_path: Path) -> None:
    train(make(hide=1), tmp_path / "run")
    result = json.loads((tmp_path / "run" / "quality.json").read_text())
    assert len(result["hidden"]) == 1
    assert result["quality"]["calibration_error"] is not None


def test_a_stages_own_data_lose_the_masks_too(make: Make, world: Path) -> None:
    own = {
        "annotations": str(world / "instances.json"),
        "images": str(world / "images"),
        "masked_threshold": 1,
    }
    plan = plan_hiding(make(stages=[STAGE, {**STAGE, "name": "more", "data": own}]))
    stage = plan.recipe.stages[1].data
    assert stage is not None
    assert stage.masked is not None
    kept = {int(name[1:]) for name in stage.masked.split(",")}
    assert kept == {1, 2, 3, 4, 5, 6} - set(plan.classes)


def test_what_cannot_be_hidden(make: Make, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"hide=9: .*instances\.json has \d masked classes with at least 1 masks"
    ):
        train(make(hide=9), tmp_path / "x")
    backbone = MODEL["encoder"]
    region_heads = {"kind": "mask_rcnn", "backbone": backbone, "images": SIZES}
    with pytest.raises(
        InputError, match="works for a box_segmenter, the recipe's model is a mask_rcnn"
    ):
        train(make(model=region_heads), tmp_path / "x")
    train(make(hide=0), tmp_path / "start")
    with pytest.raises(InputError, match=r"has learnt masks of c\d, which is to be hidden"):
        train(make(init=str(tmp_path / "start")), tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("stop", [2, 5])
def test_stopped_in_either_training_and_resumed(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    train(make(), tmp_path / "whole")
    backward, calls = torch.Tensor.backward, []

    def interrupted(self: Any, *args: Any, **kwargs: Any) -> None:
        calls.append(1)
        if len(calls) == stop:
            os.kill(os.getpid(), signal.SIGINT)
        backward(self, *args, **kwargs)

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "backward", interrupted)
        assert train(make(), run) is None
    assert (run / "hidden" / "model.safetensors").exists() == (stop == 5)
    assert train(make(), run, resume=True) == run / "model.safetensors"
    one, two = (
        load_checkpoint(tmp_path / name / "model.safetensors").state for name in ("whole", "run")
    )
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_a_dry_run_says_which_classes(make: Make, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(make(hide=0).to_yaml())
    app = typer.Typer()
    app.command()(command.run)
    done = CliRunner().invoke(app, [str(recipe), "hide=2", "--dry-run"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "hide=2: a first training without the masks of c" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.yaml"]
