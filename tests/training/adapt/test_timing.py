"""Steps that fit into the minutes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfmask.recipes.recipe import load_recipe
from halfmask.training.adapt.timing import FEWEST, final_steps, fit_steps, most_steps, with_steps


@given(
    st.floats(0.01, 5),
    st.floats(-10, 3600),
    st.integers(20, 100_000),
    st.lists(st.integers(20, 100_000), min_size=2, max_size=2),
)
def test_the_steps_fit_into_the_time(
    speed: float, seconds: float, masks: int, folds: list[int]
) -> None:
    found = fit_steps(speed, seconds, masks=masks, folds=folds)
    assert found.fold_steps >= FEWEST
    assert found.final_steps >= FEWEST
    steps = found.final_steps + len(folds) * found.fold_steps
    assert steps * speed <= max(seconds, 3 * FEWEST * speed) + speed
    assert found.fold_steps <= found.final_steps or found.final_steps == most_steps(masks)


def test_few_masks_are_not_learned_by_heart() -> None:
    found = fit_steps(0.01, 36_000, masks=30, folds=[20, 20])
    assert found.final_steps == most_steps(30)
    assert found.fold_steps == most_steps(20)
    assert most_steps(30) < most_steps(3000)


def test_the_last_training_takes_what_is_left() -> None:
    assert final_steps(0.5, 100, masks=10_000) == 200
    assert final_steps(0.5, -5, masks=10_000) == FEWEST
    assert final_steps(0.5, 10_000, masks=30) == most_steps(30)


@pytest.mark.parametrize("steps", [1, 20, 433])
def test_a_recipe_gets_its_steps_and_a_warmup_that_fits(steps: int) -> None:
    recipe = with_steps(load_recipe("adapt"), steps)
    assert [stage.steps for stage in recipe.stages] == [steps]
    assert recipe.stages[0].optimiser.warmup <= steps // 10
