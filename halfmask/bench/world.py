"""`halfmask bench world`: partial supervision on the procedural world, over seeds and random splits into A and B.

Boxes of all classes train one detector a seed; it serves every split. Each mask head then learns from the masks of A on its features and
is measured on pictures of seeds that no training has seen. What is in the run folder already is not done again.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from halfmask.bench.world_detector import TEST_SEEDS, Say, trained_detector, training_seconds, world_images
from halfmask.bench.world_heads import HEADS, Pooled, head_settings, measure_head, pool_regions, train_head
from halfmask.bench.world_table import AGNOSTIC, ORACLE, Measure, bench_rows, markdown
from halfmask.coco.write import write_json
from halfmask.config import MaskRCNN, Recipe, load_recipe
from halfmask.data.world_classes import DEFAULT_CLASSES, attribute_split
from halfmask.errors import InputError
from halfmask.models.rcnn import PartialMaskRCNN

__all__ = ["HEADS", "Plan", "bench_rows", "markdown", "run_world"]


@dataclass(frozen=True)
class Plan:
    """What is run.

    Attributes:
        seeds: detectors, each on a world of its own.
        first_seed: the first of them; runs of other seeds in the same folder may go on at the same time.
        splits: random A/B splits of each seed, for each size of A.
        masked: sizes of A.
        heads: names of HEADS; class-agnostic and oracle always run, the others are held against them. At the first size of A all of them
            run, at the others the recipe's own input.
        train_images, mask_images, test_images: pictures for the detector, the first of them for the mask heads, and for the test.
        classes: of the world.
        recipe: what trains the detector and the heads.
    """

    seeds: int = 3
    first_seed: int = 0
    splits: int = 3
    masked: tuple[int, ...] = (DEFAULT_CLASSES // 2, DEFAULT_CLASSES * 3 // 4)
    heads: tuple[str, ...] = tuple(HEADS)
    train_images: int = 3000
    mask_images: int = 800
    test_images: int = 200
    classes: int = DEFAULT_CLASSES
    recipe: str = "world_transfer"


def run_world(plan: Plan, out: Path, say: Say = print) -> list[Measure]:
    """Runs or resumes the benchmark.

    Args:
        out: run folder; gets a folder for each seed: worlds, detector, measures.json.
        say: told what is done, line by line.
    Raises:
        InputError: the folder holds another plan's run.
    """
    recipe = load_recipe(plan.recipe)
    heads = list(dict.fromkeys([AGNOSTIC, *plan.heads, ORACLE]))
    unknown = [h for h in heads if h not in HEADS]
    if unknown:
        raise InputError(f"bench world: no head {unknown[0]}; there are {', '.join(HEADS)}")
    assert isinstance(recipe.model, MaskRCNN), recipe.model.kind
    own = f"T({recipe.model.mask_head.transfer.input})"
    plan_document = {**asdict(plan), "stages": [s.model_dump(mode="json") for s in recipe.stages]}
    measures: list[Measure] = []
    for seed in range(plan.first_seed, plan.first_seed + plan.seeds):
        folder = out / f"seed-{seed}"
        store = _Store(folder / "measures.json", plan_document)
        wanted = [
            (masked, split, head)
            for masked in plan.masked
            for split in range(plan.splits)
            for head in (heads if masked == plan.masked[0] else [h for h in heads if h in (AGNOSTIC, own, ORACLE)])
        ]
        jobs = [job for job in wanted if not store.has(*job)]
        if jobs:
            _run_seed(plan, recipe, seed, jobs, folder, store, say)
        measures += [m for m in store.measures if (m["masked"], m["split"], m["head"]) in wanted]
    return measures


class _Store:
    """Measures of one seed on disk, written after each head."""

    def __init__(self, path: Path, plan: dict[str, Any]) -> None:
        self.path = path
        # These may grow from run to run; the rest decides the numbers.
        fixed = {k: v for k, v in plan.items() if k not in ("seeds", "first_seed", "splits", "masked", "heads")}
        self._plan = json.loads(json.dumps(fixed))
        self.measures: list[Measure] = []
        if path.is_file():
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["plan"] != self._plan:
                raise InputError(f"{path}: holds measures of another plan or recipe; name another folder with --out")
            self.measures = document["measures"]

    def has(self, masked: int, split: int, head: str) -> bool:
        return any((m["masked"], m["split"], m["head"]) == (masked, split, head) for m in self.measures)

    def add(self, measure: Measure) -> None:
        self.measures.append(measure)
        write_json(self.path, {"plan": self._plan, "measures": self.measures}, indent=1)


def _run_seed(
    plan: Plan, recipe: Recipe, seed: int, jobs: list[tuple[int, int, str]], folder: Path, store: _Store, say: Say
) -> None:
    training = world_images(folder / "train", plan.train_images, seed, plan.classes)
    test = world_images(folder / "test", plan.test_images, TEST_SEEDS + seed, plan.classes)
    model = trained_detector(recipe, seed, training, folder, say)
    start = time.perf_counter()
    pooled = pool_regions(model, training, plan.mask_images, test, seed)
    say(f"seed {seed}: {len(pooled.training.labels)} regions pooled in {time.perf_counter() - start:.0f} s")
    oracle: tuple[float, float] | None = None  # the oracle learns the same whatever the split: trained once a seed
    for masked, split, head in sorted(jobs, key=lambda job: job[2] != ORACLE):
        start = time.perf_counter()
        in_a = attribute_split(training.file.categories, masked, 1000 * seed + split)
        if head != ORACLE or oracle is None:
            loss = _train(model, recipe, head, pooled, in_a, seed, split)
            oracle = (loss, 0.0) if head == ORACLE else oracle
        result = measure_head(model, pooled, in_a)
        measure = _measure(result, loss) | {"seed": seed, "masked": masked, "split": split, "head": head}
        measure["detector_cpu_seconds"] = training_seconds(folder)
        store.add(measure)
        iou, ap = measure["iou"], measure["mask_AP"]
        say(
            f"seed {seed} |A| {masked} split {split} {head}: box AP {measure['box_AP']:.1f}, mask AP A {ap['A']:.1f} B {ap['B']:.1f}, "
            f"IoU A {iou['A']:.3f} B {iou['B']:.3f}, loss {loss:.3f} ({time.perf_counter() - start:.0f} s)"
        )


def _train(
    model: PartialMaskRCNN, recipe: Recipe, head: str, pooled: Pooled, in_a: set[int], seed: int, split: int
) -> float:
    assert isinstance(recipe.model, MaskRCNN)
    stage = next(stage for stage in recipe.stages if stage.loss == "masks")
    label_of = pooled.test.file.label_of
    labels = set(label_of.values()) if head == ORACLE else {label_of[i] for i in in_a}
    settings = head_settings(recipe.model.mask_head, head)
    return train_head(model, settings, stage, pooled.training, labels, 100 * seed + split)


def _measure(result: dict[str, Any], loss: float) -> Measure:
    return {
        "box_AP": result["box"]["all"]["AP"],
        "mask_AP": {name: result["mask"][name]["AP"] for name in ("all", "A", "B")},
        "iou": {name: result["given_boxes"][name]["miou"] for name in ("all", "A", "B")},
        "loss": loss,
    }
