"""Self-training (`rounds`): who teaches whom, which masks stay unseen, and resuming."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from halfmask.models.checkpoint import load_checkpoint
from halfmask.recipes.recipe import Recipe

from .runs import (
    SEGMENTER,
    SEGMENTER_STAGE,
    data_of,
    interrupted,
    same_weights,
    small_world,
    tiny_recipe,
    trained,
)

Make = Callable[..., Recipe]
OPTIMISER = {"name": "adamw", "lr": 0.003}
STAGE = {**SEGMENTER_STAGE, "steps": 4, "optimiser": OPTIMISER}
LIMITS = {"min_score": 0.0, "min_tightness": 0.0}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    small_world(folder, 10)
    return folder


@pytest.fixture
def make(world: Path) -> Make:
    def build(file: Path | None = None, **keys: Any) -> Recipe:
        file = file or world / "instances.json"
        data = data_of(world, file, masked="c1,c2,c6", skip_unmasked=True, development=0.3)
        return tiny_recipe(SEGMENTER, data, STAGE, **{"rounds": 2, "self_training": LIMITS, **keys})

    return build


def test_the_second_round_learns_from_what_the_first_filled_in(
    make: Make, tmp_path: Path, world: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "halfmask"):
        path = trained(make(), tmp_path / "run")
    assert path is not None
    teacher = tmp_path / "run" / "teacher"
    filled = json.loads((teacher / "filled.json").read_text())
    truth = json.loads((world / "instances.json").read_text())
    ids = {image["id"] for image in truth["images"]}
    learnt = {image["id"] for image in filled["images"]}
    assert learnt < ids, "the teacher does not see held-out images"
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
    assert f"{len(made)} of the teacher's masks to learn from" in caplog.text
    first, second = (load_checkpoint(p / "model.safetensors") for p in (teacher, tmp_path / "run"))
    assert (first.recipe.rounds, second.recipe.rounds) == (1, 2)
    assert first.masked == second.masked == [1, 2, 6], "what a teacher drew makes no class masked"
    assert first.mask_counts == second.mask_counts
    assert any(not torch.equal(first.state[k], second.state[k]) for k in first.state)
    assert trained(make(rounds=1), tmp_path / "alone") is not None
    assert same_weights(tmp_path / "alone", teacher), "the first round is an ordinary training"


@pytest.mark.parametrize("looks", [None, {"weight": 1.0}])
def test_nothing_of_bs_masks_leaks_through_the_teacher(
    make: Make, world: Path, tmp_path: Path, looks: dict[str, float] | None
) -> None:
    """Neither by the masks that it fills in, nor by its looks at B's boxes."""
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
        trained(make(file, distil=looks), tmp_path / name)
    assert same_weights(tmp_path / "true", tmp_path / "false")


def fates(logged: list[str]) -> tuple[int, int, int]:
    """Masks that were kept, doubtful and loose."""
    line = next(row for row in logged if "of the teacher's masks" in row)
    kept, doubtful, _, loose = re.findall(r"\d+(?:\.\d+)?", line)
    return int(kept), int(doubtful), int(loose)


def test_doubtful_masks_are_left_out(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    with caplog.at_level(logging.INFO, "halfmask"):
        trained(make(self_training={"min_score": 1.0, "min_tightness": 0.0}), run)
    kept, doubtful, _ = fates(caplog.messages)
    assert kept == 0
    assert doubtful > 0
    # The model learns nothing from B then, so both rounds are the same training.
    assert same_weights(run / "teacher", run)


def test_masks_that_do_not_fill_their_box_are_left_out(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "halfmask"):
        trained(make(self_training={"min_score": 0.0, "min_tightness": 1.0}), tmp_path / "run")
    assert fates(caplog.messages)[2] > 0


@pytest.mark.slow
@pytest.mark.parametrize("stop", [2, 6])
def test_stopped_in_either_round_and_resumed_is_the_same_run(
    make: Make, tmp_path: Path, stop: int
) -> None:
    trained(make(), tmp_path / "whole")
    with interrupted(stop):
        assert trained(make(), tmp_path / "run") is None
    assert trained(make(), tmp_path / "run", resume=True) is not None
    assert same_weights(tmp_path / "whole", tmp_path / "run")


@pytest.mark.slow
def test_three_rounds(make: Make, tmp_path: Path) -> None:
    assert trained(make(rounds=3), tmp_path / "run") is not None
    inner = tmp_path / "run" / "teacher" / "teacher"
    assert load_checkpoint(inner / "model.safetensors").recipe.rounds == 1
