"""The box segmenter's options: which runs are made, how they are compared, and that
each option is a sound recipe.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.real import segmenter_runs
from benchmarks.real.segmenter import run
from benchmarks.real.segmenter_options import (
    BASE,
    BUDGET,
    DIRECTIONS,
    OPTIONS,
    ORACLE,
    chosen_options,
)
from benchmarks.result import Options
from halfmask.errors import InputError
from halfmask.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from halfmask.recipes.recipe import load_recipe


def timed(run: Path) -> float:
    return 4.5 if "dice" in str(run) else 4.0


def options(out: Path, *wanted: str, seeds: int = 2, splits: int = 3) -> Options:
    return Options(out, seeds, 0, splits, "world", None, wanted, None, lambda line: None)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_changes_the_recipe(name: str) -> None:
    for recipe in DIRECTIONS.values():
        base = load_recipe(recipe, BUDGET)
        changed = load_recipe(recipe, [*BUDGET, *OPTIONS[name]])
        assert (changed == base) == (name == BASE)


def fake_runs(scores: dict[str, float]) -> tuple[list[list[str]], Any]:
    """Runs that have a score by one of their arguments, B better on voc by 2; and the
    list of those that were made.
    """
    made: list[list[str]] = []

    def halfmask(arguments: list[str]) -> None:
        made.append(arguments)
        run = Path(arguments[arguments.index("--out") + 1])
        run.mkdir(parents=True)
        (run / "model.safetensors").touch()
        gain = sum(value for key, value in scores.items() if key in arguments)
        seed = int(next(a for a in arguments if a.startswith("seed=")).removeprefix("seed="))
        voc = "voc2nonvoc" in arguments[1]
        b = (70 + 2 * voc + seed + gain * (1 + seed)) / 100
        own = {"miou": b, "boundary": {"miou": b - 0.1 - 0.01 * (gain > 0)}}
        blocks = {"A": {"miou": 0.8}, "B": own, "all": {"miou": 0.75}}
        (run / "metrics.json").write_text(
            json.dumps([{"given_boxes": {}}, {"given_boxes": blocks}])
        )

    return made, halfmask


def test_runs_are_made_once_and_compared_on_the_same_seeds(tmp_path: Path) -> None:
    made, halfmask = fake_runs({"model.dice_weight=0": 1.0})
    result = run(options(tmp_path, "no dice"), halfmask, timed)
    assert len(made) == 2 * 2 * 2, "seeds × options × directions"
    folds = {(a[2], next(x for x in a if x.startswith("data.development_fold"))) for a in made}
    assert folds == {("seed=0", "data.development_fold=0"), ("seed=1", "data.development_fold=1")}
    table = result.tables["segmenter:chosen"]
    assert "| the recipe | 72.5 ± 0.7 | 70.5 ± 0.7 |  |  |  | 4.0 | 4 |" in table
    # Ahead by 1 and by 2: mean 1.5, Student's interval over two seeds.
    assert (
        "| no dice | 74.0 ± 1.4 | 72.0 ± 1.4 | +1.5 ± 6.4 | +0.0 ± 0.0 | +0.5 ± 6.4 | 4.5 | 4 |"
        in table
    )
    assert [row["name"].split(", ")[1] for row in result.rows] == ["the recipe", "no dice"]
    assert len(result.details["measures"]) == 8
    run(options(tmp_path, "no dice"), halfmask, timed)
    assert len(made) == 8, "what is there is not done again"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "measures.json").write_text(json.dumps(result.details))
    again = run(options(elsewhere, "no dice"), halfmask, timed)
    assert len(made) == 8, "nor is what was published"
    assert again.tables == result.tables


def test_one_direction_alone(tmp_path: Path) -> None:
    made, halfmask = fake_runs({})
    result = run(options(tmp_path, "no dice", splits=1), halfmask, timed)
    assert {a[1] for a in made} == {DIRECTIONS["voc"]}
    assert "| the recipe | 72.5 ± 0.7 | not run |" in result.tables["segmenter:chosen"]
    assert result.command.startswith(
        "python -m benchmarks segmenter --seeds 2 --first-seed 0 --threads"
    )
    assert " --splits 1" in result.command


def test_what_has_been_measured_is_told_without_training(tmp_path: Path) -> None:
    made, halfmask = fake_runs({"model.dice_weight=0": 1.0})
    run(options(tmp_path, "no dice", seeds=1), halfmask, timed)
    run(options(tmp_path, BASE, seeds=2), halfmask, timed)
    before = len(made)
    result = run(replace(options(tmp_path, seeds=3), measured=True), halfmask, timed)
    assert len(made) == before
    lines = result.tables["segmenter"].splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == [BASE, "no dice"]
    assert lines[2].endswith("| 4 |")
    assert lines[3].endswith("| 2 |")
    assert result.command.endswith(" --measured")


def test_an_option_of_ones_own(tmp_path: Path) -> None:
    made, halfmask = fake_runs({})
    run(options(tmp_path, "tiny: model.crop_size=64 model.context=0.1", seeds=1), halfmask, timed)
    own = [a for a in made if "model.crop_size=64" in a]
    assert len(own) == 2
    assert all("model.context=0.1" in a for a in own)
    with pytest.raises(InputError, match="was made with"):  # the same name for another change
        run(options(tmp_path, "tiny: model.crop_size=32", seeds=1), halfmask, timed)
    assert len(made) == 4


def test_unknown_options_are_named() -> None:
    with pytest.raises(InputError, match="no option 'dise'; there are the recipe, "):
        chosen_options(("dise",))
    assert chosen_options(()) == OPTIONS
    own = chosen_options(("both: model.from_boxes={projection: 0.5, colour: 0.1} data.paste=0.5",))
    assert own["both"] == ["model.from_boxes={projection: 0.5, colour: 0.1}", "data.paste=0.5"]


@pytest.mark.shared
def test_what_changes_inference_alone_is_not_trained_again(
    tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HALFMASK_SHARED", str(shared_data.parent))
    _, train = fake_runs({})
    trained, evaluated = [], []

    def halfmask(arguments: list[str]) -> None:
        if arguments[0] == "train":
            train(arguments)
            trained.append(arguments)
            recipe = load_recipe(arguments[1], arguments[2 : arguments.index("--out")])
            model = Path(arguments[arguments.index("--out") + 1]) / "model.safetensors"
            save_checkpoint(
                model,
                Checkpoint(
                    state={"w": torch.ones(1)},
                    recipe=recipe,
                    categories=[{"id": 1, "name": "cat"}],
                    masked=[1],
                    mask_counts={1: 3},
                ),
            )
            return
        checkpoint = load_checkpoint(Path(arguments[1]) / "model.safetensors")
        evaluated.append(checkpoint.recipe.model.model_dump()["decision"])
        blocks: dict[str, Any] = {
            k: {"miou": v} for k, v in {"A": 0.8, "B": 0.77, "all": 0.78}.items()
        }
        blocks["B"]["boundary"] = {"miou": 0.7}
        Path(arguments[-1]).write_text(json.dumps({"given_boxes": blocks}))

    result = run(options(tmp_path, "cut at one half", seeds=1), halfmask, timed)
    assert len(trained) == 2, "the base, in both directions"
    assert evaluated == ["half", "half"]
    assert [m["B"] for m in result.details["measures"] if m["option"] != BASE] == [77.0, 77.0]


def test_two_processes_on_other_seeds_keep_each_others_measures(tmp_path: Path) -> None:
    _, halfmask = fake_runs({})
    inner = iter([True])

    def interrupted(arguments: list[str]) -> None:
        if next(inner, False):
            run(
                Options(tmp_path, 1, 7, 2, "world", None, (BASE,), None, lambda line: None),
                halfmask,
                timed,
            )
        halfmask(arguments)

    run(options(tmp_path, BASE, seeds=1), interrupted, timed)
    kept = json.loads((tmp_path / "measures.json").read_text())["measures"]
    assert sorted((m["seed"], m["masked"]) for m in kept) == [
        (0, "nonvoc"),
        (0, "voc"),
        (7, "nonvoc"),
        (7, "voc"),
    ]


@pytest.mark.shared
def test_the_oracle_is_measured_on_bs_objects(
    tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HALFMASK_SHARED", str(shared_data.parent))
    name = next(n for n, keys in OPTIONS.items() if keys is ORACLE)
    made, halfmask = fake_runs({})

    def both(arguments: list[str]) -> None:
        if arguments[0] == "train":
            halfmask(arguments)
            return
        made.append(arguments)
        truth = json.loads(Path(arguments[2]).read_text())
        assert 60 < len(truth["images"]) < 140
        assert {a["image_id"] for a in truth["annotations"]} <= {
            image["id"] for image in truth["images"]
        }
        blocks: dict[str, Any] = {
            k: {"miou": v} for k, v in {"A": 0.8, "B": 0.77, "all": 0.78}.items()
        }
        blocks["B"]["boundary"] = {"miou": 0.7}
        Path(arguments[-1]).write_text(json.dumps({"given_boxes": blocks}))

    result = run(options(tmp_path, name, seeds=1), both, timed)
    oracle = [m for m in result.details["measures"] if m["option"] == name]
    assert [m["B"] for m in oracle] == [77.0, 77.0]
    assert {a[a.index("--masked") + 1] for a in made if a[0] == "evaluate"} == set(DIRECTIONS)
    assert segmenter_runs.FOLDS == 3


def test_a_measure_of_a_recipe_that_has_changed_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, halfmask = fake_runs({})
    run(options(tmp_path, BASE, seeds=1), halfmask, timed)
    assert len(made) == 2
    monkeypatch.setattr(
        segmenter_runs,
        "load_recipe",
        lambda name, keys: load_recipe(name, [*keys, "model.crop_jitter=0.2"]),
    )
    with pytest.raises(InputError, match="name another folder"):
        run(options(tmp_path, BASE, seeds=1), halfmask, timed)
