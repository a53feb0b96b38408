"""The runs of `segmenter`: each is made once, and its measures are kept on disk."""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import halfmask as package
from benchmarks.real.command import Halfmask
from benchmarks.real.segmenter_options import (
    BASE,
    BUDGET,
    DIRECTIONS,
    FOLDS,
    INFERENCE,
    ORACLE,
    SHARE,
)
from halfmask.coco.file import CocoFile
from halfmask.data.dataset import development_split
from halfmask.errors import InputError
from halfmask.files.atomic import write_json
from halfmask.inference.images import as_tensor
from halfmask.inference.runtime.graph import shipped_boxes
from halfmask.models.checkpoint import load_checkpoint, save_checkpoint
from halfmask.recipes.recipe import expand, load_recipe

MEASURES = "A", "B", "all"
SINCE = "boundary", "ms"
"""Boundary IoU on B in percent and milliseconds a mask: older measures lack them."""


class Job(NamedTuple):
    option: str
    masked: str
    seed: int


ROUNDS = 3
Timed = Callable[[Path], float]
"""Run → milliseconds a mask."""


class Store:
    """Measures on disk, each with a digest of its run's recipe, written one by one.
    `benchmarks/results/segmenter.json` holds the same list: copied to OUT/measures.json
    it spares another machine the runs that are published.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.measures: list[dict[str, Any]] = []
        if path.is_file():
            self.measures = json.loads(path.read_text(encoding="utf-8"))["measures"]

    def find(self, recipe: str) -> dict[str, float] | None:
        for measure in self.measures:
            if measure["recipe"] == recipe:
                known = [name for name in (*MEASURES, *SINCE) if name in measure]
                return {name: measure[name] for name in known}
        return None

    def add(self, measure: dict[str, Any]) -> None:
        # Another process may work on other seeds in the same folder.
        beside = Store(self._path).measures
        known = [m["recipe"] for m in self.measures]
        self.measures += [m for m in beside if m["recipe"] not in known] + [measure]
        write_json(self._path, {"measures": self.measures}, indent=1)


def arguments_of(job: Job, overrides: list[str]) -> list[str]:
    """Of `halfmask train`."""
    fold = f"data.development_fold={job.seed % FOLDS}"
    return [DIRECTIONS[job.masked], f"seed={job.seed}", *BUDGET, fold, *overrides]


def digest(arguments: list[str]) -> str:
    """Of what the recipe that `train` makes of its arguments says beyond the defaults:
    a shipped recipe may change, and old measures are not its; a key that is new and off
    changes nothing.
    """
    said = load_recipe(arguments[0], arguments[1:]).model_dump(mode="json", exclude_defaults=True)
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]


def measured(
    job: Job, arguments: list[str], out: Path, *, halfmask: Halfmask, timed: Timed
) -> dict[str, float]:
    """IoU in percent of the held-out objects, of B, of A and of all; and `SINCE`."""
    folder, base = (_folder(one, out) for one in (job, job._replace(option=BASE)))
    _keeparguments_of(folder, arguments)
    own = folder / "run"
    if not (own / "model.safetensors").is_file():
        if _inference_alone(arguments) and (base / "run" / "model.safetensors").is_file():
            _restate(base / "run", own, arguments)
        else:
            halfmask(["train", *arguments, "--out", str(own), "--resume"])
    # The oracle's own report calls every class masked, and a restated model has none.
    if ORACLE[0] in arguments or not (own / "metrics.json").is_file():
        scores = _evaluated(job, folder, halfmask)
    else:
        scores = json.loads((folder / "run" / "metrics.json").read_text(encoding="utf-8"))[-1]
    found = {name: 100 * scores["given_boxes"][name]["miou"] for name in MEASURES}
    border = scores["given_boxes"]["B"]["boundary"]["miou"]
    return found | {"boundary": 100 * border, "ms": timed(own)}


def _folder(job: Job, out: Path) -> Path:
    slug = "".join(c if c.isalnum() else "-" for c in job.option)
    return out / f"seed-{job.seed}" / job.masked / slug


def _inference_alone(arguments: list[str]) -> bool:
    """Whether a run differs from the base's in what training has no use for: it would
    give the same weights.
    """
    own = [
        a for a in arguments[2:] if a not in BUDGET and not a.startswith("data.development_fold=")
    ]
    return bool(own) and all(a.split("=")[0] in INFERENCE for a in own)


def _restate(base: Path, own: Path, arguments: list[str]) -> None:
    """The base's model with the recipe that `arguments` name."""
    recipe = load_recipe(arguments[0], arguments[1:])
    save_checkpoint(
        own / "model.safetensors",
        replace(load_checkpoint(base / "model.safetensors"), recipe=recipe),
    )


def _evaluated(job: Job, folder: Path, halfmask: Halfmask) -> dict[str, Any]:
    """`evaluate`'s result on the held-out fold, with the direction's own A and B."""
    result = folder / "evaluation.json"
    if not result.is_file():
        source = expand("${HALFMASK_SHARED}/data/coco-mini")
        file = CocoFile.read(source / "instances_train.json")
        held = set(development_split([i["id"] for i in file.images], SHARE, job.seed % FOLDS)[1])
        truth = folder / "held_out.json"
        write_json(truth, file.part(held).document)
        arguments = [
            "evaluate",
            str(folder / "run"),
            str(truth),
            "--images",
            str(source / "train"),
            "--masked",
            job.masked,
        ]
        halfmask([*arguments, "--given-boxes", "--json", str(result)])
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return found


def _keeparguments_of(folder: Path, arguments: list[str]) -> None:
    """A run of other settings in the folder would be taken for this one."""
    path, own = folder / "arguments.json", {"arguments": arguments, "recipe": digest(arguments)}
    if not path.is_file():
        write_json(path, own)
    kept = json.loads(path.read_text(encoding="utf-8"))
    if kept != own:
        raise InputError(
            f"{path}: its run was made with {kept}, now {own}; name another folder with --out"
        )


def ms_per_mask(run: Path) -> float:
    """Returns milliseconds of processor time a mask, with the looks of the recipe.

    The median of three rounds over the boxes of the shipped photographs, in PyTorch.
    """
    model = package.load(run)
    photographs = [(as_tensor(path), boxes) for path, boxes in shipped_boxes()]
    masks, rounds = sum(len(boxes) for _, boxes in photographs), []
    for _ in range(1 + ROUNDS):
        begin = time.process_time()
        for image, boxes in photographs:
            model.segment(image, boxes)
        rounds.append(time.process_time() - begin)
    return 1000 * statistics.median(rounds[1:]) / masks  # the first round warms up
