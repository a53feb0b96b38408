"""`distil` in a training: who teaches, what a missing teacher says, and resuming."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from halfmask.errors import InputError
from halfmask.models.checkpoint import load_checkpoint
from halfmask.recipes.recipe import Recipe
from halfmask.training.train import train

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
)

Make = Callable[..., Recipe]
STAGE = {**SEGMENTER_STAGE, "steps": 3, "ema": 0.9, "optimiser": {"name": "adamw", "lr": 0.003}}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    small_world(folder, 6)
    return folder


@pytest.fixture
def make(world: Path) -> Make:
    def build(stage: dict[str, Any] = STAGE, masked: str = "c1,c2,c6", **keys: Any) -> Recipe:
        data = data_of(world, world / "instances.json", masked=masked)
        return tiny_recipe({**SEGMENTER, "mirror": True}, data, stage, **keys)

    return build


@pytest.fixture(scope="module")
def teacher(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("teacher") / "run"
    data = data_of(world, world / "instances.json", masked="c1,c2,c6")
    model = {**SEGMENTER, "mirror": True, "zooms": [0.1, 0.3]}
    assert trained(tiny_recipe(model, data, STAGE), run) is not None
    return run


def test_a_start_teaches_by_its_own_looks(
    make: Make, teacher: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain, taught = tmp_path / "plain", tmp_path / "taught"
    trained(make(init=str(teacher)), plain)
    with caplog.at_level(logging.INFO, "halfmask"):
        trained(make(init=str(teacher), distil={}), taught)
    assert "teaches by 4 looks at each box" in caplog.text
    assert not same_weights(plain, taught)
    assert set(weights(plain)) == set(weights(taught)), "the teacher is not saved"


def test_a_moving_average_teaches_and_a_stopped_run_resumes(make: Make, tmp_path: Path) -> None:
    recipe = make(distil={"teacher": "average"})
    trained(recipe, tmp_path / "whole")
    with interrupted(2):
        assert trained(recipe, tmp_path / "run") is None
    assert trained(recipe, tmp_path / "run", resume=True) is not None
    assert same_weights(tmp_path / "whole", tmp_path / "run")


def test_the_classes_of_a_teacher_count_as_masked(
    make: Make, teacher: Path, tmp_path: Path
) -> None:
    """Its masks taught the student too, so no class of them is without masks."""
    trained(make(masked="c1", distil={"teacher": str(teacher)}), tmp_path / "run")
    found = load_checkpoint(tmp_path / "run" / "model.safetensors")
    assert {1, 2, 6} >= set(found.masked) >= {1}
    assert {i for i, n in found.mask_counts.items() if n} == {1, 2, 6}


def test_a_teacher_that_has_seen_hidden_classes_is_refused(
    make: Make, teacher: Path, tmp_path: Path
) -> None:
    recipe = make(distil={"teacher": str(teacher)}, hide=1)
    recipe = recipe.model_copy(
        update={"data": recipe.data.model_copy(update={"masked_threshold": 1})}
    )
    with pytest.raises(InputError, match=r"hide=1: distil\.teacher: .* has learnt masks of"):
        trained(recipe, tmp_path / "run")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"distil": {}}, "no teacher: name one"),
        ({"distil": {"teacher": "nowhere"}}, r"distil\.teacher: nowhere: no such file"),
    ],
)
def test_a_missing_teacher(make: Make, tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        trained(make(**keys), tmp_path / "run")


def test_an_average_needs_ema(make: Make) -> None:
    with pytest.raises(InputError, match="needs `ema` in every stage"):
        make(stage={**STAGE, "ema": None}, distil={"teacher": "average"})


@pytest.mark.slow
def test_a_dry_run_measures_the_looks(make: Make) -> None:
    done = train(make(rounds=2, distil={}), dry_run=True)
    assert done.dry_run is not None
    assert "looks" in "".join(done.dry_run.costs[0].losses)
