"""`train DATA`: the shipped model adapted to a user's data, kept only if it is better."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import halfmask
from halfmask.coco.edit import strip_masks
from halfmask.coco.file import CocoFile
from halfmask.models.checkpoint import load_checkpoint
from tests.conftest import RunsHalfmask

from .runs import (
    SEGMENTER,
    SEGMENTER_STAGE,
    data_of,
    interrupted,
    same_weights,
    small_world,
    tiny_recipe,
    trained,
    weights,
    written,
)

MASKED = {1, 2, 3, 4}
"""Classes of the world that keep their masks."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small world: half.json has masks of four classes, instances.json all of them."""
    folder = tmp_path_factory.mktemp("world")
    document = small_world(folder, 20)
    written(folder / "half.json", strip_masks(document, MASKED))
    return folder


@pytest.fixture(scope="module")
def start(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A box segmenter that has learned almost nothing."""
    out = tmp_path_factory.mktemp("start") / "run"
    trained(tiny_recipe(SEGMENTER, data_of(world), SEGMENTER_STAGE), out)
    return out


def overrides(start: Path, steps: int = 80, lr: float = 0.02) -> list[str]:
    """Settings of a small adaptation, judged on held-out photographs."""
    return [
        f"init={start}",
        f"model={json.dumps(SEGMENTER)}",
        "data.masked_threshold=1000",
        "data.paste=0",
        "stages.0.ema=null",
        f"stages.0.steps={steps}",
        f"stages.0.optimiser.lr={lr}",
    ]


def adaptation(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "adaptation.json").read_text())
    return found


@pytest.fixture(scope="module")
def adapted(world: Path, start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("adapted") / "run"
    halfmask.train(
        world / "half.json", overrides(start), images=world / "images", out=out, report=False
    )
    return out


@pytest.mark.slow
def test_a_better_model_is_kept_and_both_numbers_are_said(
    world: Path, start: Path, tmp_path: Path, halfmask_cli: RunsHalfmask
) -> None:
    arguments = ["train", world / "half.json", *overrides(start), "--images", world / "images"]
    outcome = halfmask_cli(*arguments, "--out", tmp_path / "run", "--json", tmp_path / "r.json")
    assert outcome.code == 0, outcome.out
    found = adaptation(tmp_path / "run")
    assert found["kept"] == "adapted"
    held = found["held_out"]
    assert held["adapted"] > held["start"]
    assert f"as it is {100 * held['start']:.1f}, adapted {100 * held['adapted']:.1f}" in outcome.out
    assert "kept the adapted model" in outcome.out
    assert "expect a mean IoU of" in outcome.out
    assert "2 classes have no mask at all" in outcome.out
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["adaptation"]["kept"] == "adapted"
    assert (tmp_path / "run" / "report.html").is_file()
    assert not (tmp_path / "run" / "resume.ckpt").exists()


@pytest.mark.slow
def test_the_kept_model_knows_the_classes_and_their_masks(adapted: Path) -> None:
    checkpoint = load_checkpoint(adapted / "model.safetensors")
    assert [c["name"] for c in checkpoint.categories] == [f"c{k}" for k in range(1, 7)]
    counts = {c["name"]: checkpoint.mask_counts[c["id"]] for c in checkpoint.categories}
    # The start learned from masks of all six; the data have none of c5 and c6.
    assert all(counts[f"c{k}"] > 0 for k in range(1, 7))
    assert halfmask.load(adapted).model.quality_score.fitted


@pytest.mark.slow
def test_the_start_is_kept_where_adapting_does_not_help(
    world: Path, start: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    done = halfmask.train(
        world / "half.json", overrides(start, 2, 1e-9), images=world / "images", out=out
    )
    assert done.adaptation is not None
    assert done.adaptation.kept == "start"
    assert done.exit_code == 0
    before, after = weights(start), weights(out)
    assert all(
        torch.equal(before[k], after[k]) for k in before if not k.startswith("quality_score")
    )
    assert "kept the model as it is" in " ".join(done.lines())
    assert "Sample masks" in (out / "report.html").read_text()


def test_too_few_masks_keep_the_start(world: Path, start: Path, tmp_path: Path) -> None:
    document = json.loads((world / "half.json").read_text())
    few = written(tmp_path / "none.json", strip_masks(document, set()))
    done = halfmask.train(few, overrides(start), images=world / "images", out=tmp_path / "run")
    assert done.adaptation is not None
    assert done.adaptation.held_out is None
    assert "0 masks are too few to adapt" in done.adaptation.reason
    assert done.adaptation.expected is not None


@pytest.mark.slow
def test_held_out_masks_change_no_training(world: Path, start: Path, tmp_path: Path) -> None:
    """Ruined masks of the held-out classes change the comparison, not what is learned."""
    settings = [*overrides(start, 4), "data.masked_threshold=1"]
    one, two, images = tmp_path / "one", tmp_path / "two", world / "images"
    halfmask.train(world / "half.json", settings, images=images, out=one, report=False)
    held = adaptation(one)["held_out"]
    assert held["by"] == "classes"
    assert set(held["names"]) == {"c1", "c2", "c3", "c4"}
    learnt = load_checkpoint(one / "held-out-1" / "model.safetensors").recipe.data.masked
    kept = set((learnt or "").split(","))
    assert kept < set(held["names"])
    document = json.loads((world / "half.json").read_text())
    ids = {c["id"] for c in document["categories"] if c["name"] not in kept}
    for row in document["annotations"]:
        if row["category_id"] in ids and row.get("segmentation"):
            x, y, w, h = row["bbox"]
            row["segmentation"] = [[x, y, x + w / 2, y, x + w / 2, y + h, x, y + h]]
    ruined = written(tmp_path / "ruined.json", document)
    halfmask.train(ruined, settings, images=images, out=two, report=False)
    assert same_weights(two / "held-out-1", one / "held-out-1")
    assert adaptation(two)["held_out"]["start"] != held["start"]


@pytest.mark.slow
def test_removed_masks_change_nothing(world: Path, start: Path, tmp_path: Path) -> None:
    """B's masks, removed by `data.masked`, neither teach nor judge nor calibrate."""
    settings = [*overrides(start, 4), "data.masked_threshold=1", "data.masked=c1,c2,c3,c4"]
    document = json.loads((world / "instances.json").read_text())
    for row in document["annotations"]:
        if row["category_id"] not in MASKED:
            x, y, w, h = row["bbox"]
            row["segmentation"] = [[x, y, x + w / 2, y, x + w / 2, y + h, x, y + h]]
    ruined = written(tmp_path / "ruined.json", document)
    runs = [tmp_path / "one", tmp_path / "two"]
    for data, out in zip((world / "instances.json", ruined), runs, strict=True):
        halfmask.train(data, settings, images=world / "images", out=out, report=False)
    one, two = map(adaptation, runs)
    same = ("kept", "held_out", "expected", "learned_from")
    assert {key: one[key] for key in same} == {key: two[key] for key in same}
    assert one["learned_from"]["classes"] == len(MASKED)
    assert set(one["held_out"]["names"]) == {"c1", "c2", "c3", "c4"}
    assert same_weights(*runs)


@pytest.mark.parametrize(
    ("bare", "said"), [(False, "600 steps"), (True, "0 masks are too few to adapt it")]
)
def test_a_dry_run_writes_nothing(
    bare: bool,
    said: str,
    halfmask_cli: RunsHalfmask,
    world: Path,
    start: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = [s for s in overrides(start) if "steps" not in s]
    arguments = ["train", world / "half.json", *settings, "--images", world / "images"]
    if bare:
        document = json.loads((world / "half.json").read_text())
        arguments[1] = written(tmp_path / "none.json", strip_masks(document, set()))
    before = set(tmp_path.rglob("*"))
    outcome = halfmask_cli(*arguments, "--dry-run", "--out", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    assert said in outcome.out
    assert "nothing was written" in outcome.out
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize("step", [5, 60, 120])
def test_an_interrupted_adaptation_goes_on(
    step: int, world: Path, start: Path, adapted: Path, tmp_path: Path
) -> None:
    """In the first held-out training, the second one, and the last training."""
    out = tmp_path / "run"

    def go(resume: bool) -> Any:
        return halfmask.train(
            world / "half.json",
            overrides(start),
            images=world / "images",
            out=out,
            report=False,
            resume=resume,
        )

    with interrupted(step):
        stopped = go(resume=False)
    assert not stopped.finished
    assert stopped.exit_code == 130
    assert "--resume" in stopped.resume_command
    done = go(resume=True)
    assert done.finished
    assert same_weights(out, adapted)
    assert adaptation(out)["held_out"] == adaptation(adapted)["held_out"]


@pytest.mark.slow
def test_a_yolo_folder_is_enough(world: Path, start: Path, tmp_path: Path) -> None:
    yolo = tmp_path / "yolo"
    halfmask.convert("to-yolo", world / "half.json", yolo, images=world / "images")
    done = halfmask.train(yolo, overrides(start), out=tmp_path / "run", report=False)
    assert done.finished
    assert done.adaptation is not None
    assert done.adaptation.learned_from["masks"] == sum(
        CocoFile.read(world / "half.json").mask_counts().values()
    )


@pytest.mark.slow
def test_other_data_measure_the_result(world: Path, start: Path, tmp_path: Path) -> None:
    done = halfmask.train(
        world / "half.json",
        overrides(start),
        images=world / "images",
        val=world / "instances.json",
        out=tmp_path / "run",
        report=False,
    )
    assert done.adaptation is not None
    found = done.adaptation.validation
    assert found is not None
    assert found.keys() == {"start", "kept", "masks"}


@pytest.fixture
def line(halfmask_cli: RunsHalfmask) -> Callable[..., str]:
    def run(*arguments: object) -> str:
        outcome = halfmask_cli("train", *arguments)
        assert outcome.code == 2, outcome.out
        return outcome.line

    return run


def test_bad_input_is_one_line_and_leaves_nothing(
    line: Callable[..., str], world: Path, start: Path, adapted: Path, tmp_path: Path
) -> None:
    out, half, images = tmp_path / "run", world / "half.json", world / "images"
    assert "neither a recipe" in line(tmp_path / "absent.json", "--out", out)
    assert "no such folder" in line(half, "--images", tmp_path / "absent", "--out", out)
    assert "none of the" in line(half, "--images", tmp_path, "--out", out)
    assert "--out RUN is missing" in line(half, "--images", images)
    assert "--images is for data" in line("adapt", "--images", images, "--out", out)
    assert "names no data" in line("adapt", "--out", out)
    assert "unknown key" in line(half, "model.crop=3", "--images", images, "--out", out)
    assert "minutes" in line(half, "--images", images, "--minutes", 0, "--out", out)
    assert "add --resume" in line(half, "--images", images, "--out", adapted)
    for key in ("hide=2", "rounds=2", "devices=2"):
        assert "leave the key out" in line(half, key, "--images", images, "--out", out)
    nonsense = tmp_path / "notes.txt"
    nonsense.write_text("hello")
    assert "notes.txt" in line(nonsense, "--images", images, "--out", out)
    broken = tmp_path / "broken.json"
    broken.write_text('{"images": [')
    assert "broken.json" in line(broken, "--images", images, "--out", out)
    assert not out.exists()


def test_a_run_is_not_resumed_with_other_data(
    line: Callable[..., str], world: Path, start: Path, adapted: Path
) -> None:
    arguments = [world / "instances.json", *overrides(start), "--images", world / "images"]
    assert "other data" in line(*arguments, "--out", adapted, "--resume")
