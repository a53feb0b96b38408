"""`halfmask train`, from a recipe to a run."""

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
from typer.testing import CliRunner

from halfmask.cli import train as command
from halfmask.data.synthetic.write import synth
from halfmask.errors import InputError
from halfmask.models.build import build_model
from halfmask.models.checkpoint import load_checkpoint, load_weights
from halfmask.recipes.recipe import Recipe, parse_recipe
from halfmask.training.data import read_training_data
from halfmask.training.train import train

BACKBONE = {"name": "small_resnet", "widths": [8, 12, 16], "blocks": [1, 1, 1]}
DETECTOR = {
    "fpn_channels": 16,
    "strides": [8, 16],
    "extra_level": False,
    "anchor_sizes": [24, 48],
    "box_width": 24,
    "rpn_batch": 32,
    "box_batch": 32,
    "rpn_pre_nms": [50, 50],
    "rpn_post_nms": [30, 30],
}
REGION_HEADS = {
    "kind": "mask_rcnn",
    "backbone": BACKBONE,
    "images": {"min_size": [64], "max_size": 64},
    "detector": DETECTOR,
    "mask_head": {"width": 12, "convs": 1, "roi_size": 7},
}
BOX_STAGE = {
    "name": "boxes",
    "train": ["backbone", "fpn", "rpn", "box_head"],
    "loss": "boxes",
    "steps": 3,
    "batch_size": 2,
    "optimiser": {"lr": 0.01},
    "ema": 0.9,
}
MASK_STAGE = {
    "name": "masks",
    "train": ["mask_head"],
    "loss": "masks",
    "cache_features": True,
    "steps": 4,
    "batch_size": 8,
    "optimiser": {"name": "adamw", "lr": 0.01},
}
WHOLE_STAGE = {**BOX_STAGE, "name": "whole", "train": ["all"], "loss": "all", "ema": None}
A = "c1,c2,c6"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    document = json.loads(synth(folder, images=10, seed=3, classes=6, size=64).path.read_text())
    document["categories"] = [
        {"id": c["id"], "name": f"c{c['id']}"} for c in document["categories"]
    ]
    (folder / "instances.json").write_text(json.dumps(document))
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
        data = {
            "annotations": str(file or world / "instances.json"),
            "images": str(world / "images"),
            "masked": A,
            "masked_threshold": 1,
            **keys.pop("data", {}),
        }
        return parse_recipe(
            {"name": "tiny", "model": model, "data": data, "stages": list(stages), **keys}, "test"
        )

    return build


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing curves and the report is most of the time of a run as small as these; one
    test looks at them.
    """
    if request.function is not test_a_run:
        monkeypatch.setattr("halfmask.pictures.curves.training_curves", lambda folder: None)
        monkeypatch.setattr("halfmask.training.report.write_run_report", lambda *_: None)


def changed(world: Path, out: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The world's file with a change."""
    document = json.loads((world / "instances.json").read_text())
    change(document)
    out.write_text(json.dumps(document))
    return out


def test_a_run(make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "runs" / "one"
    recipe = make(BOX_STAGE, MASK_STAGE, evaluate_every=5, data={"development": 0.3})
    path = train(recipe, run)
    assert path == run / "model.safetensors"
    pictures = {"curves.png", "ab_bars.png", "report.html"}
    assert {p.name for p in run.iterdir()} == {
        "recipe.yaml",
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
    assert [e["step"] for e in entries] == [5, 7]
    assert set(entries[0]) == {"step", "epoch", "seconds", "box", "mask", "given_boxes"}
    held_out = entries[0]["given_boxes"]
    assert held_out["A"]["instances"] > 0
    assert held_out["B"]["instances"] > 0, "held-out images keep all masks that the file has"
    assert held_out["all"]["instances"] == held_out["A"]["instances"] + held_out["B"]["instances"]
    page = (run / "report.html").read_text()
    assert f"halfmask train {run / 'recipe.yaml'} --out NEW_FOLDER" in page
    assert f"{held_out['B']['miou'] * 100:.0f}<small>%</small>" in page
    assert "Its best, middling and worst masks" in page
    assert page.count("data:image/png") == 2, "A/B bars and curves"
    assert 'src="http' not in page
    printed = capsys.readouterr().out
    assert "3 masked (A), 3 box-only (B)" in printed
    assert "IoU on given boxes" in printed


def test_stopped_and_resumed_is_the_same_run(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The whole chain: photographs, flips, region sampling, EMA, cached regions, an
    # end-to-end stage.
    recipe = make(
        BOX_STAGE,
        MASK_STAGE,
        WHOLE_STAGE,
        checkpoint_every=4,
        data={"flip": 0.5, "colour_jitter": 0.2},
    )
    train(recipe, tmp_path / "a")
    backward = torch.Tensor.backward
    for stop in (2, 6, 9):
        run = tmp_path / f"b{stop}"
        calls: list[int] = []

        def interrupted(
            self: Any, *args: Any, stop: int = stop, calls: list[int] = calls, **kwargs: Any
        ) -> None:
            calls.append(1)
            if len(calls) == stop:
                os.kill(os.getpid(), signal.SIGINT)  # in the middle of a step
            backward(self, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "backward", interrupted)
            assert train(recipe, run) is None
        assert not (run / "model.safetensors").exists()
        assert (
            torch.load(run / "resume.ckpt", weights_only=True)["halfmask"]["course"]["step"] == stop
        )
        assert train(recipe, run, resume=True) == run / "model.safetensors"
        one, two = (load_checkpoint(p / "model.safetensors").state for p in (tmp_path / "a", run))
        assert all(torch.equal(one[k], two[k]) for k in one)


def test_a_box_segmenter(make: Make, tmp_path: Path) -> None:
    encoder = {"name": "small_resnet", "widths": [8, 12, 16], "blocks": [1, 1, 1]}
    model = {
        "kind": "box_segmenter",
        "encoder": encoder,
        "crop_size": 32,
        "decoder_widths": [12, 8],
    }
    stage = {
        "name": "masks",
        "train": ["all"],
        "loss": "masks",
        "steps": 3,
        "batch_size": 2,
        "optimiser": {"lr": 0.01},
    }
    path = train(
        make(stage, model=model, data={"skip_unmasked": True, "development": 0.3}), tmp_path / "run"
    )
    assert path is not None
    entry = json.loads((tmp_path / "run" / "metrics.json").read_text())[-1]
    assert entry["box"]["all"]["AP"] is None, "it has no detector"
    assert entry["given_boxes"]["B"]["miou"] > 0


def test_a_run_that_fails_at_once_leaves_nothing(make: Make, world: Path, tmp_path: Path) -> None:
    def lie(document: dict[str, Any]) -> None:
        for image in document["images"]:
            image["width"] += 7

    bad = make(BOX_STAGE, file=changed(world, tmp_path / "lies.json", lie))
    with pytest.raises(
        InputError, match=r"expected 71 × 64 pixels as .*lies.json says, found 64 × 64"
    ):
        train(bad, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "note.txt").write_text("mine")
    with pytest.raises(InputError, match="expected 71"):
        train(bad, kept)
    assert [p.name for p in kept.iterdir()] == ["note.txt"]
    assert train(make(BOX_STAGE), kept) is not None, "the mended run may have the folder"


def test_starting_from_another_run(
    make: Make, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(make(BOX_STAGE), tmp_path / "detector")
    head = {
        **REGION_HEADS,
        "mask_head": {"kind": "agnostic", "width": 10, "convs": 1, "roi_size": 7},
    }
    path = train(make(MASK_STAGE, model=head, init=str(tmp_path / "detector")), tmp_path / "head")
    assert path is not None
    assert "new: mask_branch" in capsys.readouterr().out
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
    recipe = make(MASK_STAGE, file=other, init=str(tmp_path / "detector"))
    with pytest.raises(InputError, match="init: trained on other classes"):
        train(recipe, tmp_path / "x")
    tiny = {**REGION_HEADS, "backbone": {**BACKBONE, "widths": [9, 13, 17]}}
    with pytest.raises(InputError, match=r"recipe\.yaml: no such file|no such file"):
        train(make(MASK_STAGE, model=tiny, init=str(tmp_path / "nowhere")), tmp_path / "y")
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "y").exists()


def test_a_folder_with_a_run_is_not_overwritten(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, recipe = tmp_path / "run", make(BOX_STAGE)
    train(recipe, run)
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    with pytest.raises(InputError, match="holds a run already: add --resume"):
        train(recipe, run)
    with pytest.raises(InputError, match=r"begun with stages\.0\.steps=3, the recipe now says 4"):
        train(make({**BOX_STAGE, "steps": 4}), run, resume=True)
    with pytest.raises(
        InputError, match=r"begun with stages\.1\.batch_size=None, the recipe now says 8"
    ):
        train(make(BOX_STAGE, MASK_STAGE), run, resume=True)
    assert train(recipe, run, resume=True) == run / "model.safetensors"
    assert (
        train(make(BOX_STAGE, evaluate_every=9, data={"workers": 2}), run, resume=True) is not None
    )
    assert "this run is finished" in capsys.readouterr().out
    assert before == {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="expected a folder"):
        train(recipe, tmp_path / "file")


def test_resume_without_a_run_begins_one(make: Make, tmp_path: Path) -> None:
    assert train(make(BOX_STAGE), tmp_path / "new", resume=True) is not None


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
        train(make(BOX_STAGE, MASK_STAGE, file=file, data={"masked": None}), tmp_path / "run")
    assert str(file) in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_boxes_alone_need_no_masks(make: Make, world: Path, tmp_path: Path) -> None:
    file = changed(world, tmp_path / "boxes.json", no_masks)
    data = read_training_data(make(BOX_STAGE, file=file, data={"masked": None}))
    assert data.masks == 0
    assert data.masked == set()


def test_the_masked_setting_can_leave_none(make: Make, world: Path, tmp_path: Path) -> None:
    def only_class_3(document: dict[str, Any]) -> None:
        for annotation in document["annotations"]:
            if annotation["category_id"] != 3:
                del annotation["segmentation"]

    file = changed(world, tmp_path / "f.json", only_class_3)
    with pytest.raises(InputError, match=r"data\.masked=c1,c2,c6 leaves none"):
        train(make(MASK_STAGE, file=file), tmp_path / "run")


def test_a_folder_without_the_photographs(make: Make, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing-here"):
        train(make(BOX_STAGE, data={"images": str(tmp_path / "nothing-here")}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_who_counts_as_masked(make: Make, world: Path) -> None:
    everyone = read_training_data(make(BOX_STAGE, data={"masked": None}))
    assert everyone.masked == {1, 2, 3, 4, 5, 6}
    counts = everyone.mask_counts
    threshold = sorted(counts.values())[3]
    some = read_training_data(make(BOX_STAGE, data={"masked": None, "masked_threshold": threshold}))
    assert some.masked == {i for i, n in counts.items() if n >= threshold}
    assert some.mask_counts == counts, "the masks of rarer classes teach all the same"


def test_rotation_reaches_the_batches_and_is_for_box_segmenters(make: Make) -> None:
    encoder = {"name": "small_resnet", "widths": [8, 12, 16], "blocks": [1, 1, 1]}
    model = {
        "kind": "box_segmenter",
        "encoder": encoder,
        "crop_size": 32,
        "decoder_widths": [12, 8],
    }
    batches = []
    for rotation in (0.0, 20.0):
        recipe = make(WHOLE_STAGE, model=model, data={"rotation": rotation})
        loader = read_training_data(recipe).main.loaders(recipe.data).shuffled(8, 0)
        batches.append(next(iter(loader))[1])
    assert [t.image_id for t in batches[0]] == [t.image_id for t in batches[1]]
    moved = [t.loose_box is not None for t in batches[1]]
    assert any(moved)
    assert not all(moved)
    with pytest.raises(InputError, match="rotation is for a box_segmenter"):
        make(WHOLE_STAGE, data={"rotation": 5})


def test_images_without_masks_can_be_left_out(make: Make) -> None:
    one = {"masked": "c1"}
    every = read_training_data(make(BOX_STAGE, data=one))
    some = read_training_data(make(BOX_STAGE, data={**one, "skip_unmasked": True}))
    assert 0 < len(some.training) < len(every.training)
    assert all(some.training.target(i).has_mask.any() for i in range(len(some.training)))


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(command.run)
    return app


def test_the_command_line(make: Make, tmp_path: Path, app: typer.Typer) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(make(BOX_STAGE, MASK_STAGE).to_yaml())
    run = tmp_path / "run"
    done = CliRunner().invoke(
        app, [str(recipe), "seed=4", "stages.0.steps=2", "--out", str(run)], catch_exceptions=False
    )
    assert done.exit_code == 0
    assert f"{run / 'model.safetensors'}: trained" in done.stdout
    assert load_checkpoint(run / "model.safetensors").recipe.seed == 4
    with pytest.raises(InputError, match="--out RUN is missing"):
        CliRunner().invoke(app, [str(recipe)], catch_exceptions=False)


def test_ctrl_c_says_how_to_go_on(
    make: Make, tmp_path: Path, app: typer.Typer, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(make(BOX_STAGE).to_yaml())
    backward = torch.Tensor.backward

    def interrupted(self: Any, *args: Any, **kwargs: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        backward(self, *args, **kwargs)

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "backward", interrupted)
        done = CliRunner().invoke(
            app, [str(recipe), "seed=4", "--out", str(run)], catch_exceptions=False
        )
    assert done.exit_code == 130
    again = f"halfmask train {recipe} seed=4 --out {run} --resume"
    assert f"stopped at step 1 of 3, saved; go on with: {again}" in done.stdout
    done = CliRunner().invoke(app, again.split()[2:], catch_exceptions=False)
    assert done.exit_code == 0
    assert (run / "model.safetensors").is_file()


def test_a_dry_run_writes_nothing(
    make: Make, tmp_path: Path, app: typer.Typer, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(make(BOX_STAGE, MASK_STAGE).to_yaml())
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(
        app, [str(recipe), "--dry-run", "--out", "run"], catch_exceptions=False
    )
    assert done.exit_code == 0
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.yaml"]
    assert "images to learn from" in done.stdout
    assert "rpn " in done.stdout
    assert "stage boxes" in done.stdout
    assert "4 steps of 8 regions" in done.stdout
    assert "nothing was written" in done.stdout


@pytest.mark.slow
def test_the_papers_recipe_fits_its_model(make: Make, world: Path, app: typer.Typer) -> None:
    # Table 2's recipe on the little world: everything is built at full size, and only
    # the pictures are few and small.
    small = [
        f"data.annotations={world / 'instances.json'}",
        f"data.images={world / 'images'}",
        f"data.masked={A}",
        "data.workers=0",
    ]
    smaller = [
        "stages.0.batch_size=1",
        "model.images.min_size=[64]",
        "model.images.max_size=64",
        "model.mask_head.mlp=none",
    ]
    done = CliRunner().invoke(
        app, ["coco_t2_r50_voc2nonvoc_maskx", *small, *smaller, "--dry-run"], catch_exceptions=False
    )
    assert done.exit_code == 0
    assert "loss_mask" in done.stdout
