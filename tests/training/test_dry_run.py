"""A dry run measures every kind of stage and writes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

from halfmask.errors import InputError
from halfmask.recipes.recipe import Recipe
from halfmask.training.loop.cost import measure
from halfmask.training.loop.fit import Loaders
from halfmask.training.loop.optim import built_to_learn


def test_costs(
    data: Loaders, tiny_model: Callable[[], Any], make_recipe: Callable[..., Recipe]
) -> None:
    recipe = make_recipe(
        {"batch_size": 8},
        {"train": ["mask_head"], "loss": "masks", "cache_features": True, "batch_size": 9},
    )
    model = tiny_model()
    learnable = built_to_learn(model)
    whole, cached = (
        measure(model, recipe, stage, data=data, learnable=learnable) for stage in recipe.stages
    )
    assert whole.images == 2, "a CPU takes a few images only"
    assert set(whole.losses) == {"loss_box", "loss_mask"}
    assert cached.images == 9
    assert set(cached.losses) == {"loss_mask"}
    assert all(cost.seconds > 0 and cost.memory > 2**20 for cost in (whole, cached))


def test_a_cached_stage_reads_images_until_it_finds_a_region(
    data: Loaders,
    tiny_model: Callable[[], Any],
    make_recipe: Callable[..., Recipe],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = make_recipe(
        {"train": ["mask_head"], "loss": "masks", "cache_features": True, "batch_size": 9}
    )
    model = tiny_model()
    regions, calls = model.mask_regions, 0

    def some(images: Any, targets: Any) -> Any:
        nonlocal calls
        calls += 1
        found = regions(images, targets)
        return (
            found
            if calls == 2
            else type(found)(*(getattr(found, f.name)[:0] for f in fields(found)))
        )

    monkeypatch.setattr(model, "mask_regions", some)
    assert (
        measure(model, recipe, recipe.stages[0], data=data, learnable=built_to_learn(model)).images
        == 9
    )
    with pytest.raises(
        InputError, match=r"no region of the \d+ images matches an object with a mask"
    ):
        measure(model, recipe, recipe.stages[0], data=data, learnable=built_to_learn(model))


def test_errors_of_a_training_stop_the_dry_run(
    data: Loaders, tiny_model: Callable[[], Any], make_recipe: Callable[..., Recipe]
) -> None:
    recipe = make_recipe({"train": ["nose"]})
    model = tiny_model()
    with pytest.raises(InputError, match="no part nose"):
        measure(model, recipe, recipe.stages[0], data=data, learnable=built_to_learn(model))
