"""The numbers on real photographs: which runs are made, what is compared with what, and
the bars.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.real.recipes import RECIPES, WITH_MORE, run
from benchmarks.result import Options
from halfmask.errors import InputError
from halfmask.recipes.recipe import load_recipe


def options(out: Path, *wanted: str) -> Options:
    return Options(out, 2, 3, 1, overrides=wanted, say=lambda line: None)


def fake(own: float, oracle: float, lost: float) -> tuple[list[list[str]], Any]:
    """Runs whose B has an IoU (voc higher by 0.02), of which loose boxes lose some."""
    made: list[list[str]] = []

    def halfmask(arguments: list[str]) -> None:
        made.append(arguments)
        if arguments[0] == "train":
            return
        direction = arguments[arguments.index("--masked") + 1]
        loosen = float(arguments[arguments.index("--loosen") + 1])
        base = (
            0.6
            if arguments[1].startswith("baseline")
            else oracle
            if "/all/" in arguments[1]
            else own
        )
        sides = {"B": 0.01, "A": -0.01} if direction == "voc" else {"B": -0.01, "A": 0.01}
        keys, fall = ("miou", "S", "M", "L", "polygon", "rle"), lost if loosen else 0
        boxes = {side: dict.fromkeys(keys, base + more - fall) for side, more in sides.items()}
        for block in boxes.values():
            block["boundary"] = {"miou": block["miou"] - 0.1}
        quality = {"spearman": 0.7, "calibration_error": 0.02, "bad_found": 0.6, "bad": None}
        result = {"given_boxes": boxes, "quality": dict.fromkeys("AB", quality)}
        result["ambiguous"] = {side: {"told_apart": 0.5} for side in "AB"}
        Path(arguments[-1]).write_text(json.dumps(result))

    return made, halfmask


def test_the_table_and_the_bars(tmp_path: Path) -> None:
    made, halfmask = fake(own=0.78, oracle=0.80, lost=0.02)
    result = run(options(tmp_path), halfmask)
    trained = [c for c in made if c[0] == "train"]
    assert [(c[1], c[2], c[3]) for c in trained[:2]] == [
        (RECIPES["voc"], "seed=3", "hide=5"),
        (RECIPES["voc"], "seed=4", "hide=0"),
    ]
    assert [c[3] for c in trained] == ["hide=5", "hide=0"] * 2 + ["hide=0"] * 2
    share, loose = result.rows[1], result.rows[2]
    assert result.rows[0]["value"] == pytest.approx(78)
    assert result.rows[0]["ok"]
    assert share["value"] == pytest.approx(97.5)
    assert not share["ok"]
    assert loose["value"] == pytest.approx(2.0)
    assert loose["ok"]
    lines = result.tables["real"].splitlines()
    voc, _, both = [line for line in lines if line.startswith("| **halfmask")]
    assert voc.split(" | ")[1] == "79.0 ± 0.0"
    assert voc.endswith("| 77.0 ± 0.0 |"), "with loose boxes"
    assert voc.split(" | ")[7] == "69.0 ± 0.0", "boundary IoU"
    assert len(voc.split(" | ")) == 9
    assert both.endswith("only** | 78.0 ± 0.0 |")
    assert "| `baseline:box` | 61.0 |" in result.tables["real"]
    assert "share of the all-masks model: 97.5 %." in result.tables["real"]
    assert "| masks with IoU < 0.5 | – | – |" in result.tables["real:quality"]
    assert len(result.details["measures"]) == 2 * 4 + 6
    evaluated = [c for c in made if c[0] == "evaluate"]
    assert len(evaluated) == 2 * (2 * 2 + 2 + 3), (
        "tight and loose; all masks and rules once for both directions"
    )
    json.dumps(result.details)
    before = sum(c[0] == "evaluate" for c in made)
    assert run(options(tmp_path), halfmask).tables == result.tables
    assert sum(c[0] == "evaluate" for c in made) == before, "what is measured is not measured again"


def test_one_model_at_a_time(tmp_path: Path) -> None:
    made, halfmask = fake(own=0.78, oracle=0.80, lost=0.02)
    result = run(options(tmp_path, "nonvoc"), halfmask)
    assert (result.rows, result.tables) == ([], {})
    assert {c[1] for c in made if c[0] == "train"} == {RECIPES["nonvoc"]}
    with pytest.raises(InputError, match="there are voc, nonvoc, all"):
        run(options(tmp_path, "coco"), halfmask)


def test_the_recipes_differ_in_whose_masks_they_see() -> None:
    found = {name: load_recipe(recipe) for name, recipe in RECIPES.items()}
    assert found["voc"].data.masked == "voc"
    assert found["nonvoc"].data.masked == "nonvoc"
    assert found["all"].data.masked is None
    assert found["voc"].stages == found["all"].stages
    assert found["voc"].model == found["all"].model


def test_the_recipes_with_more_photographs(tmp_path: Path) -> None:
    made, halfmask = fake(own=0.78, oracle=0.80, lost=0.02)
    result = run(options(tmp_path, "more"), halfmask)
    trained = [c[1:4] for c in made if c[0] == "train"]
    assert {recipe for recipe, *_ in trained} == set(WITH_MORE.values())
    assert {hide for *_, hide in trained} == {"hide=0"}
    assert len(trained) == 2 * 2 + 1, "one run of all masks"
    assert "baseline" not in result.tables["real:more"]
    assert set(result.tables) == {"real:more", "real:quality:more"}
    assert result.command.endswith("--first-seed 3 --set more")
    assert all(load_recipe(recipe).data.more for recipe in WITH_MORE.values())
    before = len(made)
    assert run(options(tmp_path, "more", "voc"), halfmask).tables == {}
    assert all(c[1] == WITH_MORE["voc"] for c in made[before:] if c[0] == "train")
