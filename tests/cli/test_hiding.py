"""`train hide=k`: hidden masks stay unseen, the estimate is of them, and the final model
carries the calibration.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from halfmask.errors import InputError
from halfmask.inference.predictor import load
from halfmask.models.checkpoint import load_checkpoint
from halfmask.recipes.recipe import Recipe
from halfmask.training.data import read_training_data
from halfmask.training.hide import plan_hiding
from tests.conftest import RunsHalfmask

from .runs import (
    REGION_HEADS,
    SEGMENTER,
    SEGMENTER_STAGE,
    data_of,
    interrupted,
    same_weights,
    small_world,
    tiny_recipe,
    trained,
    weights,
)

Make = Callable[..., Recipe]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    small_world(folder, 14)
    return folder


@pytest.fixture
def make(world: Path) -> Make:
    def build(file: Path | None = None, stages: Any = (SEGMENTER_STAGE,), **keys: Any) -> Recipe:
        data = data_of(world, file or world / "instances.json", masked="c1,c2,c4,c6")
        model = keys.pop("model", {**SEGMENTER, "mirror": True})
        return tiny_recipe(model, data, *stages, **{"hide": 2, **keys})

    return build


def without_masks_of(file: Path, out: Path, classes: set[int]) -> Path:
    """The file with ruined masks for some classes: half of the box's width."""
    document = json.loads(file.read_text())
    for annotation in document["annotations"]:
        if annotation["category_id"] in classes:
            x, y, w, h = annotation["bbox"]
            annotation["segmentation"] = [[x, y, x + w / 2, y, x + w / 3, y + h]]
    out.write_text(json.dumps(document))
    return out


@pytest.mark.slow
def test_a_run_with_hidden_classes(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, recipe = tmp_path / "run", make()
    with caplog.at_level(logging.INFO, "halfmask"):
        path = trained(recipe, run, report=True)
    assert path == run / "model.safetensors"
    names = {p.name for p in run.iterdir()}
    assert names == {
        "recipe.yaml",
        "inputs.json",
        "model.safetensors",
        "metrics.json",
        "logs",
        "hidden",
        "quality.json",
        "reliability.png",
        "curves.png",
        "report.html",
    }
    assert not (run / "hidden" / "report.html").exists()
    page = (run / "report.html").read_text()
    assert "No image was held out" in page
    assert "Sample masks" in page
    assert "mask IoU to expect on classes without masks" in page
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
    assert "expect a mean IoU of" in caplog.text
    assert all(f"c{i} (" in caplog.text for i in plan.classes)
    unfitted, fitted = load(run / "hidden", device="cpu"), load(run, device="cpu")
    assert not unfitted.model.quality_score.fitted
    assert fitted.model.quality_score.fitted


def test_the_final_weights_are_those_of_a_run_that_hides_nothing(
    make: Make, tmp_path: Path
) -> None:
    assert trained(make(), tmp_path / "a") is not None
    assert trained(make(hide=0), tmp_path / "b") is not None
    with_fit, without = weights(tmp_path / "a"), weights(tmp_path / "b")
    for key, tensor in without.items():
        assert torch.equal(with_fit[key], tensor) != key.startswith("quality_score."), key


def test_hidden_masks_teach_nothing_and_masks_of_b_change_nothing(
    make: Make, world: Path, tmp_path: Path
) -> None:
    hidden = set(plan_hiding(make()).classes)
    ruined = without_masks_of(world / "instances.json", tmp_path / "h.json", hidden)
    box_only = without_masks_of(world / "instances.json", tmp_path / "b.json", {3, 5})
    runs = {name: tmp_path / name for name in ("plain", "ruined", "b")}
    trained(make(), runs["plain"])
    trained(make(file=ruined), runs["ruined"])
    trained(make(file=box_only), runs["b"])
    assert same_weights(runs["plain"] / "hidden", runs["ruined"] / "hidden")
    assert not same_weights(runs["plain"], runs["ruined"]), "they teach the run itself"
    scores = [(runs[name] / "quality.json").read_text() for name in runs]
    assert scores[0] != scores[1]
    assert scores[0] == scores[2]
    assert same_weights(runs["plain"], runs["b"])


def test_hidden_masks_do_not_come_back_through_a_teacher(
    make: Make, world: Path, tmp_path: Path
) -> None:
    """Two rounds: the first training has a teacher of its own, which never saw them either."""
    hidden = set(plan_hiding(make()).classes)
    ruined = without_masks_of(world / "instances.json", tmp_path / "h.json", hidden)
    for name, file in (("plain", None), ("ruined", ruined)):
        trained(make(rounds=2) if file is None else make(file=file, rounds=2), tmp_path / name)
    for part in ("hidden", "hidden/teacher"):
        assert same_weights(tmp_path / "plain" / part, tmp_path / "ruined" / part), part


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
    trained(make(hide=1), tmp_path / "run")
    result = json.loads((tmp_path / "run" / "quality.json").read_text())
    assert len(result["hidden"]) == 1
    assert result["quality"]["calibration_error"] is not None


def test_a_stages_own_data_lose_the_masks_too(make: Make, world: Path) -> None:
    more = {**SEGMENTER_STAGE, "name": "more", "data": data_of(world)}
    plan = plan_hiding(make(stages=[SEGMENTER_STAGE, more]))
    stage = plan.recipe.stages[1].data
    assert stage is not None
    assert stage.masked is not None
    kept = {int(name[1:]) for name in stage.masked.split(",")}
    assert kept == {1, 2, 3, 4, 5, 6} - set(plan.classes)


def test_hiding_that_cannot_work_is_refused(make: Make, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"hide=9: .*instances\.json has \d masked classes with at least 1 masks"
    ):
        trained(make(hide=9), tmp_path / "x")
    with pytest.raises(
        InputError, match="works for a box_segmenter, the recipe's model is a mask_rcnn"
    ):
        trained(make(model=REGION_HEADS), tmp_path / "x")
    trained(make(hide=0), tmp_path / "start")
    with pytest.raises(InputError, match=r"has learnt masks of c\d, which is to be hidden"):
        trained(make(init=str(tmp_path / "start")), tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
@pytest.mark.parametrize("stop", [2, 5])
def test_stopped_in_either_training_and_resumed(make: Make, tmp_path: Path, stop: int) -> None:
    trained(make(), tmp_path / "whole")
    run = tmp_path / "run"
    with interrupted(stop):
        assert trained(make(), run) is None
    assert (run / "hidden" / "model.safetensors").exists() == (stop == 5)
    assert trained(make(), run, resume=True) == run / "model.safetensors"
    assert same_weights(tmp_path / "whole", run)


def test_a_dry_run_says_which_classes(
    make: Make, tmp_path: Path, halfmask_cli: RunsHalfmask
) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(make(hide=0).to_yaml())
    done = halfmask_cli("train", recipe, "hide=2", "--dry-run")
    assert done.code == 0
    assert "hide=2: a first training without the masks of c" in done.out
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.yaml"]
