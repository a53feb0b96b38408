"""`python -m benchmarks reproduce --coco ROOT`: the paper's protocol on COCO 2017 itself.

Three stages, each longer than the one before: `import` measures published weights,
`short` trains mask heads at a tenth of the schedule on an imported detector, `full` runs
all rows of Table 1. Each checks the data first, can be interrupted and taken up again,
and says what was expected. No number on COCO was measured here yet.
"""

from __future__ import annotations

import csv
import json
import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.paper.table1_coco import (
    AGNOSTIC,
    BASE,
    DIRECTIONS,
    Halfmask,
    recipe_name,
    run_coco,
    run_halfmask,
)
from benchmarks.result import Options, Result, Row
from halfmask.coco.doctor.published import compare_counts
from halfmask.errors import InputError
from halfmask.files.atomic import write_json
from halfmask.models.imported.import_weights import import_weights
from halfmask.recipes.recipe import load_recipe

TOLERANCE = 0.3
"""AP by which imported weights may differ: two programs resize photographs differently."""
ORACLE = "t1a_oracle"
SHORT = 10
"""`short` takes this part of a schedule."""
DETECTOR = "faster_r50"
SETTINGS = ("weights.", "expect=")
"""Beginnings of `--set` that are this benchmark's own; others go to the recipes."""


@dataclass(frozen=True)
class Published:
    """Published weights: the program, and AP on val2017 (minival) in percent."""

    program: str
    box: float | None
    mask: float | None
    source: str


PUBLISHED = {
    "faster_r50": Published("detectron", 36.7, None, "Detectron's Model Zoo, R-50-FPN 1x"),
    "faster_r101": Published("detectron", 39.4, None, "Detectron's Model Zoo, R-101-FPN 1x"),
    "mask_r50": Published("detectron", 37.7, 33.9, "Detectron's Model Zoo, R-50-FPN 1x"),
    "mask_r101": Published("detectron", 40.0, 35.9, "Detectron's Model Zoo, R-101-FPN 1x"),
    "torchvision_faster_r50": Published("torchvision", 37.0, None, "torchvision, COCO_V1"),
    "torchvision_mask_r50": Published("torchvision", 37.9, 34.6, "torchvision, COCO_V1"),
}
"""Key of `--set weights.KEY=FILE` → what was published. The authors' own files are of Visual
Genome, for which nobody published AP."""


COCO2017 = "coco2017"
PARTS_OF_COCO = ("train", "val")

HEALTHY = {
    0: (math.log(2), math.log(2), "ln 2: the mask head starts undecided"),
    20: (0.55, 0.75, "hardly changed: warm-up has just begun"),
    500: (0.30, 0.68, "falls: warm-up ends"),
    2000: (0.20, 0.60, "falls slowly from here on"),
}
"""Step → lowest and highest mask loss of a healthy run, and why. The first follows from the start
of the weights; the others are wide bounds. End to end the class loss starts at ln 81 = 4.39.
"""


def run(options: Options, halfmask: Halfmask = run_halfmask) -> Result:
    """Checks the data and runs the stage.

    Raises:
        InputError: the data are not COCO's, weights are missing, or a run fails.
    """
    if options.root is None:
        raise InputError(
            "reproduce: name the folder with annotations/, train2017/ and val2017/ by --coco"
        )
    own = dict(_own(o) for o in options.overrides if o.startswith(SETTINGS))
    recipes = tuple(o for o in options.overrides if not o.startswith(SETTINGS))
    check_coco(options.root, own.get("expect", COCO2017), options.say)
    options = replace(options, overrides=recipes)
    stage = STAGES.get(options.stage)
    if stage is None:
        raise InputError(f"reproduce: no stage {options.stage}; there are: {', '.join(STAGES)}")
    files = {k.removeprefix("weights."): Path(v) for k, v in own.items() if k != "expect"}
    unknown = [key for key in files if key not in PUBLISHED]
    if unknown:
        raise InputError(f"--set weights.{unknown[0]}: expected one of {', '.join(PUBLISHED)}")
    return stage(options, files, halfmask)


def _own(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value


def check_coco(root: Path, expect: str, say: Callable[[str], None]) -> None:
    """Counts images, annotations, empty images, classes and photographs of both parts.

    Args:
        expect: coco2017, or none: only the layout is checked.
    Raises:
        InputError: `expect` is neither; or what is not there, or differs, by part, all
            faults in one message.
    """
    if expect not in (COCO2017, "none"):
        raise InputError(f"reproduce: --set expect={expect}: expected {COCO2017} or none")
    faults = []
    for part in PARTS_OF_COCO:
        path, folder = root / "annotations" / f"instances_{part}2017.json", root / f"{part}2017"
        if not path.is_file() or not folder.is_dir():
            faults.append(f"{path if folder.is_dir() else folder} is not there")
            continue
        document = json.loads(path.read_text(encoding="utf-8"))
        names = {photo.name for photo in folder.iterdir()}
        lacking = sum(image["file_name"] not in names for image in document["images"])
        counted = compare_counts(document, data_set=COCO2017, name=path.name)
        found = ", ".join(f"{number} {name}" for name, number in counted.found.items())
        say(f"{part}: {found}, {lacking} photographs missing")
        if lacking:
            faults.append(f"{part}: {lacking} photographs are not in {folder}")
        if expect == COCO2017:
            faults += counted.differences
            for line in counted.unchecked:
                say(line)
    if faults:
        raise InputError(
            f"reproduce: {root} is not COCO 2017: {'; '.join(faults)}; download it again, or add "
            "--set expect=none for other data in this layout"
        )


def run_import(options: Options, files: dict[str, Path], halfmask: Halfmask) -> Result:
    """Imports each file and measures it on val2017."""
    if not files:
        raise InputError(
            "reproduce --stage import: name published weights by --set weights.KEY=FILE; KEY is "
            f"one of {', '.join(PUBLISHED)}"
        )
    rows: list[Row] = []
    for key, file in files.items():
        known = PUBLISHED[key]
        model, _ = _imported(key, file, options.out)
        result = _evaluated(halfmask, options, model, options.out / f"{key}.json", "voc")
        for kind, wanted in (("box", known.box), ("mask", known.mask)):
            if wanted is None:
                continue
            value = result[kind]["all"]["AP"]
            rows.append(
                {
                    "name": f"{kind} AP of {key}", "peer": known.source, "peer_value": wanted,
                    "value": value, "unit": "AP", "ratio": value / wanted, "bar": TOLERANCE,
                    "ok": abs(value - wanted) <= TOLERANCE,
                }
            )  # fmt: skip
    return Result(rows, {"reproduce:import": _import_table(rows)}, _command(options, files))


def run_short(options: Options, files: dict[str, Path], halfmask: Halfmask) -> Result:
    """Trains class-agnostic, cls+box and oracle at a tenth of the schedule, both directions."""
    if DETECTOR not in files:
        raise InputError(
            f"reproduce --stage short: needs a detector: --set weights.{DETECTOR}=FILE"
        )
    _, detector = _imported(DETECTOR, files[DETECTOR], options.out)
    rows: list[Row] = []
    lines = ["| masks of | class-agnostic | cls+box | oracle | in order | loss |", "|" + "---|" * 6]
    for direction, (spec, _) in DIRECTIONS.items():
        found, healthy = {}, True
        for head in (AGNOSTIC, BASE, ORACLE):
            name = recipe_name(head, direction)
            run = options.out / "short" / name
            if not (run / "model.safetensors").is_file():
                for step, (low, high, why) in HEALTHY.items():
                    options.say(f"{name}: step {step}: mask loss {low:.2f}…{high:.2f}, {why}")
                own = [*detector, *_shortened(name), *options.overrides]
                halfmask(["train", name, *own, "--out", str(run), "--resume"], _root(options))
            healthy &= _report_losses(run, name, options.say)
            result = _evaluated(halfmask, options, run, run / f"{spec}.json", spec)
            found[head] = result["mask"]["B"]["AP"]
        low, value, high = (found[head] for head in (AGNOSTIC, BASE, ORACLE))
        ordered = low < value < high
        rows.append(
            {
                "name": f"mask AP on B, cls+box, {direction}", "peer": "class-agnostic",
                "peer_value": low, "value": value, "unit": "AP",
                "ratio": value / low if low else None, "bar": 1.0, "ok": ordered,
            }
        )  # fmt: skip
        verdicts = ("yes" if ordered else "NO", "as expected" if healthy else "OUTSIDE")
        numbers = " | ".join(f"{ap:.1f}" for ap in (low, value, high))
        lines.append(f"| {spec} | {numbers} | {' | '.join(verdicts)} |")
    return Result(rows, {"reproduce:short": "\n".join(lines)}, _command(options, files))


def run_full(options: Options, files: dict[str, Path], halfmask: Halfmask) -> Result:  # noqa: ARG001
    """Runs every row of Table 1 at its whole schedule, its own stage 1 first."""
    options.say("end to end a healthy run starts with a class loss of ln 81 = 4.39")
    for step, (low, high, why) in HEALTHY.items():
        options.say(f"step {step}: mask loss {low:.2f}…{high:.2f}, {why}")
    result = run_coco(options, halfmask)
    return replace(result, command=_command(options, {}))


STAGES: dict[str, Callable[[Options, dict[str, Path], Halfmask], Result]] = {
    "import": run_import,
    "short": run_short,
    "full": run_full,
}


def _root(options: Options) -> Path:
    assert options.root is not None
    return options.root


def _imported(key: str, file: Path, out: Path) -> tuple[Path, list[str]]:
    """Returns the checkpoint of published weights, and the overrides that start from it."""
    model, kept = out / f"{key}.safetensors", out / f"{key}.overrides.json"
    if not model.is_file() or not kept.is_file():
        out.mkdir(parents=True, exist_ok=True)
        done = import_weights(PUBLISHED[key].program, file, model)
        # They are written for a shell.
        write_json(kept, [word for text in done.overrides for word in shlex.split(text)])
    overrides: list[str] = json.loads(kept.read_text(encoding="utf-8"))
    return model, overrides


def _shortened(name: str) -> list[str]:
    stage = load_recipe(name, ["seed=0"]).stages[0]
    drops = [step // SHORT for step in stage.optimiser.steps]
    return [f"stages.0.steps={stage.steps // SHORT}", f"stages.0.optimiser.steps={drops}"]


def _evaluated(
    halfmask: Halfmask, options: Options, model: Path, out: Path, masked: str
) -> dict[str, Any]:
    if not out.is_file():
        root = _root(options)
        truth = root / "annotations" / "instances_val2017.json"
        photographs = ["--images", str(root / "val2017")]
        halfmask(
            ["evaluate", str(model), str(truth), *photographs, "--masked", masked, "--json", str(out)],
            root,
        )  # fmt: skip
    result: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return result


def _report_losses(run: Path, name: str, say: Callable[[str], None]) -> bool:
    """Says what the mask loss was at the healthy steps; returns whether it was within."""
    path, healthy = run / "logs" / "metrics.csv", True
    if not path.is_file():
        return True
    with path.open(encoding="utf-8", newline="") as file:
        losses = {int(r["step"]): float(r["loss_mask"]) for r in csv.DictReader(file)
                  if r.get("loss_mask")}  # fmt: skip
    for step, (low, high, _) in HEALTHY.items():
        if step in losses:
            within = low <= losses[step] <= high
            healthy &= within
            say(f"{name}: step {step}: {losses[step]:.3f}{'' if within else ', NOT HEALTHY'}")
    return healthy


def _import_table(rows: list[Row]) -> str:
    lines = ["| weights | published | here | verdict |", "|---|---|---|---|"]
    for row in rows:
        verdict = "the same" if row["ok"] else f"NOT within {TOLERANCE}"
        lines.append(f"| {row['name']} | {row['peer_value']} | {row['value']:.1f} | {verdict} |")
    return "\n".join(lines)


def _command(options: Options, files: dict[str, Path]) -> str:
    weights = "".join(f" --set weights.{key}={file.name}" for key, file in files.items())
    changes = "".join(f" --set {text}" for text in options.overrides)
    return f"python -m benchmarks reproduce --coco COCO --stage {options.stage}{weights}{changes}"
