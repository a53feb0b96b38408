"""Shared boxes: which runs are made, what of their results is told, and that each way
is a sound recipe.
"""

import json
from pathlib import Path

import pytest

from benchmarks.real import ambiguous
from benchmarks.real.ambiguous import BUDGET, PLAIN, RECIPE, WAYS, run
from benchmarks.result import Options
from halfmask.recipes.recipe import load_recipe


@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_a_recipe_of_its_own(way: str) -> None:
    recipe = load_recipe(RECIPE, [*BUDGET, *WAYS[way]])
    assert recipe.model.kind == "box_segmenter"
    assert (recipe.model.condition is None) == (way == PLAIN)
    assert recipe.rounds == 1


def test_what_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, int, bool]] = []
    monkeypatch.setattr(
        ambiguous.Composites,
        "pictures",
        lambda self, folder, images, seed, test: made.append((images, seed, test)),
    )
    commands: list[list[str]] = []

    def halfmask(arguments: list[str]) -> None:
        commands.append(arguments)
        if arguments[0] == "train":
            Path(arguments[arguments.index("--out") + 1]).mkdir(parents=True, exist_ok=True)
            return
        told = 0.9 if "prototypes" in arguments[1] else 0.5
        blocks = {
            k: {"told_apart": told, "miou": 0.6, "same_box": {"told_apart": told, "miou": 0.6}}
            for k in "AB"
        }
        result = {"ambiguous": blocks, "given_boxes": {k: {"miou": 0.7} for k in "AB"}}
        Path(arguments[-1]).write_text(json.dumps(result))

    options = Options(tmp_path, 2, 4, 1, say=lambda line: None)
    result = run(options, halfmask)
    assert made == [(2000, 4, False), (400, 4, True), (2000, 5, False), (400, 5, True)]
    assert sum(c[0] == "train" for c in commands) == 2 * len(WAYS)
    last = result.rows[-1]
    assert (last["name"], last["value"], last["peer_value"]) == (
        "shared boxes told apart on B, prototypes",
        90.0,
        50.0,
    )
    assert "| prototypes | 90.0 ± 0.0 | 90.0 ± 0.0 | 60.0 ± 0.0 |" in result.tables["ambiguous"]
    before = sum(c[0] == "evaluate" for c in commands)
    run(options, halfmask)
    assert sum(c[0] == "evaluate" for c in commands) == before, (
        "what is measured is not measured again"
    )
