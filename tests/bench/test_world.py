"""The world's benchmark end to end on a tiny plan: every head is measured, and what is there is not done again."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from halfmask.bench.world import Plan, run_world
from halfmask.bench.world_heads import HEADS, head_settings, train_head
from halfmask.config import RECIPE_FOLDER, MaskRCNN, Stage, load_recipe
from halfmask.errors import InputError
from halfmask.models.build import build_mask_rcnn
from halfmask.models.rcnn import MaskRegions


@pytest.fixture(scope="module")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    document = yaml.safe_load((RECIPE_FOLDER / "world_transfer.yaml").read_text(encoding="utf-8"))
    document["model"]["backbone"]["widths"] = [8, 8, 8, 8]
    document["channels_last"] = False  # oneDNN crashes on so few channels
    document["stages"][0] |= {"steps": 2, "batch_size": 2}
    document["stages"][1] |= {"steps": 2, "batch_size": 4}
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return str(path)


def tiny_plan(recipe: str, heads: tuple[str, ...], train_images: int = 6) -> Plan:
    return Plan(
        seeds=1,
        splits=1,
        masked=(4, 6),
        heads=heads,
        train_images=train_images,
        mask_images=4,
        test_images=3,
        classes=8,
        recipe=recipe,
    )


@pytest.fixture(scope="module")
def tiny(tiny_recipe: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path, list[dict[str, Any]]]:
    plan = tiny_plan(tiny_recipe, ("T(cls)", "T(random)"))
    folder = tmp_path_factory.mktemp("run")
    return plan, folder, run_world(plan, folder, lambda line: None)


def test_every_head_is_measured(tiny: tuple[Plan, Path, list[dict[str, Any]]]) -> None:
    _, _, measures = tiny
    heads = {masked: {m["head"] for m in measures if m["masked"] == masked} for masked in (4, 6)}
    assert heads[4] == {"class-agnostic", "T(cls)", "T(random)", "oracle"}
    assert heads[6] == {"class-agnostic", "T(cls)", "oracle"}, "at the larger A only the recipe's own input"
    for m in measures:
        assert 0 <= m["iou"]["A"] <= 1
        assert 0 <= m["iou"]["B"] <= 1
        assert m["mask_AP"]["B"] is not None


def test_what_is_there_is_not_done_again(tiny: tuple[Plan, Path, list[dict[str, Any]]]) -> None:
    plan, folder, measures = tiny
    said: list[str] = []
    assert run_world(plan, folder, said.append) == measures
    assert said == []


def test_another_plan_needs_another_folder(tiny: tuple[Plan, Path, list[dict[str, Any]]]) -> None:
    plan, folder, _ = tiny
    with pytest.raises(InputError, match="another plan or recipe"):
        run_world(tiny_plan(plan.recipe, plan.heads, train_images=7), folder, lambda line: None)
    with pytest.raises(InputError, match="no head T"):
        run_world(tiny_plan(plan.recipe, ("T(nothing)",)), folder, lambda line: None)


def test_a_head_learns_from_its_classes_alone(tiny_recipe: str) -> None:
    """Masks of other classes may be anything: the trained weights are the same bits."""
    recipe = load_recipe(tiny_recipe)
    assert isinstance(recipe.model, MaskRCNN)
    settings = head_settings(recipe.model.mask_head, "T(cls)")
    stage: Stage = recipe.stages[1]
    torch.manual_seed(0)
    model = build_mask_rcnn(recipe.model, 9)
    side = settings.roi_size
    labels = torch.arange(1, 9).repeat(2)
    features, targets = torch.randn(16, 64, side, side), torch.rand(16, 2 * side, 2 * side).round()
    weights = []
    for other in (targets, torch.where((labels > 4)[:, None, None], 1 - targets, targets)):
        train_head(model, settings, stage, MaskRegions(features, labels, other), {1, 2, 3, 4}, seed=5)
        weights.append([p.detach().clone() for p in model.mask_branch.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


@pytest.mark.parametrize("name", HEADS)
def test_heads_keep_the_recipe_s_sizes(name: str) -> None:
    recipe = load_recipe("world_transfer")
    assert isinstance(recipe.model, MaskRCNN)
    base = recipe.model.mask_head
    settings = head_settings(base, name)
    assert (settings.width, settings.convs, settings.roi_size) == (base.width, base.convs, base.roi_size)
    assert settings.transfer.input_norm == base.transfer.input_norm
    if name.startswith("T("):
        assert name == f"T({settings.transfer.input})"
