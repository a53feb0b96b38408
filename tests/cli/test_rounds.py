"""Self-training (`rounds`): who teaches whom, what is never seen, and how it is taken up again."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from halfmask.data.synthetic.write import synth
from halfmask.models.checkpoint import load_checkpoint
from halfmask.recipes.recipe import Recipe, parse_recipe
from halfmask.training.train import train

Make = Callable[..., Recipe]
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


@pytest.fixture
def make(world: Path) -> Make:
    def build(file: Path | None = None, **keys: Any) -> Recipe:
        encoder = {"name": "small_resnet", "widths": [8, 12, 16], "blocks": [1, 1, 1]}
        model = {
            "kind": "box_segmenter",
            "encoder": encoder,
            "crop_size": 32,
            "decoder_widths": [12, 8],
        }
        optimiser = {"name": "adamw", "lr": 0.003}
        stage = {
            "name": "masks",
            "train": ["all"],
            "loss": "masks",
            "steps": 4,
            "batch_size": 2,
            "optimiser": optimiser,
        }
        data = {
            "annotations": str(file or world / "instances.json"),
            "images": str(world / "images"),
            "masked": A,
            "masked_threshold": 1,
            "skip_unmasked": True,
            "development": 0.3,
        }
        limits = {"min_score": 0.0, "min_tightness": 0.0}
        document = {"name": "tiny", "model": model, "data": data, "stages": [stage], "rounds": 2}
        return parse_recipe({**document, "self_training": limits, **keys}, "test")

    return build


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("halfmask.pictures.curves.training_curves", lambda folder: None)


def test_the_second_round_learns_from_what_the_first_filled_in(
    make: Make, tmp_path: Path, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = train(make(), tmp_path / "run")
    assert path is not None
    printed = capsys.readouterr().out
    teacher = tmp_path / "run" / "teacher"
    filled = json.loads((teacher / "filled.json").read_text())
    truth = json.loads((world / "instances.json").read_text())
    ids = {image["id"] for image in truth["images"]}
    learnt = {image["id"] for image in filled["images"]}
    assert learnt < ids, "held-out images are none of the teacher's business"
    by_id = {a["id"]: a for a in truth["annotations"]}
    made = [a for a in filled["annotations"] if "halfmask" in a]
    assert made
    assert {a["category_id"] for a in made} == {3, 4, 5} & {
        a["category_id"] for a in filled["annotations"]
    }
    assert all(
        a["segmentation"] == by_id[a["id"]]["segmentation"]
        for a in filled["annotations"]
        if "halfmask" not in a
    )
    assert f"{len(made)} of the teacher's masks to learn from" in printed
    first, second = (load_checkpoint(p / "model.safetensors") for p in (teacher, tmp_path / "run"))
    assert (first.recipe.rounds, second.recipe.rounds) == (1, 2)
    assert first.masked == second.masked == [1, 2, 6], "what a teacher drew makes no class masked"
    assert first.mask_counts == second.mask_counts
    assert any(not torch.equal(first.state[k], second.state[k]) for k in first.state)
    alone = train(make(rounds=1), tmp_path / "alone")
    assert alone is not None
    state = load_checkpoint(alone).state
    assert all(torch.equal(state[k], first.state[k]) for k in state), (
        "the first round is a training like any other"
    )


def test_nothing_of_bs_masks_leaks_through_the_teacher(
    make: Make, world: Path, tmp_path: Path
) -> None:
    document = json.loads((world / "instances.json").read_text())
    rng = torch.Generator().manual_seed(0)
    for annotation in document["annotations"]:
        if annotation["category_id"] not in (1, 2, 6):
            x, y, w, h = annotation["bbox"]
            corner = torch.rand(4, generator=rng).tolist()
            annotation["segmentation"] = [
                [x, y, x + w * corner[0] + 1, y, x, y + h * corner[1] + 1]
            ]
            annotation["area"] = 1.0 + 1000 * corner[2]
    other = tmp_path / "other.json"
    other.write_text(json.dumps(document))
    for name, file in (("true", None), ("false", other)):
        train(make(file), tmp_path / name)
    one, two = (
        load_checkpoint(tmp_path / n / "model.safetensors").state for n in ("true", "false")
    )
    assert all(torch.equal(one[k], two[k]) for k in one)


def fates(printed: str) -> tuple[int, int, int]:
    """Masks that were kept, doubtful and loose."""
    line = next(row for row in printed.splitlines() if "of the teacher's masks" in row)
    kept, doubtful, _, loose = re.findall(r"\d+(?:\.\d+)?", line)
    return int(kept), int(doubtful), int(loose)


def test_doubtful_masks_are_left_out(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    train(make(self_training={"min_score": 1.0, "min_tightness": 0.0}), run)
    kept, doubtful, _ = fates(capsys.readouterr().out)
    assert kept == 0
    assert doubtful > 0
    # Nothing is learnt from B then, so both rounds are the same training.
    one, two = (load_checkpoint(p / "model.safetensors").state for p in (run / "teacher", run))
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_masks_that_do_not_fill_their_box_are_left_out(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(make(self_training={"min_score": 0.0, "min_tightness": 1.0}), tmp_path / "run")
    assert fates(capsys.readouterr().out)[2] > 0


@pytest.mark.parametrize("stop", [2, 6])
def test_stopped_in_either_round_and_resumed_is_the_same_run(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    train(make(), tmp_path / "whole")
    backward, calls = torch.Tensor.backward, []

    def interrupted(self: Any, *args: Any, **kwargs: Any) -> None:
        calls.append(1)
        if len(calls) == stop:
            os.kill(os.getpid(), signal.SIGINT)
        backward(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "backward", interrupted)
        assert train(make(), tmp_path / "run") is None
    assert train(make(), tmp_path / "run", resume=True) is not None
    one, two = (load_checkpoint(tmp_path / n / "model.safetensors").state for n in ("whole", "run"))
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_three_rounds(make: Make, tmp_path: Path) -> None:
    assert train(make(rounds=3), tmp_path / "run") is not None
    inner = tmp_path / "run" / "teacher" / "teacher"
    assert load_checkpoint(inner / "model.safetensors").recipe.rounds == 1
