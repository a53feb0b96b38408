"""A stage of a box segmenter may learn from crops of a side of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from halfmask.errors import InputError
from halfmask.models.box_segmenter.build import build_box_segmenter
from halfmask.models.box_segmenter.model import BoxSegmenter
from halfmask.recipes.recipe import Recipe, load_recipe
from halfmask.training.loop import cost
from halfmask.training.loop.fit import Loaders, fit
from halfmask.training.loop.optim import built_to_learn

ENCODER = {"name": "small_resnet", "widths": [8, 8], "blocks": [1, 1]}
MODEL = {"kind": "box_segmenter", "encoder": ENCODER, "crop_size": 96, "decoder_widths": [8]}


def build(recipe: Recipe) -> BoxSegmenter:
    torch.manual_seed(0)
    assert recipe.model.kind == "box_segmenter"
    return build_box_segmenter(recipe.model, 3)


def seen_sides(model: BoxSegmenter) -> list[int]:
    """Returns the list to which every look of the network adds its crops' side."""
    sides: list[int] = []
    model.encoder.register_forward_pre_hook(lambda _, given: sides.append(given[0].shape[-1]))
    return sides


def test_each_stage_has_its_side_and_inference_the_models(
    data: Loaders, make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = make_recipe({"steps": 2, "crop_size": 64}, {"steps": 3, "ema": 0.5}, model=MODEL)
    model = build(recipe)
    sides, measured = seen_sides(model), []
    fit(
        model,
        recipe,
        data,
        folder=tmp_path,
        evaluate=lambda m: measured.append(m.reader.size) or {},  # type: ignore[func-returns-value]
        device="cpu",
    )
    assert sides == [64, 64, 96, 96, 96]
    assert measured == [96]
    assert model.reader.size == 96
    found = model.eval().segment([torch.rand(3, 40, 40)], [torch.tensor([[2.0, 2, 30, 30]])])
    assert found[0].mask_probs.shape[-1] == model.mask_size == 96 // model.decoder.stride


def test_a_fault_in_the_stage_leaves_the_models_side(
    data: Loaders, make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = make_recipe({"steps": 2, "crop_size": 64}, model=MODEL)
    model = build(recipe)

    def fail(*_: Any) -> Tensor:
        raise RuntimeError("the power failed")

    model.encoder.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="power"):
        fit(model, recipe, data, folder=tmp_path, device="cpu")
    assert model.reader.size == 96


def test_the_dry_run_measures_the_stages_crops(
    data: Loaders, make_recipe: Callable[..., Recipe]
) -> None:
    recipe = make_recipe({"crop_size": 128}, {}, model=MODEL)
    model = build(recipe)
    sides = seen_sides(model)
    for stage in recipe.stages:
        cost.measure(model, recipe, stage, data=data, learnable=built_to_learn(model))
    assert sides == [128, 128, 96, 96]


@pytest.mark.parametrize(
    ("recipe", "overrides", "words"),
    [
        ("world_box_segmenter", ["stages.0.crop_size=80"], "expected a multiple of 32 from 64 on"),
        ("world_box_segmenter", ["stages.0.crop_size=32"], "from 64 on, found 32"),
        (
            "world_box_segmenter",
            ["stages.0.crop_size=64", "model.decoder=hourglass", "model.decoder_widths=[8]"],
            "decoder: unet",
        ),
        (
            "world_box_segmenter",
            ["stages.0.crop_size=64", "stages.0.ema=0.9", "distil={teacher: average}"],
            "leave out distil",
        ),
        ("world_agnostic", ["stages.0.crop_size=64"], "is for a box_segmenter"),
    ],
)
def test_what_does_not_fit_is_named(recipe: str, overrides: list[str], words: str) -> None:
    with pytest.raises(InputError, match=r"stages\.0\.crop_size") as error:
        load_recipe(recipe, overrides)
    assert words in str(error.value)
