"""`python -m benchmarks two-stages`: a detector and a box segmenter in its boxes,
beside region heads on the same detector, on the world.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.paper.detectors import trained_detector
from benchmarks.paper.experiment import Job, Plan, run_plan
from benchmarks.paper.heads import matrix
from benchmarks.paper.sources import World
from benchmarks.paper.table1_page import spread
from benchmarks.paper.world import own_head
from benchmarks.real.command import Halfmask, run_halfmask
from benchmarks.result import Options, Result, Row
from halfmask.files.atomic import write_json
from halfmask.models.checkpoint import Checkpoint, save_checkpoint
from halfmask.recipes.recipe import load_recipe

RECIPE = "world_box_segmenter"
NAMES = "class names"
WAYS: dict[str, list[str]] = {
    "box segmenter, class-agnostic": [],
    f"box segmenter, {NAMES}": ["model.condition.input=embedding", "model.condition.input_norm=1"],
}
"""What the box segmenter is told of a class; the file of the names' vectors comes with
the pictures.
"""
REGION_HEADS = ("class-agnostic, ignore", "T(names)", "T(names), taught")
SETS = ("A", "B")


class Measure(NamedTuple):
    """In percent, by set of classes; `given`: mask IoU in the truth's boxes."""

    mask: dict[str, float]
    box: dict[str, float]
    given: dict[str, float]


def run(options: Options, halfmask: Halfmask = run_halfmask, plan: Plan | None = None) -> Result:
    """Trains what is missing; a run folder of `bench heads` can be gone on with.

    Args:
        plan: pictures; its jobs are not looked at.
    Raises:
        InputError: the folder holds another plan's run, or a run fails.
    """
    plan = plan or Plan(World(), ())
    seeds = tuple(range(options.first_seed, options.first_seed + options.seeds))
    jobs = tuple(
        Job(plan.source.main_size, k, head) for k in range(options.splits) for head in REGION_HEADS
    )
    heads = {
        name: change
        for name, change in matrix(own_head(plan.source)).items()
        if name in REGION_HEADS
    }
    plan = Plan(
        plan.source, jobs, seeds, plan.train_images, plan.mask_images, plan.test_images, heads
    )
    regions = run_plan(plan, options.out, options.say)
    found: dict[str, list[Measure]] = {way: [] for way in WAYS}
    for seed in seeds:
        for split in range(options.splits):
            for way in WAYS:
                measure = _measured(way, plan, seed, split, options.out / f"seed-{seed}", halfmask)
                found[way].append(measure)
                options.say(
                    f"{way}, seed {seed} split {split}: mask AP A {measure.mask['A']:.1f} B "
                    f"{measure.mask['B']:.1f}"
                )
    boxes = {
        (seed, split): m
        for (seed, split), m in zip(_runs(plan), next(iter(found.values())), strict=True)
    }
    rows = {
        head: [_of_region(m, boxes[m["seed"], m["split"]]) for m in regions if m["head"] == head]
        for head in REGION_HEADS
    }
    rows |= found
    command = f"python -m benchmarks two-stages --seeds {options.seeds} --splits {options.splits} --first-seed {options.first_seed}"
    details = {
        "measures": {name: [m._asdict() for m in measures] for name, measures in rows.items()}
    }
    return Result(_rows(rows), {"two-stages": _table(rows)}, command, details)


def _runs(plan: Plan) -> list[tuple[int, int]]:
    return [
        (seed, split) for seed in plan.seeds for split in sorted({job.split for job in plan.jobs})
    ]


def _of_region(measure: dict[str, Any], in_its_boxes: Measure) -> Measure:
    """A region head's measure; its boxes are the detector's own, so their AP is that of
    the box segmenter's boxes.
    """
    return Measure(
        measure["mask_AP"], in_its_boxes.box, {name: 100 * measure["iou"][name] for name in SETS}
    )


def _measured(
    way: str, plan: Plan, seed: int, split: int, folder: Path, halfmask: Halfmask
) -> Measure:
    own = folder / "two-stages" / f"{split}-{list(WAYS).index(way)}"
    own.mkdir(parents=True, exist_ok=True)
    test, result = folder / "test", own / "evaluation.json"
    data, masked = _data(plan, seed, split, folder)
    names = [f"model.condition.embedding={folder / 'names.npy'}"] if NAMES in way else []
    halfmask(
        [
            "train",
            RECIPE,
            f"seed={seed}",
            *data,
            *WAYS[way],
            *names,
            "--out",
            str(own / "run"),
            "--resume",
        ]
    )
    if not result.is_file():
        truth = [
            str(test / "instances.json"),
            "--images",
            str(test / "images"),
            "--masked",
            masked,
            "--given-boxes",
        ]
        boxes = ["--detector", str(_detector(plan, seed, folder))]
        halfmask(["evaluate", str(own / "run"), *truth, *boxes, "--json", str(result)])
    blocks = json.loads(result.read_text(encoding="utf-8"))
    mask, box = (
        {name: blocks[what][name]["AP"] or 0.0 for name in SETS} for what in ("mask", "box")
    )
    return Measure(mask, box, {name: 100 * blocks["given_boxes"][name]["miou"] for name in SETS})


def _data(plan: Plan, seed: int, split: int, folder: Path) -> tuple[list[str], str]:
    """Overrides for the pictures that the region heads learn from, and set A by its names."""
    training = plan.source.pictures(folder / "train", plan.train_images, seed, test=False)
    in_a = plan.source.split(training.file, plan.source.main_size, split, seed)
    masked = ",".join(
        category["name"] for category in training.file.categories if category["id"] in in_a
    )
    file = folder / "two-stages" / "mask_pictures.json"
    if not file.is_file():
        document = json.loads((folder / "train" / "instances.json").read_text(encoding="utf-8"))
        images = document["images"][: plan.mask_images]
        ids = {image["id"] for image in images}
        rows = [row for row in document["annotations"] if row["image_id"] in ids]
        write_json(file, document | {"images": images, "annotations": rows})
    return [
        f"data.annotations={file}",
        f"data.images={folder / 'train' / 'images'}",
        f"data.masked={masked}",
    ], masked


def _detector(plan: Plan, seed: int, folder: Path) -> Path:
    """The seed's detector as a checkpoint that `evaluate` takes; its mask head is
    untrained and not asked.
    """
    path = folder / "two-stages" / "detector.safetensors"
    if not path.is_file():
        recipe = load_recipe(plan.source.recipe)
        training = plan.source.pictures(folder / "train", plan.train_images, seed, test=False)
        model = trained_detector(recipe, seed, training, folder, lambda _: None)
        categories: Any = [{"id": c["id"], "name": c["name"]} for c in training.file.categories]
        save_checkpoint(
            path,
            Checkpoint(
                state=model.state_dict(),
                recipe=recipe,
                categories=categories,
                masked=[],
                mask_counts={},
            ),
        )
    return path


def _table(rows: dict[str, list[Measure]]) -> str:
    columns = [
        "mask AP, B",
        "mask AP, A",
        "box AP, B",
        "box AP, A",
        "mask AP / box AP, B",
        "A",
        "mask IoU in given boxes, B",
        "A",
    ]
    lines = [f"| masks by | {' | '.join(columns)} | runs |", "|" + "---|" * (len(columns) + 2)]
    for name, found in rows.items():
        cells = [
            spread([getattr(m, what)[s] for m in found], 1)
            for what in ("mask", "box")
            for s in "BA"
        ]
        cells += [
            spread([m.mask[s] / m.box[s] for m in found if m.box[s]] or [0.0], 2) for s in "BA"
        ]
        cells += [spread([m.given[s] for m in found], 1) for s in "BA"]
        lines.append(f"| {' | '.join([name, *cells, str(len(found))])} |")
    return "\n".join(lines)


def _rows(rows: dict[str, list[Measure]]) -> list[Row]:
    means = {name: _mean([m.mask["B"] for m in found]) for name, found in rows.items()}
    peer = REGION_HEADS[-1]
    return [
        {
            "name": f"mask AP on B, {name}",
            "peer": peer,
            "peer_value": means[peer],
            "value": value,
            "unit": "%",
            "ratio": value / means[peer] if means[peer] else None,
            "bar": None,
            "ok": None,
        }
        for name, value in means.items()
    ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
