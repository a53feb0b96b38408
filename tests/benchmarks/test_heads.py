"""`bench heads`: the matrix, the references of each gap, the bars, the page; and that
what is unknown depends on the split alone.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from benchmarks.paper.experiment import Job, Plan, run_plan
from benchmarks.paper.heads import (
    HOURGLASS,
    REFERENCES,
    VARIANTS,
    chosen_ways,
    heads_jobs,
    inputs_of,
    matrix,
    run,
)
from benchmarks.paper.heads_page import best, gap_closed, heads_markdown, heads_rows, reference
from benchmarks.paper.region_heads import (
    HEADS,
    PooledTraining,
    head_settings,
    pool_training,
    train_head,
)
from benchmarks.paper.sources import World
from benchmarks.result import Options
from halfmask.errors import InputError
from halfmask.masks.crops import MaskCrops
from halfmask.models.mask_rcnn.build import build_mask_rcnn
from halfmask.models.mask_rcnn.regions import HALF_PIXEL, unknown_cells
from halfmask.recipes.recipe import RECIPE_FOLDER, MaskHead, MaskRCNN, load_recipe
from halfmask.structures import Target

INPUTS = inputs_of("T(cls)")
OF_ALL = [head for head in matrix("T(cls)") if head not in REFERENCES]


def measure(head: str, b: float, seed: int = 0, split: int = 0) -> dict[str, Any]:
    scores = {"all": 0.0, "A": 0.9, "B": b}
    return {
        "seed": seed,
        "split": split,
        "masked": 16,
        "head": head,
        "box_AP": 55.0,
        "mask_AP": {k: 100 * v for k, v in scores.items()},
        "iou": scores,
        "loss": 0.1,
    }


@pytest.fixture
def measures() -> list[dict[str, Any]]:
    rows = []
    for seed, shift in ((0, 0.0), (1, 0.02)):
        rows += [
            measure("class-agnostic", 0.4 + shift, seed),
            measure("class-agnostic, ignore", 0.58 + shift, seed),
            measure("class-agnostic, all masks", 0.6 + shift, seed),
            measure("class-agnostic, hourglass", 0.5, seed),
            measure("class-agnostic, hourglass, skip", 0.64, seed),
            measure("class-agnostic, hourglass, all masks", 0.7, seed),
            measure("T(cls)", 0.6 + shift, seed),
            measure("T(names), hourglass", 0.86, seed),
            measure("oracle", 0.8 + shift, seed),
            measure("oracle, hourglass", 0.9, seed),
        ]
    return rows


def test_each_head_is_held_against_its_own_trunk() -> None:
    assert reference("class-agnostic, skip") == ("class-agnostic", "class-agnostic, all masks")
    assert reference("class-agnostic, hourglass, skip")[1] == "class-agnostic, hourglass, all masks"
    assert reference("T(names), ignore") == ("class-agnostic", "oracle")
    assert reference("T(names), hourglass") == ("class-agnostic, hourglass", "oracle, hourglass")
    every = set(matrix("T(cls)"))
    assert {name for head in every - set(REFERENCES) for name in reference(head)} <= every


def test_gap_closed_is_the_share_of_the_way(measures: list[dict[str, Any]]) -> None:
    assert gap_closed(measures, 16, "class-agnostic, ignore") == pytest.approx([0.9, 0.9])
    assert gap_closed(measures, 16, "class-agnostic, hourglass, skip") == pytest.approx([0.7, 0.7])
    assert gap_closed(measures, 16, "T(cls)") == pytest.approx([0.5, 0.5])
    assert gap_closed(measures, 16, "T(names), hourglass") == pytest.approx([0.9, 0.9])
    assert gap_closed(measures[:2], 16, "class-agnostic, ignore") == [], "no reference, no share"
    assert (
        best(measures, 16, ["T(cls)", "T(names), hourglass", "T(names)"]) == "T(names), hourglass"
    )
    assert best(measures, 16, ["T(names)"]) is None


def test_rows_meet_or_miss_the_two_bars(measures: list[dict[str, Any]]) -> None:
    rows = heads_rows(measures, 16, INPUTS, OF_ALL)
    first, second = rows[:2]
    assert (
        first["name"]
        == "gap to class-agnostic on all masks closed on B, class-agnostic, ignore, |A| = 16"
    )
    assert (first["value"], first["bar"], first["ok"]) == (
        pytest.approx(0.9),
        0.9,
        first["value"] >= 0.9,
    )
    assert "T(names), hourglass" in second["name"]
    for m in measures:
        m["iou"]["B"] -= 0.1 if m["head"] == "T(names), hourglass" else 0.0
    second = heads_rows(measures, 16, INPUTS, OF_ALL)[1]
    assert second["ok"] is False
    by_name = {row["name"]: row for row in rows}
    ahead = by_name["mask IoU on B, class-agnostic, ignore, |A| = 16"]
    assert (ahead["peer"], ahead["peer_value"], ahead["value"]) == (
        "class-agnostic",
        pytest.approx(0.41),
        pytest.approx(0.59),
    )
    assert "mask IoU on B, T(cls), skip, |A| = 16" not in by_name, "what was not measured is no row"
    assert [row for row in heads_rows(measures[:1], 16, INPUTS, OF_ALL) if row["bar"]] == []
    assert json.loads(json.dumps(rows)) == rows


def test_the_page_has_a_line_for_each_way_and_says_what_was_not_run(
    measures: list[dict[str, Any]],
) -> None:
    page = heads_markdown(measures, 16, INPUTS, OF_ALL)
    lines = page.splitlines()
    ignore = [line for line in lines if line.startswith("| ignore |")]
    assert len(ignore) == 3
    assert (
        ignore[0]
        == "| ignore | 0.590 ± 0.014 | 0.900 ± 0.000 | 59.0 ± 1.4 | 90.0 ± 0.0 | +18.0 ± 0.0 | "
        "90 ± 0 % | 2 |"
    )
    assert "not run" in ignore[1]
    assert "| oracle, hourglass | 0.900 ± 0.000 |" in page
    assert any(
        line.startswith("- gap to the oracle closed on B, T(names), hourglass") for line in lines
    )
    width = {
        line.count("|") for line in lines if line.startswith(("| plain", "| skip", "| hourglass"))
    }
    assert width == {9}


def test_every_way_is_measured_on_every_split_and_differs_from_the_others() -> None:
    jobs = heads_jobs(World(), 2)
    assert {job.masked for job in jobs} == {16}
    taught = sum("box_only" in change for change in VARIANTS.values())
    assert len(jobs) == len(set(jobs)) == 2 * (3 * len(VARIANTS) - taught + len(REFERENCES))
    recipe = load_recipe("world_transfer")
    assert isinstance(recipe.model, MaskRCNN)
    seen = [
        head_settings(recipe.model.mask_head, change, Path("unused")).model_dump_json()
        for name, change in matrix("T(cls)").items()
        if "names" not in name and name not in REFERENCES
    ]
    assert len(set(seen)) == len(seen)
    assert matrix("T(cls)")["T(cls)"] == HEADS["T(cls)"], "the plain rows are those of bench table1"


def test_some_ways_can_be_run_alone() -> None:
    assert chosen_ways(()) == tuple(VARIANTS)
    assert chosen_ways(("ways=ignore; taught",)) == ("", "ignore", "taught")
    heads = {job.head for job in heads_jobs(World(), 1, chosen_ways(("ways=ignore; taught",)))}
    assert heads == {
        *INPUTS,
        *(f"{head}, ignore" for head in INPUTS),
        "T(cls), taught",
        "T(names), taught",
        "class-agnostic, all masks",
        "oracle",
    }
    assert "oracle, hourglass" in {
        job.head for job in heads_jobs(World(), 1, chosen_ways(("ways=hourglass, skip",)))
    }
    for wrong in ("ways=nothing", "steps=3"):
        with pytest.raises(InputError, match="expected ways= and some of ignore;skip"):
            chosen_ways((wrong,))


def test_an_unknown_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected one of world, composites"):
        run(Options(tmp_path, 1, 0, 1, data="coco"))


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


HEADS_RUN = (
    "class-agnostic, ignore",
    "class-agnostic, hourglass, all masks",
    "T(names), boxes, ignore",
    "oracle",
)


@pytest.mark.slow
def test_the_plan_runs_and_resumes(tiny_recipe: str, tmp_path: Path) -> None:
    jobs = tuple(Job(4, split, head) for split in (0, 1) for head in HEADS_RUN)
    heads = matrix("T(cls)")
    for change in heads.values():
        assert change.get("width", 32) == 32
    plan = Plan(World(8, tiny_recipe), jobs, (0,), 6, 4, 3, heads, frozenset(REFERENCES))
    measures = run_plan(plan, tmp_path, lambda line: None)
    assert {(m["masked"], m["split"], m["head"]) for m in measures} == set(jobs)
    said: list[str] = []
    assert run_plan(plan, tmp_path, said.append) == measures
    assert said == []
    on_all = [m for m in measures if m["head"] in REFERENCES]
    for head in {m["head"] for m in on_all}:
        assert len({m["loss"] for m in on_all if m["head"] == head}) == 1, (
            "learnt once, measured on both splits"
        )


@pytest.fixture(scope="module")
def pooled(
    tiny_recipe: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Any, PooledTraining]:
    recipe = load_recipe(tiny_recipe)
    assert isinstance(recipe.model, MaskRCNN)
    torch.manual_seed(0)
    model = build_mask_rcnn(recipe.model, 9).eval()
    training = World(8, tiny_recipe).pictures(tmp_path_factory.mktemp("world"), 6, 0, test=False)
    return recipe, model, pool_training(model, training, 6, 0)


def test_what_is_unknown_depends_on_the_split(pooled: tuple[Any, Any, PooledTraining]) -> None:
    _, _, found = pooled
    everything = found.split(range(1, 9))
    assert everything.unknown is not None
    assert not everything.unknown.any()
    half = found.split([1, 2, 3, 4])
    assert half.unknown is not None
    assert half.has_mask is not None
    assert torch.equal(half.has_mask, found.labels <= 4)
    assert torch.equal(half.targets[half.has_mask], everything.targets[half.has_mask])
    for i, target in enumerate(found.targets):
        rows = torch.where((found.image == i) & half.has_mask)[0]
        others = target.boxes[target.labels > 4]
        expected = unknown_cells(
            found.regions[rows] + HALF_PIXEL, everything.targets[rows].float(), others
        )
        assert torch.equal(half.unknown[rows], expected)
    assert half.unknown[half.has_mask].any()


@pytest.mark.parametrize("options", [{"unknown": "ignore"}, {"box_only": "taught"}])
def test_pooled_for_all_classes_is_as_pooled_for_the_split(
    tiny_recipe: str,
    tmp_path: Path,
    pooled: tuple[Any, Any, PooledTraining],
    options: dict[str, Any],
) -> None:
    """The benchmark pools once, with all masks; a training has the file of the split:
    the same targets and unknown cells.
    """
    recipe, _, _ = pooled
    document = recipe.model.mask_head.model_dump() | {"regions": "boxes"} | options
    config = recipe.model.model_copy(update={"mask_head": MaskHead.model_validate(document)})
    torch.manual_seed(0)
    model = build_mask_rcnn(config, 9).eval()
    training = World(8, tiny_recipe).pictures(tmp_path, 6, 3, test=False)
    once = pool_training(model, training, 6, 0).split([1, 2, 3, 4])
    assert once.unknown is not None
    assert once.has_mask is not None
    own = torch.ones_like(once.has_mask) if "box_only" in options else once.has_mask
    direct = []
    for i in range(6):
        image, target = training[i]
        has_mask = target.labels <= 4
        stripped = replace(target, has_mask=has_mask, masks=target.masks.select(has_mask))
        direct.append(model.mask_regions([image], [stripped]))
    for name in ("labels", "unknown", "has_mask"):
        assert torch.equal(
            torch.cat([getattr(d, name) for d in direct]), getattr(once, name)[own]
        ), name
    assert torch.equal(torch.cat([d.targets.half() for d in direct]), once.targets[own])


@pytest.mark.parametrize("variant", ["ignore", "skip", "taught"])
def test_masks_of_b_change_nothing(pooled: tuple[Any, Any, PooledTraining], variant: str) -> None:
    recipe, model, found = pooled
    head = head_settings(
        recipe.model.mask_head, {**HEADS["T(cls)"], **VARIANTS[variant]}, Path("unused")
    )
    stage = recipe.stages[1]

    def corrupted(target: Target) -> Target:
        dense = target.masks.dense()
        dense[target.labels > 4] = ~dense[target.labels > 4]
        return replace(target, masks=MaskCrops.from_dense(dense))

    weights = []
    for targets in (found.targets, [corrupted(t) for t in found.targets]):
        regions = replace(found, targets=targets).split([1, 2, 3, 4])
        train_head(model, head, stage, regions, [1, 2, 3, 4], seed=5)
        weights.append([p.detach().clone() for p in model.mask_branch.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_the_hourglass_is_narrow() -> None:
    assert HOURGLASS["trunk"] == "hourglass"
    assert 32 <= HOURGLASS["width"] <= 64
