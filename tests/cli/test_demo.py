"""The demo: its folder, its photographs, and (slow) the whole of it at a small size."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
import yaml
from typer.testing import CliRunner

from halfmask.cli.demo import page as demo_page
from halfmask.cli.demo import photographs as demo_photographs
from halfmask.cli.demo import story as demo
from halfmask.cli.demo import world as demo_world
from halfmask.cli.demo.clock import MARKER, Clock, Settings
from halfmask.cli.demo.photographs import PHOTOGRAPHS, Photographs, complete_photographs
from halfmask.cli.demo.results import ab_table
from halfmask.cli.demo.story import open_folder
from halfmask.cli.demo.world import world_recipe
from halfmask.coco.file import CocoFile
from halfmask.errors import InputError
from halfmask.models.build import build_model
from halfmask.models.checkpoint import Checkpoint, save_checkpoint
from halfmask.recipes.recipe import parse_recipe


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained box segmenter instead of the shipped one."""
    model = {
        "kind": "box_segmenter",
        "encoder": {"name": "mobilenet_v2"},
        "crop_size": 64,
        "decoder_widths": [8, 8, 8, 8],
    }
    stage = {
        "name": "all",
        "train": ["all"],
        "loss": "masks",
        "steps": 1,
        "batch_size": 1,
        "optimiser": {"lr": 0.1},
    }
    document = {
        "name": "none",
        "model": model,
        "data": {"annotations": "a", "images": "b"},
        "stages": [stage],
    }
    recipe = parse_recipe(document, "the test")
    categories: Any = [
        {"id": c["id"], "name": c["name"]}
        for c in CocoFile.read(PHOTOGRAPHS / "photos.json").categories
    ]
    torch.manual_seed(0)
    state = build_model(recipe.model, len(categories) + 1, pretrained=False).state_dict()
    path = tmp_path_factory.mktemp("model") / "segmenter.safetensors"
    save_checkpoint(
        path,
        Checkpoint(
            state=state, recipe=recipe, categories=categories, masked=[c["id"] for c in categories]
        ),
    )
    return path


@pytest.fixture(scope="module")
def completed(
    tmp_path_factory: pytest.TempPathFactory, segmenter: Path
) -> tuple[Path, Clock, Photographs]:
    """The demo's folder, its clock and its completed photographs."""
    out = tmp_path_factory.mktemp("photographs") / "demo"
    clock = open_folder(out, Settings())
    return out, clock, complete_photographs(out / "photographs", str(segmenter), clock)


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "thesis.txt"
    mine.write_text("years of work")
    with pytest.raises(InputError, match="found a folder with other files"):
        open_folder(tmp_path, Settings())
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(InputError, match="found a file"):
        open_folder(mine, Settings())


def test_an_own_folder_is_kept_or_cleared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    clock = open_folder(out, Settings(seed=1))
    with clock.step("one"):
        (out / "world").mkdir()
        (out / "report.html").write_text("page")
        (out / "notes.txt").write_text("mine")
    again = open_folder(out, Settings(seed=1))
    assert again.seconds == clock.seconds
    assert (out / "world").is_dir()
    assert "keeps its results" in capsys.readouterr().out
    other = open_folder(out, Settings(seed=2))
    assert other.seconds == {}
    assert sorted(p.name for p in out.iterdir()) == [MARKER, "notes.txt"]
    assert "starts over" in capsys.readouterr().out


def test_a_damaged_marker_is_a_demo_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text("{")
    (tmp_path / "runs").mkdir()
    open_folder(tmp_path, Settings())
    assert not (tmp_path / "runs").exists()
    assert json.loads((tmp_path / MARKER).read_text())["settings"]["seed"] == 0


def test_the_clock_adds_interruptions_up(tmp_path: Path) -> None:
    clock = open_folder(tmp_path, Settings())
    with pytest.raises(KeyboardInterrupt), clock.step("long"):
        raise KeyboardInterrupt
    assert clock.seconds == {}
    clock.unfinished["long"] += 100.0
    clock.save()
    later = open_folder(tmp_path, Settings())
    with later.step("long"):
        pass
    assert 100.0 <= later.total < 101.0
    assert later.unfinished == {}


def test_ctrl_c_says_how_to_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_photographs, "complete_photographs", interrupted)
    app = typer.Typer()
    app.command()(demo.run)
    result = CliRunner().invoke(app, ["--out", str(tmp_path / "d")])
    assert result.exit_code == 130
    assert f"halfmask demo --out {tmp_path / 'd'}" in result.output


def test_photographs_lose_every_mask_and_get_one_each(
    completed: tuple[Path, Clock, Photographs],
) -> None:
    out, clock, result = completed
    boxes = json.loads((out / "photographs" / "boxes.json").read_text())
    assert all("segmentation" not in a for a in boxes["annotations"])
    done = json.loads((out / "photographs" / "completed.json").read_text())
    assert all(a["halfmask"]["state"] == "filled" for a in done["annotations"])
    assert len(result.ious) == len(result.box_ious) == len(boxes["annotations"]) == 69
    assert all(0 <= v <= 1 for v in result.ious)
    # The boxes' own IoU is a fact of the file: mean of mask area over box area, up to
    # rounding to pixels.
    truth = json.loads((PHOTOGRAPHS / "photos.json").read_text())["annotations"]
    share = sum(a["area"] / (a["bbox"][2] * a["bbox"][3]) for a in truth) / len(truth)
    assert abs(sum(result.box_ious) / 69 - share) < 0.05
    assert len(list((out / "photographs").glob("*.jpg"))) == 12
    assert clock.seconds[demo_photographs.STEP] > 0


def test_every_picture_of_a_photograph_is_credited(
    completed: tuple[Path, Clock, Photographs],
) -> None:
    result = completed[2]
    for row in result.rows:
        compare = demo_page._compare(row, result)
        assert compare.before.size == compare.after.size
        assert compare.before.height > row.image["height"]  # the strip with source and licence
        page, licence = compare.credit
        assert re.fullmatch(r"https://www\.flickr\.com/photo\.gne\?id=\d+", page.url)
        assert page.url.split("=")[1] in row.image["flickr_url"]
        assert licence.text == {4: "CC BY 2.0", 5: "CC BY-SA 2.0"}[row.image["license"]]


def test_demo_recipes_are_the_shipped_ones_cut_in_two() -> None:
    settings = Settings(detector_steps=30, head_steps=20)
    detector = world_recipe("detector", "boxes", demo_world.HEADS["class-agnostic"], settings)
    assert [stage.loss for stage in detector.stages] == ["boxes"]
    assert detector.stages[0].steps == 30
    assert detector.stages[0].optimiser.warmup <= 30
    for name, recipe in demo_world.HEADS.items():
        head = world_recipe(name, "masks", recipe, settings)
        assert [stage.loss for stage in head.stages] == ["masks"]
        assert head.model.kind == detector.model.kind == "mask_rcnn"
        assert (
            head.model.mask_head.kind
            == {"class-agnostic": "agnostic", "transfer": "transfer"}[name]
        )
        # The heads begin at the detector: all but the head must fit.
        assert head.model.backbone == detector.model.backbone
        assert head.model.detector == detector.model.detector


def test_ab_table_shows_a_dash_for_null() -> None:
    result = {
        "box": {"all": {"AP": 51.23}},
        "mask": {"A": {"AP": None}},
        "given_boxes": {"B": {"miou": 0.6543}},
    }
    columns, rows = ab_table({"transfer": result})
    assert len(columns) == len(rows[0]) == 6
    assert rows[0] == ["transfer", "51.2", "–", "–", "–", "0.654"]


TINY = {
    "name": "tiny",
    "model": {
        "kind": "mask_rcnn",
        "backbone": {"name": "small_resnet", "widths": [8, 8, 16, 16], "blocks": [1, 1, 1, 1]},
        "images": {"min_size": [96], "max_size": 96},
        "detector": {
            "fpn_channels": 16,
            "strides": [8, 16],
            "extra_level": False,
            "anchor_sizes": [24, 44],
            "box_width": 32,
            "rpn_pre_nms": [100, 50],
            "rpn_post_nms": [50, 20],
            "rpn_batch": 32,
            "box_batch": 32,
        },
        "mask_head": {"kind": "agnostic", "width": 16, "convs": 1, "transfer": {"input": "cls"}},
    },
    "data": {"annotations": "a", "images": "b"},
    "stages": [
        {
            "name": name,
            "train": parts,
            "loss": loss,
            "steps": 10,
            "batch_size": 4,
            "cache_features": loss == "masks",
            "optimiser": {"lr": 0.01},
        }
        for name, parts, loss in (
            ("boxes", ["backbone", "fpn", "rpn", "box_head"], "boxes"),
            ("masks", ["mask_head"], "masks"),
        )
    ],
}


@pytest.mark.slow
def test_the_whole_demo_at_a_small_size(
    tmp_path: Path, segmenter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = {}
    for name, kind in (("class-agnostic", "agnostic"), ("transfer", "transfer")):
        document = json.loads(json.dumps(TINY))
        document["model"]["mask_head"]["kind"] = kind
        heads[name] = str(tmp_path / f"{kind}.yaml")
        Path(heads[name]).write_text(yaml.safe_dump(document))
    monkeypatch.setattr(demo_world, "HEADS", heads)
    settings = Settings(
        model=str(segmenter), train_images=12, test_images=6, classes=8, masked=4, size=96
    )
    out = tmp_path / "demo"
    report = demo.make_demo(out, settings)
    html = report.read_text(encoding="utf-8")
    assert report == out / "report.html"
    assert html.count("data:image/") == 2 * 13 + 4 * 4 + 4 + 1  # the last is the page's icon
    assert not re.search(
        r'(src|href)="(?!data:|https://(www\.flickr|creativecommons)|http://creativecommons)', html
    )
    half = json.loads((out / "world" / "test" / "half.json").read_text())
    done = json.loads((out / "results" / "completed-transfer.json").read_text())
    for before, after in zip(half["annotations"], done["annotations"], strict=True):
        assert "segmentation" in after
        if "segmentation" in before:
            assert after == before
        else:
            assert after["halfmask"]["state"] == "filled"
    models = {p: p.stat().st_mtime_ns for p in out.glob("runs/*/model.safetensors")}
    assert len(models) == 3
    os.utime(out / "report.html", (0, 0))
    demo.make_demo(out, settings)  # once more: nothing is trained again, the page is written again
    assert {p: p.stat().st_mtime_ns for p in models} == models
    assert report.stat().st_mtime > 0
