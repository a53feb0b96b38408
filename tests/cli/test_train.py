"""`halfmask train`, from a recipe to a run."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import halfmask
from halfmask.errors import InputError
from halfmask.models.build import build_model
from halfmask.models.checkpoint import load_checkpoint, load_weights
from halfmask.recipes.recipe import Recipe
from halfmask.training.data import read_training_data
from tests.conftest import RunsHalfmask

from .runs import (
    BOX_STAGE,
    REGION_HEADS,
    RESNET,
    SEGMENTER,
    SEGMENTER_STAGE,
    data_of,
    interrupted,
    same_weights,
    small_world,
    tiny_recipe,
    trained,
    written,
)

A = "c1,c2,c6"
BOXES = {**BOX_STAGE, "ema": 0.9}
MASKS = {
    "name": "masks",
    "train": ["mask_head"],
    "loss": "masks",
    "cache_features": True,
    "steps": 4,
    "batch_size": 8,
    "optimiser": {"name": "adamw", "lr": 0.01},
}
WHOLE = {**BOX_STAGE, "name": "whole", "train": ["all"], "loss": "all"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    small_world(folder, 10)
    return folder


Make = Callable[..., Recipe]


@pytest.fixture
def make(world: Path) -> Make:
    def build(
        *stages: dict[str, Any],
        model: dict[str, Any] = REGION_HEADS,
        file: Path | None = None,
        **keys: Any,
    ) -> Recipe:
        data = data_of(world, file or "instances.json", **{"masked": A, **keys.pop("data", {})})
        return tiny_recipe(model, data, *stages, **keys)

    return build


def changed(world: Path, out: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The world's file with a change."""
    document = json.loads((world / "instances.json").read_text())
    change(document)
    return written(out, document)


def test_a_run(make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = tmp_path / "runs" / "one"
    recipe = make(BOXES, MASKS, evaluate_every=5, data={"development": 0.3})
    with caplog.at_level(logging.INFO, "halfmask"):
        result = halfmask.train(recipe, out=run)
    path = run / "model.safetensors"
    assert (result.checkpoint, result.folder, result.step, result.steps) == (path, run, 7, 7)
    pictures = {"curves.png", "report.html"}
    assert {p.name for p in run.iterdir()} == {
        "recipe.yaml",
        "inputs.json",
        "model.safetensors",
        "metrics.json",
        "logs",
    } | pictures
    checkpoint = load_checkpoint(path)
    assert checkpoint.recipe == recipe
    assert [c["id"] for c in checkpoint.categories] == [1, 2, 3, 4, 5, 6]
    assert checkpoint.masked == [1, 2, 6]
    assert {i for i, n in checkpoint.mask_counts.items() if n} == {1, 2, 6}
    model = build_model(checkpoint.recipe.model, 7, pretrained=False)
    load_weights(model, checkpoint.state, path)
    entries = json.loads((run / "metrics.json").read_text())
    assert result.metrics == entries
    assert json.loads(json.dumps(result.to_json()))["checkpoint"] == str(path)
    assert [e["step"] for e in entries] == [5, 7]
    assert set(entries[0]) == {
        "step",
        "epoch",
        "seconds",
        "box",
        "mask",
        "boundary",
        "given_boxes",
        "groups",
    }
    held_out = entries[0]["given_boxes"]
    assert held_out["A"]["instances"] > 0
    assert held_out["B"]["instances"] > 0, "held-out images keep all masks that the file has"
    assert held_out["all"]["instances"] == held_out["A"]["instances"] + held_out["B"]["instances"]
    page = (run / "report.html").read_text()
    assert f"halfmask train {run / 'recipe.yaml'} --out NEW_FOLDER" in page
    assert f"{held_out['B']['miou'] * 100:.0f}<small>%</small>" in page
    assert "Its best, middling and worst masks" in page
    assert page.count("data:image/png") == 1, "the curves"
    assert "No masks: " in page
    assert "Out of " in page
    assert "of classes without masks in training, on" in page
    assert 'src="http' not in page
    groups = entries[0]["groups"]
    assert [groups[name]["classes"] for name in ("no_masks", "few", "many")] == [3, 0, 3]
    assert groups["no_masks"]["given_boxes"] == held_out["B"]
    assert "masks given: 1 or more of 3 classes, none of 3" in caplog.text
    assert "IoU on given boxes" in caplog.text


def test_stopped_and_resumed_is_the_same_run(make: Make, tmp_path: Path) -> None:
    # The whole chain: photographs, flips, region sampling, EMA, cached regions, an
    # end-to-end stage.
    recipe = make(BOXES, MASKS, WHOLE, checkpoint_every=4, data={"flip": 0.5, "colour_jitter": 0.2})
    trained(recipe, tmp_path / "a")
    for stop in (2, 6, 9):
        run = tmp_path / f"b{stop}"
        with interrupted(stop):
            result = halfmask.train(recipe, out=run, report=False)
        assert (result.checkpoint, result.step, result.steps) == (None, stop, 10)
        assert not (run / "model.safetensors").exists()
        assert (
            torch.load(run / "resume.ckpt", weights_only=True)["halfmask"]["course"]["step"] == stop
        )
        assert trained(recipe, run, resume=True) == run / "model.safetensors"
        assert same_weights(tmp_path / "a", run)


def test_a_box_segmenter(make: Make, tmp_path: Path) -> None:
    data = {"skip_unmasked": True, "development": 0.3}
    recipe = make(SEGMENTER_STAGE, model=SEGMENTER, data=data)
    assert trained(recipe, tmp_path / "run") is not None
    entry = json.loads((tmp_path / "run" / "metrics.json").read_text())[-1]
    assert entry["box"]["all"]["AP"] is None, "it has no detector"
    assert entry["given_boxes"]["B"]["miou"] > 0


def test_a_run_that_fails_at_once_leaves_nothing(make: Make, world: Path, tmp_path: Path) -> None:
    def lie(document: dict[str, Any]) -> None:
        for image in document["images"]:
            image["width"] += 7

    bad = make(BOXES, file=changed(world, tmp_path / "lies.json", lie))
    with pytest.raises(
        InputError, match=r"the photograph is 64 × 64 pixels, .*lies.json says 71 × 64"
    ):
        trained(bad, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    kept = tmp_path / "kept"
    kept.mkdir()
    with pytest.raises(InputError, match="71 × 64"):
        trained(bad, kept)
    assert list(kept.iterdir()) == []
    assert trained(make(BOXES), kept) is not None, "the corrected run may use the folder"


def test_starting_from_another_run(
    make: Make, world: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained(make(BOXES), tmp_path / "detector")
    head = {
        **REGION_HEADS,
        "mask_head": {"kind": "agnostic", "width": 10, "convs": 1, "roi_size": 7},
    }
    with caplog.at_level(logging.INFO, "halfmask"):
        path = trained(make(MASKS, model=head, init=str(tmp_path / "detector")), tmp_path / "head")
    assert path is not None
    assert "new: mask_branch" in caplog.text
    before, after = (
        load_checkpoint(tmp_path / "detector" / "model.safetensors"),
        load_checkpoint(path),
    )
    shared = [k for k in before.state if not k.startswith("mask_branch")]
    assert shared
    assert all(torch.equal(before.state[k], after.state[k]) for k in shared)

    def rename(document: dict[str, Any]) -> None:
        document["categories"][3]["name"] = "something else"

    other = changed(world, tmp_path / "other.json", rename)
    recipe = make(MASKS, file=other, init=str(tmp_path / "detector"))
    with pytest.raises(InputError, match=r"init: trained on other classes"):
        trained(recipe, tmp_path / "x")
    tiny = {**REGION_HEADS, "backbone": {**RESNET, "widths": [9, 13, 17]}}
    with pytest.raises(
        InputError, match=r"init: .*nowhere: no such file, run directory or shipped model"
    ):
        trained(make(MASKS, model=tiny, init=str(tmp_path / "nowhere")), tmp_path / "y")
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "y").exists()


def test_a_folder_with_a_run_is_not_overwritten(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, recipe = tmp_path / "run", make(BOXES)
    trained(recipe, run)
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    with pytest.raises(InputError, match="holds a run already: add --resume"):
        trained(recipe, run)
    with pytest.raises(InputError, match=r"started with stages\.0\.steps=3, the recipe now says 4"):
        trained(make({**BOXES, "steps": 4}), run, resume=True)
    with pytest.raises(
        InputError, match=r"started with stages\.1\.batch_size=None, the recipe now says 8"
    ):
        trained(make(BOXES, MASKS), run, resume=True)
    caplog.set_level(logging.INFO, "halfmask")
    assert trained(recipe, run, resume=True) == run / "model.safetensors"
    assert trained(make(BOXES, evaluate_every=9, data={"workers": 2}), run, resume=True) is not None
    assert "this run is finished" in caplog.text
    assert before == {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="found a file"):
        trained(recipe, tmp_path / "file")


def test_resume_without_a_run_begins_one(make: Make, tmp_path: Path) -> None:
    assert trained(make(BOXES), tmp_path / "new", resume=True) is not None


def no_categories(document: dict[str, Any]) -> None:
    document["categories"] = []


def no_boxes(document: dict[str, Any]) -> None:
    document["annotations"] = []


def no_masks(document: dict[str, Any]) -> None:
    for annotation in document["annotations"]:
        annotation["segmentation"] = None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (no_categories, "list of categories is empty"),
        (no_boxes, "no image to learn from has a usable box"),
        (
            no_masks,
            r"stage masks learns masks, and none of the \d+ objects has a usable one \(it has "
            r"none\)",
        ),
    ],
)
def test_data_that_nothing_can_be_learnt_from(
    make: Make, world: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    file = changed(world, tmp_path / "bad.json", change)
    with pytest.raises(InputError, match=words) as caught:
        trained(make(BOXES, MASKS, file=file, data={"masked": None}), tmp_path / "run")
    assert str(file) in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_boxes_alone_need_no_masks(make: Make, world: Path, tmp_path: Path) -> None:
    file = changed(world, tmp_path / "boxes.json", no_masks)
    data = read_training_data(make(BOXES, file=file, data={"masked": None}))
    assert data.masks == 0
    assert data.masked == set()


def test_the_masked_setting_can_leave_none(make: Make, world: Path, tmp_path: Path) -> None:
    def only_class_3(document: dict[str, Any]) -> None:
        for annotation in document["annotations"]:
            if annotation["category_id"] != 3:
                del annotation["segmentation"]

    file = changed(world, tmp_path / "f.json", only_class_3)
    with pytest.raises(InputError, match=r"data\.masked=c1,c2,c6 leaves none"):
        trained(make(MASKS, file=file), tmp_path / "run")


def test_a_folder_without_the_photographs(make: Make, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing-here"):
        trained(make(BOXES, data={"images": str(tmp_path / "nothing-here")}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_who_counts_as_masked(make: Make, world: Path) -> None:
    everyone = read_training_data(make(BOXES, data={"masked": None}))
    assert everyone.masked == {1, 2, 3, 4, 5, 6}
    counts = everyone.mask_counts
    threshold = sorted(counts.values())[3]
    some = read_training_data(make(BOXES, data={"masked": None, "masked_threshold": threshold}))
    assert some.masked == {i for i, n in counts.items() if n >= threshold}
    assert some.mask_counts == counts, "the masks of rarer classes teach all the same"


def test_rotation_reaches_the_batches_and_is_for_box_segmenters(make: Make) -> None:
    batches = []
    for rotation in (0.0, 20.0):
        recipe = make(WHOLE, model=SEGMENTER, data={"rotation": rotation})
        loader = read_training_data(recipe).main.loaders(recipe.data).shuffled(8, 0)
        batches.append(next(iter(loader))[1])
    assert [t.image_id for t in batches[0]] == [t.image_id for t in batches[1]]
    moved = [t.loose_box is not None for t in batches[1]]
    assert any(moved)
    assert not all(moved)
    with pytest.raises(InputError, match="rotation is for a box_segmenter"):
        make(WHOLE, data={"rotation": 5})


def test_images_without_masks_can_be_left_out(make: Make) -> None:
    one = {"masked": "c1"}
    every = read_training_data(make(BOXES, data=one))
    some = read_training_data(make(BOXES, data={**one, "skip_unmasked": True}))
    assert 0 < len(some.training) < len(every.training)
    assert all(some.training.target(i).has_mask.any() for i in range(len(some.training)))


def test_the_command_line(make: Make, tmp_path: Path, halfmask_cli: RunsHalfmask) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(make(BOXES, MASKS).to_yaml())
    run = tmp_path / "run"
    done = halfmask_cli("train", recipe, "seed=4", "stages.0.steps=2", "--out", run)
    assert done.code == 0
    assert f"{run / 'model.safetensors'}: trained" in done.out
    assert load_checkpoint(run / "model.safetensors").recipe.seed == 4
    refused = halfmask_cli("train", recipe)
    assert refused.code == 2
    assert "--out RUN is missing" in refused.line


@pytest.mark.slow
def test_ctrl_c_says_how_to_resume(make: Make, tmp_path: Path, halfmask_cli: RunsHalfmask) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(make(BOXES).to_yaml())
    run = tmp_path / "run"
    with interrupted(1):
        done = halfmask_cli("train", recipe, "seed=4", "--out", run)
    assert done.code == 130
    resume = f"halfmask train {recipe} seed=4 --out {run} --resume"
    assert f"stopped at step 1 of 3, saved; resume with: {resume}" in done.out
    done = halfmask_cli(*resume.split()[1:])
    assert done.code == 0
    assert (run / "model.safetensors").is_file()


def test_a_dry_run_writes_nothing(
    make: Make, tmp_path: Path, halfmask_cli: RunsHalfmask, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(make(BOXES, MASKS).to_yaml())
    monkeypatch.chdir(tmp_path)
    done = halfmask_cli("train", recipe, "--dry-run", "--out", "run")
    assert done.code == 0
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.yaml"]
    assert "images to learn from" in done.out
    assert "rpn " in done.out
    assert "stage boxes" in done.out
    assert "4 steps of 8 regions" in done.out
    assert "nothing was written" in done.out


def test_a_recipe_object_takes_no_overrides_and_one_process(make: Make, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="overrides: need a recipe file"):
        halfmask.train(make(BOXES), ["seed=4"], out=tmp_path / "run")
    with pytest.raises(InputError, match="devices=2: several processes need a recipe file"):
        trained(make(BOXES, devices=2), tmp_path / "run")


@pytest.mark.slow
def test_the_papers_recipe_fits_its_model(world: Path, halfmask_cli: RunsHalfmask) -> None:
    # Table 2's recipe on the small world: the model has its full size, the pictures are
    # few and small.
    small = [
        f"data.annotations={world / 'instances.json'}",
        f"data.images={world / 'images'}",
        f"data.masked={A}",
        "data.workers=0",
    ]
    smaller = [
        "stages.0.batch_size=1",
        "model.minibatch=1",
        "model.images.min_size=[64]",
        "model.images.max_size=64",
        "model.mask_head.mlp=none",
    ]
    done = halfmask_cli("train", "coco_t2_r50_voc2nonvoc_maskx", *small, *smaller, "--dry-run")
    assert done.code == 0
    assert "loss_mask" in done.out
