"""Stage-wise training: what is frozen in stage 2 stays as it is, every tensor of it,
with weight decay and BatchNorm about.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from halfmask.models.checkpoint import load_checkpoint
from halfmask.training.train import train

from .conftest import BOXES, MASKS, WHOLE, Record, stage

MASK_STAGES = {
    "sgd": stage({**MASKS, "steps": 5}, weight_decay=0.1, lr=0.05),
    "sgd, average": stage({**MASKS, "steps": 5, "ema": 0.5}, weight_decay=0.1, lr=0.05),
    "adamw": stage({**MASKS, "steps": 5}, name="adamw", weight_decay=0.5, lr=0.01),
    "cached": stage(
        {**MASKS, "steps": 5, "cache_features": True, "batch_size": 6}, weight_decay=0.1, lr=0.05
    ),
}


@pytest.mark.parametrize("kind", ["transfer", pytest.param("agnostic", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", MASK_STAGES)
def test_every_frozen_tensor_is_untouched(
    recipe: Any, document: Record, tmp_path: Path, name: str, kind: str
) -> None:
    first = train(
        recipe(document, [BOXES], kind=kind), out=tmp_path / "one", report=False
    ).checkpoint
    both = train(
        recipe(document, [BOXES, MASK_STAGES[name]], kind=kind), out=tmp_path / "two", report=False
    ).checkpoint
    assert first is not None
    assert both is not None
    before, after = load_checkpoint(first).state, load_checkpoint(both).state
    assert before.keys() == after.keys()
    frozen = [key for key in before if not key.startswith("mask_branch.")]
    assert any(key.endswith("running_mean") for key in frozen), "a BatchNorm that could drift"
    assert any(key.endswith("num_batches_tracked") for key in frozen)
    moved = [key for key in frozen if not torch.equal(before[key], after[key])]
    assert not moved
    learnt = [key for key in before if key.startswith("mask_branch.")]
    assert all(not torch.equal(before[key], after[key]) for key in learnt), (
        "and every tensor of the mask head learnt"
    )


@pytest.mark.parametrize("stop", [True, False])
def test_end_to_end_everything_learns(
    recipe: Any, document: Record, tmp_path: Path, stop: bool
) -> None:
    settings = recipe(document, [WHOLE], transfer={"stop_gradient": stop})
    path = train(settings, out=tmp_path / "run", report=False).checkpoint
    assert path is not None
    state = load_checkpoint(path).state
    torch.manual_seed(settings.seed)
    from halfmask.models.build import build_model

    start = build_model(settings.model, 7).state_dict()
    still = [key for key, tensor in state.items() if torch.equal(tensor, start[key])]
    assert not still


def test_the_gradient_that_is_stopped_makes_the_difference(
    recipe: Any, document: Record, tmp_path: Path
) -> None:
    """One step from the same start: the box head's weights part, everything else is the
    same bit for bit.
    """
    states = []
    for stop in (True, False):
        settings = recipe(document, [{**WHOLE, "steps": 1}], transfer={"stop_gradient": stop})
        path = train(settings, out=tmp_path / str(stop), report=False).checkpoint
        assert path is not None
        states.append(load_checkpoint(path).state)
    stopped, flowing = states
    parted = {key for key in stopped if not torch.equal(stopped[key], flowing[key])}
    assert parted == {
        "box_heads.box_predictor.cls_score.weight",
        "box_heads.box_predictor.bbox_pred.weight",
    }
