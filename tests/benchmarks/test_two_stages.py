"""A detector with a box segmenter, beside region heads: really run, at a tiny size."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.paper.experiment import Plan
from benchmarks.paper.sources import World
from benchmarks.paper.two_stages import REGION_HEADS, WAYS, run
from benchmarks.real.command import run_halfmask
from benchmarks.result import Options
from halfmask.recipes.recipe import RECIPE_FOLDER, load_recipe


@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_a_recipe(way: str) -> None:
    names = ["model.condition.embedding=names.npy"] if WAYS[way] else []
    recipe = load_recipe("world_box_segmenter", [*WAYS[way], *names])
    assert recipe.model.kind == "box_segmenter"
    assert recipe.model.unknown == "ignore"
    assert (recipe.model.condition is None) == (not names)


@pytest.mark.slow
def test_a_tiny_run(tmp_path: Path) -> None:
    document = yaml.safe_load((RECIPE_FOLDER / "world_transfer.yaml").read_text(encoding="utf-8"))
    document["model"]["backbone"]["widths"] = [8, 8, 8, 8]
    document["channels_last"] = False  # oneDNN crashes on so few channels
    document["stages"][0] |= {"steps": 2, "batch_size": 2}
    document["stages"][1] |= {"steps": 2, "batch_size": 4}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    plan = Plan(
        World(8, str(tmp_path / "tiny.yaml")), (), (), train_images=12, mask_images=8, test_images=3
    )
    commands: list[list[str]] = []

    def halfmask(arguments: list[str]) -> None:
        commands.append(arguments)
        small = ["stages.0.steps=2", "stages.0.batch_size=2", "model.decoder_widths=[8,8,8,8]"]
        run_halfmask([*arguments, *small] if arguments[0] == "train" else arguments)

    options = Options(tmp_path / "run", seeds=1, first_seed=0, splits=1, say=lambda line: None)
    result = run(options, halfmask, plan)
    assert [row["name"].removeprefix("mask AP on B, ") for row in result.rows] == [
        *REGION_HEADS,
        *WAYS,
    ]
    assert all(f"| {name} | " in result.tables["two-stages"] for name in (*REGION_HEADS, *WAYS))
    measures: Any = result.details["measures"]
    assert {len(found) for found in measures.values()} == {1}
    assert len({str(found[0]["box"]) for found in measures.values()}) == 1, (
        "all draw into the same detector's boxes"
    )
    before = sum(command[0] == "evaluate" for command in commands)
    assert run(options, halfmask, plan).tables == result.tables
    assert sum(command[0] == "evaluate" for command in commands) == before, (
        "what is measured is not measured again"
    )
