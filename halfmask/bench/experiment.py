"""Mask heads under partial supervision, over seeds and splits: what `halfmask bench world` and `bench table1` run.

Boxes of all classes train one detector a seed; it serves every split. Each mask head then learns from the masks of A on its features and
is measured on pictures of seeds that no training has seen. What is in the run folder already is not done again.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from halfmask.bench.detectors import Say, trained_detector, training_seconds
from halfmask.bench.end_to_end import END_TO_END, train_end_to_end
from halfmask.bench.region_heads import (
    HEADS,
    PooledTest,
    head_settings,
    measure_head,
    pool_test,
    pool_training,
    train_head,
)
from halfmask.bench.sources import Source
from halfmask.bench.world_table import ORACLE, Measure
from halfmask.coco.write import write_json
from halfmask.config import MaskRCNN, Recipe, load_recipe
from halfmask.data.dataset import CocoInstances
from halfmask.errors import InputError
from halfmask.models.rcnn import PartialMaskRCNN
from halfmask.models.regions import MaskRegions


class Job(NamedTuple):
    """One head on one split."""

    masked: int
    split: int
    head: str


@dataclass(frozen=True)
class Plan:
    """What is run.

    Attributes:
        source: of the pictures.
        jobs: run for each seed.
        seeds: of the detectors, each with pictures of its own; runs of other seeds in the same folder may go on at the same time.
        train_images, mask_images, test_images: pictures for the detector, the first of them for the mask heads, and for the test.
    """

    source: Source
    jobs: tuple[Job, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    train_images: int = 3000
    mask_images: int = 800
    test_images: int = 200


def run_plan(plan: Plan, out: Path, say: Say = print) -> list[Measure]:
    """Runs or resumes the experiment; returns the measures of its jobs.

    Args:
        out: run folder; gets a folder for each seed: pictures, detector, measures.json.
        say: told what is done, line by line.
    Raises:
        InputError: the folder holds another plan's run, or a job names an unknown head.
    """
    recipe = load_recipe(plan.source.recipe)
    assert isinstance(recipe.model, MaskRCNN), recipe.model.kind
    known = [*HEADS, *END_TO_END]
    unknown = [job.head for job in plan.jobs if job.head not in known]
    if unknown:
        raise InputError(f"bench: no head {unknown[0]}; there are {', '.join(known)}")
    # What decides the numbers; seeds and jobs may grow from run to run.
    document = {"source": plan.source.name, "classes": plan.source.classes, "recipe": recipe.model_dump(mode="json")}
    document |= {name: getattr(plan, name) for name in ("train_images", "mask_images", "test_images")}
    measures: list[Measure] = []
    for seed in plan.seeds:
        folder = out / f"seed-{seed}"
        store = _Store(folder / "measures.json", document)
        jobs = [job for job in plan.jobs if not store.has(job)]
        if jobs:
            # The oracle first: it learns the same whatever the split, once a seed.
            ordered = sorted(jobs, key=lambda job: (job.head in END_TO_END, job.head != ORACLE))
            _Seed(plan, recipe, seed, folder, say).run(ordered, store)
        measures += [m for m in store.measures if Job(m["masked"], m["split"], m["head"]) in plan.jobs]
    return measures


class _Store:
    """Measures of one seed on disk, written after each head."""

    def __init__(self, path: Path, plan: dict[str, Any]) -> None:
        self.path = path
        self._plan = json.loads(json.dumps(plan))
        self.measures: list[Measure] = []
        if path.is_file():
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["plan"] != self._plan:
                raise InputError(f"{path}: holds measures of another plan or recipe; name another folder with --out")
            self.measures = document["measures"]

    def has(self, job: Job) -> bool:
        return any((m["masked"], m["split"], m["head"]) == job for m in self.measures)

    def add(self, measure: Measure) -> None:
        self.measures.append(measure)
        write_json(self.path, {"plan": self._plan, "measures": self.measures}, indent=1)


@dataclass
class _Seed:
    """The jobs of one seed, on its pictures and its detector."""

    plan: Plan
    recipe: Recipe
    seed: int
    folder: Path
    say: Say
    _regions: MaskRegions | None = None
    _oracle: float | None = None
    _spent: dict[str, Any] = field(default_factory=dict)

    def run(self, jobs: list[Job], store: _Store) -> None:
        source = self.plan.source
        training = source.pictures(self.folder / "train", self.plan.train_images, self.seed, test=False)
        test = source.pictures(self.folder / "test", self.plan.test_images, self.seed, test=True)
        model = trained_detector(self.recipe, self.seed, training, self.folder, self.say)
        self._spent = {"detector_cpu_seconds": training_seconds(self.folder)}
        pooled = pool_test(model, test)
        for job in jobs:
            start = time.perf_counter()
            in_a = source.split(training.file, job.masked, job.split, self.seed)
            if job.head in END_TO_END:
                result = self._end_to_end(job, training, test, in_a)
            else:
                result = self._stage_wise(job, model, training, pooled, in_a)
            measure = result | {"seed": self.seed, **job._asdict(), **self._spent}
            store.add(measure)
            self._report(measure, time.perf_counter() - start)

    def _stage_wise(
        self, job: Job, model: PartialMaskRCNN, training: CocoInstances, pooled: PooledTest, in_a: set[int]
    ) -> Measure:
        if self._regions is None:
            self._regions = pool_training(model, training, self.plan.mask_images, self.seed)
        assert isinstance(self.recipe.model, MaskRCNN)
        if job.head != ORACLE or self._oracle is None:
            label_of = training.file.label_of
            labels = set(label_of.values()) if job.head == ORACLE else {label_of[i] for i in in_a}
            stage = next(stage for stage in self.recipe.stages if stage.loss == "masks")
            settings = head_settings(self.recipe.model.mask_head, job.head, self._names(training))
            loss = train_head(model, settings, stage, self._regions, labels, 100 * self.seed + job.split)
            self._oracle = loss if job.head == ORACLE else None
        else:
            loss = self._oracle
        return _measure(measure_head(model, pooled, in_a), loss)

    def _names(self, training: CocoInstances) -> Path:
        return self.plan.source.name_vectors(training.file, self.folder)

    def _end_to_end(self, job: Job, training: CocoInstances, test: CocoInstances, in_a: set[int]) -> Measure:
        folder = self.folder / f"end-to-end-{job.masked}-{job.split}-{list(END_TO_END).index(job.head)}"
        recipe = self.recipe.model_copy(update={"seed": 100 * self.seed + job.split})
        model, loss = train_end_to_end(recipe, job.head, self.folder / "detector.safetensors", training, in_a, folder)
        measure = _measure(measure_head(model, pool_test(model, test), in_a), loss)
        shutil.rmtree(folder)
        return measure

    def _report(self, m: Measure, seconds: float) -> None:
        iou, ap = m["iou"], m["mask_AP"]
        self.say(
            f"seed {self.seed} |A| {m['masked']} split {m['split']} {m['head']}: box AP {m['box_AP']:.1f}, mask AP A {ap['A']:.1f} "
            f"B {ap['B']:.1f}, IoU A {iou['A']:.3f} B {iou['B']:.3f}, loss {m['loss']:.3f} ({seconds:.0f} s)"
        )


def _measure(result: dict[str, Any], loss: float) -> Measure:
    return {
        "box_AP": result["box"]["all"]["AP"],
        "mask_AP": {name: result["mask"][name]["AP"] for name in ("all", "A", "B")},
        "iou": {name: result["given_boxes"][name]["miou"] for name in ("all", "A", "B")},
        "loss": loss,
    }
