"""The box segmenter's options one at a time, on folds of COCO-mini's training
photographs, in both directions.

Every run is a `halfmask train` of its own with a short budget; what is measured is the
mask IoU on the given boxes of the held-out fold's objects, B's and A's. `val` is not
touched.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.paper.table1_page import T_95, Difference, spread
from benchmarks.result import Options, Result, Row
from halfmask.coco.file import CocoFile
from halfmask.data.dataset import development_split
from halfmask.errors import InputError
from halfmask.files.atomic import write_json
from halfmask.recipes.recipe import expand, load_recipe

DIRECTIONS = {
    "voc": "coco_mini_voc2nonvoc_box_segmenter",
    "nonvoc": "coco_mini_nonvoc2voc_box_segmenter",
}
"""Masked classes → the recipe."""
FOLDS = 3
SHARE = 0.333
BUDGET = [
    "stages.0.steps=300",
    "stages.0.ema=0.98",
    "rounds=1",
    f"data.development={SHARE}",
    "model.zooms=[]",
]
"""What every run has: 300 steps of one round, weights averaged over the last fifty or
so, and each box read in one context, mirrored too. About two minutes on one free core.
"""
BASE = "the recipe"
FROM_BOXES = "model.from_boxes"
ORACLE = ["data.masked=null"]
OPTIONS: dict[str, list[str]] = {
    BASE: [],
    "crops of 128 px": ["model.crop_size=128"],
    "context 0.12": ["model.context=0.12"],
    "wider decoder": ["model.decoder_widths=[192, 96, 64, 48]"],
    "BatchNorm learns": ["model.encoder.norm=batch"],
    "loose boxes too": ["model.box_jitter=0.12", "model.box_reach=0.12"],
    "hourglass decoder": ["model.decoder=hourglass", "model.decoder_widths=[32]"],
    "crop jitter 0.25": ["model.crop_jitter=0.25"],
    "no rotation": ["data.rotation=0"],
    "rotation 15": ["data.rotation=15"],
    "no colour jitter": ["data.colour_jitter=0"],
    "no copy-paste": ["data.paste=0"],
    "copy-paste, on all photographs": ["data.skip_unmasked=false"],
    "no dice": ["model.dice_weight=0"],
    "border at 3": ["model.boundary_weight=2"],
    "no EMA": ["stages.0.ema=null"],
    "not mirrored in inference": ["model.mirror=false"],
    "cut at one half": ["model.decision=half"],
    "three contexts in inference": ["model.zooms=[0.12, 0.22, 0.36]"],
    "settled masks": ["model.settle=true"],
    "the other boxes": ["model.neighbours=true"],
    "B's boxes: projection": [
        "data.skip_unmasked=false",
        f"{FROM_BOXES}={{projection: 0.5, warmup: 60}}",
    ],
    "B's boxes: colour": ["data.skip_unmasked=false", f"{FROM_BOXES}={{colour: 0.1, warmup: 60}}"],
    "B's boxes: both": [
        "data.skip_unmasked=false",
        f"{FROM_BOXES}={{projection: 0.5, colour: 0.1, warmup: 60}}",
    ],
    "unknown neighbours left out": ["model.unknown=ignore"],
    "class names (GloVe)": [
        "model.condition.input=embedding",
        "model.condition.embedding=${HALFMASK_SHARED}/data/embeddings/coco_glove.npy",
        "model.condition.input_norm=1",
    ],
    "class prototypes": ["model.condition.input=prototype", "model.condition.input_norm=1"],
    "self-training, two rounds": ["rounds=2"],
    "all masks (oracle)": ORACLE,
}
"""One change each. More can be given: `--set "name: key=value key=value"`."""
INFERENCE = ("model.mirror", "model.zooms", "model.decision", "model.settle")
"""Keys that change nothing in training."""


class Job(NamedTuple):
    option: str
    masked: str
    seed: int


Halfmask = Callable[[list[str]], None]
"""Runs a `halfmask` command line."""


def run_halfmask(arguments: list[str]) -> None:
    """Runs one verb in a process of its own.

    Raises:
        InputError: it failed; what it printed stands above.
        KeyboardInterrupt: it was interrupted.
    """
    # The page states the number of threads of this process.
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    code = subprocess.run(
        [sys.executable, "-m", "halfmask", *arguments], env=environment, check=False
    ).returncode
    if code == 130:
        raise KeyboardInterrupt
    if code:
        raise InputError(
            f"bench: `halfmask {' '.join(arguments)}` ended with exit code {code}, see above"
        )


def run(options: Options, halfmask: Halfmask = run_halfmask) -> Result:
    """Trains what is missing, and writes the table. `--set NAME` runs that option alone
    beside the base (repeatable); `--set "NAME: key=value …"` adds one; `--splits 1`
    leaves out the direction non-voc → voc; `--measured` trains nothing and takes what
    has been measured: options with fewer runs say so.

    Raises:
        InputError: an option that is not known, or a run that fails.
    """
    chosen = chosen_options(options.overrides)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    # What one direction says is worth having before the other is begun.
    directions = list(DIRECTIONS)[: options.splits]
    jobs = [Job(name, masked, seed) for masked in directions for seed in seeds for name in chosen]
    store = _Store(options.out / "measures.json")
    found: dict[Job, dict[str, float]] = {}
    for job in jobs:
        arguments = _arguments(job, chosen[job.option])
        recipe = _digest(arguments)
        scores = store.find(recipe)
        if scores is None and options.measured:
            continue
        if scores is None:
            scores = _measured(job, arguments, options.out, halfmask)
            store.add({**job._asdict(), **scores, "arguments": arguments, "recipe": recipe})
            options.say(
                f"{job.option}, {job.masked}, seed {job.seed}: B {scores['B']:.1f}, A "
                f"{scores['A']:.1f}"
            )
        found[job] = scores
    command = f"python -m benchmarks segmenter --seeds {options.seeds} --first-seed {options.first_seed} --threads {torch.get_num_threads()}"
    command += "" if options.splits >= len(DIRECTIONS) else f" --splits {options.splits}"
    command += (
        "".join(f' --set "{one}"' for one in options.overrides) + " --measured" * options.measured
    )
    names = [name for name in chosen if any(job.option == name for job in found)]
    table = _table(found, names, list(seeds))
    return Result(
        _rows(found, names, list(seeds)),
        {"segmenter": table},
        command,
        {"measures": store.measures},
    )


def chosen_options(wanted: tuple[str, ...]) -> dict[str, list[str]]:
    """Name → overrides; the base first. Raises InputError where a name is not known and
    says no keys.
    """
    if not wanted:
        return OPTIONS
    out = {BASE: OPTIONS[BASE]}
    for one in wanted:
        name, colon, keys = one.partition(": ")
        if one in OPTIONS:
            out[one] = OPTIONS[one]
        elif colon and "=" in keys:
            out[name] = re.split(r" (?=[\w.]+=)", keys)  # YAML's own blanks stay
        else:
            raise InputError(
                f"bench segmenter: no option {one!r}; there are {', '.join(OPTIONS)}, or --set "
                '"NAME: key=value …"'
            )
    return out


class _Store:
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
                return {name: measure[name] for name in ("A", "B", "all")}
        return None

    def add(self, measure: dict[str, Any]) -> None:
        # Another process may work on other seeds in the same folder.
        beside = _Store(self._path).measures
        known = [m["recipe"] for m in self.measures]
        self.measures += [m for m in beside if m["recipe"] not in known] + [measure]
        write_json(self._path, {"measures": self.measures}, indent=1)


def _arguments(job: Job, overrides: list[str]) -> list[str]:
    """Of `halfmask train`."""
    fold = f"data.development_fold={job.seed % FOLDS}"
    return [DIRECTIONS[job.masked], f"seed={job.seed}", *BUDGET, fold, *overrides]


def _digest(arguments: list[str]) -> str:
    """Of what the recipe that `train` makes of its arguments says beyond the defaults:
    a shipped recipe may change, and old measures are not its; a key that is new and off
    changes nothing.
    """
    said = load_recipe(arguments[0], arguments[1:]).model_dump(mode="json", exclude_defaults=True)
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]


def _measured(job: Job, arguments: list[str], out: Path, halfmask: Halfmask) -> dict[str, float]:
    """IoU in percent of the held-out objects, of B, of A and of all."""
    folder, base = (_folder(one, out) for one in (job, job._replace(option=BASE)))
    _keep_arguments(folder, arguments)
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
    return {name: 100 * scores["given_boxes"][name]["miou"] for name in ("A", "B", "all")}


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
    from halfmask.models.checkpoint import load_checkpoint, save_checkpoint

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


def _keep_arguments(folder: Path, arguments: list[str]) -> None:
    """A run of other settings in the folder would be taken for this one."""
    path, own = folder / "arguments.json", {"arguments": arguments, "recipe": _digest(arguments)}
    if not path.is_file():
        write_json(path, own)
    kept = json.loads(path.read_text(encoding="utf-8"))
    if kept != own:
        raise InputError(
            f"{path}: its run was made with {kept}, now {own}; name another folder with --out"
        )


def differences(
    found: dict[Job, dict[str, float]], option: str, seeds: list[int], what: str
) -> Difference | None:
    """option − base, paired by seed (which is the fold too); both directions of a seed
    count once, as their mean.
    """
    means = []
    for seed in seeds:
        pairs = [
            (found.get(Job(option, m, seed)), found.get(Job(BASE, m, seed))) for m in DIRECTIONS
        ]
        known = [
            one[what] - base[what] for one, base in pairs if one is not None and base is not None
        ]
        if known:
            means.append(statistics.fmean(known))
    if not means:
        return None
    if len(means) == 1:
        return Difference(means[0], None)
    quantile = T_95[min(len(means) - 2, len(T_95) - 1)]
    return Difference(
        statistics.fmean(means), quantile * statistics.stdev(means) / len(means) ** 0.5
    )


def _table(found: dict[Job, dict[str, float]], names: list[str], seeds: list[int]) -> str:
    columns = [
        "",
        "IoU on B, voc → non-voc",
        "non-voc → voc",
        "difference on B",
        "difference on A",
        "runs",
    ]
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for name in names:
        values = [
            [found[Job(name, m, s)]["B"] for s in seeds if Job(name, m, s) in found]
            for m in DIRECTIONS
        ]
        cells = [spread(v, 1) if len(v) > 1 else f"{v[0]:.1f}" if v else "not run" for v in values]
        moves = [
            "" if name == BASE else str(differences(found, name, seeds, what))
            for what in ("B", "A")
        ]
        lines.append(f"| {' | '.join([name, *cells, *moves, str(sum(map(len, values)))])} |")
    return "\n".join(lines)


def _rows(found: dict[Job, dict[str, float]], names: list[str], seeds: list[int]) -> list[Row]:
    mean = {
        n: statistics.fmean(v["B"] for job, v in found.items() if job.option == n) for n in names
    }
    rows = []
    for name in names:
        move = None if name == BASE else differences(found, name, seeds, "B")
        title = f"mask IoU on B of the held-out fold, {name}" + (
            "" if move is None else f", ahead by {move}"
        )
        row: Row = {
            "name": title,
            "peer": BASE,
            "peer_value": mean[BASE],
            "value": mean[name],
            "unit": "%",
        }
        rows.append(row | {"ratio": mean[name] / mean[BASE], "bar": None, "ok": None})
    return rows
