"""Mask heads under partial supervision, over seeds and splits: what `python -m
benchmarks world` and `bench table1` run.

Boxes of all classes train one detector a seed; it serves every split. Each mask head
then learns from the masks of A on its features and is measured on pictures of seeds
that no training has seen. What is in the run folder already is not done again.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from benchmarks.paper.detectors import Say, trained_detector, training_seconds
from benchmarks.paper.end_to_end import END_TO_END, train_end_to_end
from benchmarks.paper.region_heads import (
    HEADS,
    PooledTest,
    PooledTraining,
    head_settings,
    measure_head,
    pool_test,
    pool_training,
    set_regions,
    train_head,
)
from benchmarks.paper.sources import Source
from benchmarks.paper.world_table import ORACLE, Measure
from halfmask.data.dataset import CocoInstances
from halfmask.errors import InputError
from halfmask.files.atomic import write_json
from halfmask.models.mask_rcnn.model import PartialMaskRCNN
from halfmask.recipes.recipe import MaskHead, MaskRCNN, Recipe, load_recipe


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
        seeds: of the detectors, each with pictures of its own; runs of other seeds in
            the same folder may go on at the same time.
        train_images, mask_images, test_images: pictures for the detector, the first of
            them for the mask heads, and for the test.
        heads: what each stage-wise head of the jobs changes in the recipe's.
        on_all: heads that learn from the masks of all classes, once a seed, whatever
            the split.
    """

    source: Source
    jobs: tuple[Job, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    train_images: int = 3000
    mask_images: int = 800
    test_images: int = 200
    heads: Mapping[str, dict[str, Any]] = field(default_factory=lambda: HEADS)
    on_all: frozenset[str] = frozenset({ORACLE})


def run_plan(plan: Plan, out: Path, say: Say = print) -> list[Measure]:
    """Runs or resumes the experiment; returns the measures of its jobs.

    Args:
        out: run folder; gets a folder for each seed: pictures, detector, measures.json.
        say: called with each line of progress.
    Raises:
        InputError: the folder holds another plan's run, or a job names an unknown head.
    """
    recipe = load_recipe(plan.source.recipe)
    assert isinstance(recipe.model, MaskRCNN), recipe.model.kind
    known = [*plan.heads, *END_TO_END]
    unknown = [job.head for job in plan.jobs if job.head not in known]
    if unknown:
        raise InputError(f"bench: no head {unknown[0]}; there are {', '.join(known)}")
    # What decides the numbers; seeds and jobs may grow from run to run.
    document = {
        "source": plan.source.name,
        "classes": plan.source.classes,
        "recipe": recipe.model_dump(mode="json"),
    }
    document |= {
        name: getattr(plan, name) for name in ("train_images", "mask_images", "test_images")
    }
    measures: list[Measure] = []
    for seed in plan.seeds:
        folder = out / f"seed-{seed}"
        store = _Store(folder / "measures.json", document)
        jobs = [job for job in plan.jobs if not store.has(job)]
        if jobs:
            _Seed(plan, recipe, seed, folder, say).run(
                sorted(jobs, key=partial(_order, plan)), store
            )
        measures += [
            m for m in store.measures if Job(m["masked"], m["split"], m["head"]) in plan.jobs
        ]
    return measures


def _order(plan: Plan, job: Job) -> tuple[bool, bool, str]:
    """Heads that learn the same whatever the split first, each one's splits in a row:
    it then learns once.
    """
    on_all = job.head in plan.on_all
    return job.head in END_TO_END, not on_all, job.head if on_all else ""


class _Store:
    """Measures of one seed on disk, written after each head."""

    def __init__(self, path: Path, plan: dict[str, Any]) -> None:
        self.path = path
        self._plan = json.loads(json.dumps(plan))
        self.measures: list[Measure] = []
        if path.is_file():
            document = json.loads(path.read_text(encoding="utf-8"))
            if not _same_plan(document["plan"], self._plan):
                raise InputError(
                    f"{path}: holds measures of another plan or recipe; name another folder "
                    "with --out"
                )
            self.measures = document["measures"]

    def has(self, job: Job) -> bool:
        return any((m["masked"], m["split"], m["head"]) == job for m in self.measures)

    def add(self, measure: Measure) -> None:
        self.measures.append(measure)
        write_json(self.path, {"plan": self._plan, "measures": self.measures}, indent=1)


def _same_plan(stored: dict[str, Any], plan: dict[str, Any]) -> bool:
    """Recipes are compared as what they say: a key that came later, at its default, is
    no other plan.
    """
    if {key: value for key, value in stored.items() if key != "recipe"} != {
        key: value for key, value in plan.items() if key != "recipe"
    }:
        return False
    try:
        return Recipe.model_validate(stored["recipe"]) == Recipe.model_validate(plan["recipe"])
    except (KeyError, ValidationError):
        return False


@dataclass
class _Seed:
    """The jobs of one seed, on its pictures and its detector."""

    plan: Plan
    recipe: Recipe
    seed: int
    folder: Path
    say: Say
    _training: dict[tuple[Any, ...], PooledTraining] = field(default_factory=dict)
    _test: dict[int, PooledTest] = field(default_factory=dict)
    _learnt: tuple[str, float] | None = None
    _spent: dict[str, Any] = field(default_factory=dict)

    def run(self, jobs: list[Job], store: _Store) -> None:
        source = self.plan.source
        training = source.pictures(
            self.folder / "train", self.plan.train_images, self.seed, test=False
        )
        test = source.pictures(self.folder / "test", self.plan.test_images, self.seed, test=True)
        model = trained_detector(self.recipe, self.seed, training, self.folder, self.say)
        self._spent = {"detector_cpu_seconds": training_seconds(self.folder)}
        for job in jobs:
            start = time.perf_counter()
            in_a = source.split(training.file, job.masked, job.split, self.seed)
            if job.head in END_TO_END:
                result = self._end_to_end(job, training, test, in_a)
            else:
                result = self._stage_wise(job, model, training, test, in_a)
            measure = result | {"seed": self.seed, **job._asdict(), **self._spent}
            store.add(measure)
            self._report(measure, time.perf_counter() - start)

    def _stage_wise(
        self,
        job: Job,
        model: PartialMaskRCNN,
        training: CocoInstances,
        test: CocoInstances,
        in_a: set[int],
    ) -> Measure:
        assert isinstance(self.recipe.model, MaskRCNN)
        names = self.plan.source.name_vectors(training.file, self.folder)
        settings = head_settings(self.recipe.model.mask_head, self.plan.heads[job.head], names)
        on_all = job.head in self.plan.on_all
        if on_all and self._learnt is not None and self._learnt[0] == job.head:
            loss = self._learnt[1]
        else:
            label_of = training.file.label_of
            labels = set(label_of.values()) if on_all else {label_of[i] for i in in_a}
            stage = next(stage for stage in self.recipe.stages if stage.loss == "masks")
            regions = self._pooled(model, settings, training).split(labels)
            loss = train_head(model, settings, stage, regions, labels, 100 * self.seed + job.split)
            self._learnt = (job.head, loss)
        return _measure(measure_head(model, self._pooled_test(model, settings, test), in_a), loss)

    def _pooled(
        self, model: PartialMaskRCNN, head: MaskHead, training: CocoInstances
    ) -> PooledTraining:
        key = head.roi_size, head.regions, head.region_jitter
        if key not in self._training:
            assert isinstance(self.recipe.model, MaskRCNN)
            set_regions(model, self.recipe.model, head)
            self._training[key] = pool_training(model, training, self.plan.mask_images, self.seed)
        return self._training[key]

    def _pooled_test(
        self, model: PartialMaskRCNN, head: MaskHead, test: CocoInstances
    ) -> PooledTest:
        if head.roi_size not in self._test:
            assert isinstance(self.recipe.model, MaskRCNN)
            set_regions(model, self.recipe.model, head)
            self._test[head.roi_size] = pool_test(model, test)
        return self._test[head.roi_size]

    def _end_to_end(
        self, job: Job, training: CocoInstances, test: CocoInstances, in_a: set[int]
    ) -> Measure:
        folder = (
            self.folder / f"end-to-end-{job.masked}-{job.split}-{list(END_TO_END).index(job.head)}"
        )
        recipe = self.recipe.model_copy(update={"seed": 100 * self.seed + job.split})
        model, loss = train_end_to_end(
            recipe, job.head, self.folder / "detector.safetensors", training, in_a, folder
        )
        measure = _measure(measure_head(model, pool_test(model, test), in_a), loss)
        shutil.rmtree(folder)
        return measure

    def _report(self, m: Measure, seconds: float) -> None:
        iou, ap = m["iou"], m["mask_AP"]
        self.say(
            f"seed {self.seed} |A| {m['masked']} split {m['split']} {m['head']}: box AP "
            f"{m['box_AP']:.1f}, mask AP A {ap['A']:.1f} "
            f"B {ap['B']:.1f}, IoU A {iou['A']:.3f} B {iou['B']:.3f}, loss {m['loss']:.3f} "
            f"({seconds:.0f} s)"
        )


def _measure(result: dict[str, Any], loss: float) -> Measure:
    return {
        "box_AP": result["box"]["all"]["AP"],
        "mask_AP": {name: result["mask"][name]["AP"] for name in ("all", "A", "B")},
        "iou": {name: result["given_boxes"][name]["miou"] for name in ("all", "A", "B")},
        "loss": loss,
    }
