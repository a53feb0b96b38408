"""Table 1 on COCO itself: the shipped recipes one after another, each by `halfmask
train` and `halfmask evaluate`.

A run is a process of its own, as a user would start it: what one leaves in memory
touches no other, and each can be interrupted and taken up again. Rows that several
parts of the table share are run once.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.paper.table1_page import Parts, paired, table1_markdown
from benchmarks.paper.world_table import Measure, of
from benchmarks.result import Options, Result, Row
from halfmask.errors import InputError
from halfmask.files.atomic import write_json

STAGE_1 = "coco_stage1_r50_boxes"
DIRECTIONS = {"voc2nonvoc": ("voc", 20), "nonvoc2voc": ("nonvoc", 60)}
"""Part of a recipe's name → the masked classes, and how many they are."""
AGNOSTIC, BASE = "t1a_agnostic", "t1a_cls_box"
PARTS: Parts = {
    "a": (
        "what T reads",
        [
            ("transfer, random vectors", "t1a_randn"),
            ("transfer, GloVe", "t1a_glove"),
            ("transfer, cls", "t1a_cls"),
            ("transfer, box", "t1a_box"),
            ("transfer, cls+box", BASE),
            ("class-agnostic", AGNOSTIC),
            ("oracle", "t1a_oracle"),
        ],
        AGNOSTIC,
    ),
    "b": (
        "the structure of T",
        [
            ("1 layer", "t1b_1layer"),
            ("2 layers, ReLU", "t1b_2layer_relu"),
            ("2 layers, LeakyReLU", BASE),
            ("3 layers, ReLU", "t1b_3layer_relu"),
            ("3 layers, LeakyReLU", "t1b_3layer_leaky"),
        ],
        BASE,
    ),
    "c": (
        "the MLP branch",
        [
            ("class-agnostic", AGNOSTIC),
            ("class-agnostic + MLP", "t1c_agnostic_mlp"),
            ("transfer", BASE),
            ("transfer + MLP", "t1c_transfer_mlp"),
        ],
        AGNOSTIC,
    ),
    "d": (
        "how it is trained",
        [
            ("class-agnostic, stage-wise", AGNOSTIC),
            ("transfer, stage-wise", BASE),
            ("class-agnostic, end to end", "t1d_agnostic_e2e"),
            ("transfer, end to end", "t1d_transfer_e2e"),
            ("transfer, end to end, stop-gradient", "t1d_transfer_e2e_stopgrad"),
        ],
        AGNOSTIC,
    ),
}
Halfmask = Callable[[list[str], Path], None]
"""Runs a `halfmask` command line, given the folder of COCO."""


def recipe_name(head: str, direction: str) -> str:
    """The shipped recipe of a row; the oracle serves both directions."""
    table, _, row = head.partition("_")
    return f"coco_{head}" if row == "oracle" else f"coco_{table}_{direction}_{row}"


def run_halfmask(arguments: list[str], root: Path) -> None:
    """Runs one verb in a process of its own.

    Raises:
        InputError: it failed; what it printed stands above.
        KeyboardInterrupt: it was interrupted.
    """
    environment = os.environ | {"COCO_ROOT": str(root)}
    code = subprocess.run(
        [sys.executable, "-m", "halfmask", *arguments], env=environment, check=False
    ).returncode
    if code == 130:
        raise KeyboardInterrupt
    if code:
        raise InputError(
            f"bench table1: `halfmask {' '.join(arguments)}` ended with exit code {code}, see above"
        )


def run_coco(options: Options, halfmask: Halfmask = run_halfmask) -> Result:
    """Trains and measures what is missing, for both directions.

    Raises:
        InputError: COCO's files or GloVe's vectors are not where they should be, or a
            run fails.
    """
    root = options.root
    if root is None:
        raise InputError(
            "bench table1 --data coco: name the folder with annotations/, train2017/ and "
            "val2017/ by --root"
        )
    truth = root / "annotations" / "instances_val2017.json"
    for path in (
        truth,
        root / "annotations" / "instances_train2017.json",
        root / "train2017",
        root / "val2017",
    ):
        if not path.exists():
            raise InputError(
                f"{path}: not there; bench table1 --data coco needs COCO 2017 as its authors "
                "lay it out"
            )
    if "GLOVE_FILE" not in os.environ:
        raise InputError(
            "bench table1 --data coco: the rows of GloVe need the environment variable GLOVE_FILE, "
            "the file of the class vectors (docs/paper.md says where it comes from)"
        )
    _keep_overrides(options)
    measures: list[Measure] = []
    heads = list(dict.fromkeys(head for _, rows, _ in PARTS.values() for _, head in rows))
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        runs = options.out / f"seed-{seed}"
        start = runs / STAGE_1
        _train(halfmask, STAGE_1, start, [f"seed={seed}", *options.overrides], root)
        for direction, (spec, masked) in DIRECTIONS.items():
            for head in heads:
                name = recipe_name(head, direction)
                own = [
                    f"seed={seed}",
                    *([] if head.startswith("t1d") else [f"init={start}"]),
                    *options.overrides,
                ]
                _train(halfmask, name, runs / name, own, root)
                result = _evaluated(halfmask, runs / name, truth, spec, root)
                measures.append(_measure(result, seed, masked, head))
                options.say(f"seed {seed} {name} {spec}: mask AP B {result['mask']['B']['AP']}")
    return _result(measures, options)


def _keep_overrides(options: Options) -> None:
    """Runs of other settings in the folder would be taken for this table's."""
    path = options.out / "overrides.json"
    if not path.is_file():
        write_json(path, list(options.overrides))
    kept = json.loads(path.read_text(encoding="utf-8"))
    if kept != list(options.overrides):
        raise InputError(
            f"{path}: its runs were made with --set {kept}, now {list(options.overrides)}; "
            "name another --out"
        )


def _train(halfmask: Halfmask, name: str, run: Path, overrides: list[str], root: Path) -> None:
    if not (run / "model.safetensors").is_file():
        halfmask(["train", name, *overrides, "--out", str(run), "--resume"], root)


def _evaluated(halfmask: Halfmask, run: Path, truth: Path, spec: str, root: Path) -> dict[str, Any]:
    found = run / f"evaluation-{spec}.json"
    if not found.is_file():
        photographs = str(root / "val2017")
        arguments = [
            "evaluate",
            str(run),
            str(truth),
            "--images",
            photographs,
            "--masked",
            spec,
            "--given-boxes",
        ]
        halfmask([*arguments, "--json", str(found)], root)
    result: dict[str, Any] = json.loads(found.read_text(encoding="utf-8"))
    return result


def _measure(result: dict[str, Any], seed: int, masked: int, head: str) -> Measure:
    ap = {name: result["mask"][name]["AP"] for name in ("all", "A", "B")}
    iou = {name: result["given_boxes"][name]["miou"] for name in ("all", "A", "B")}
    box = result["box"]["all"]["AP"]
    return {
        "seed": seed,
        "split": 0,
        "masked": masked,
        "head": head,
        "box_AP": box,
        "mask_AP": ap,
        "iou": iou,
    }


def _result(measures: list[Measure], options: Options) -> Result:
    tables: list[str] = []
    rows: list[Row] = []
    for direction, (_, masked) in DIRECTIONS.items():
        tables.append(f"### {direction}\n\n{table1_markdown(measures, masked, PARTS)}")
        low, value = (
            statistics.fmean(m["mask_AP"]["B"] for m in of(measures, masked=masked, head=head))
            for head in (AGNOSTIC, BASE)
        )
        difference = paired(measures, masked, BASE, AGNOSTIC)
        row: Row = {
            "name": f"mask AP on B, transfer cls+box, {direction}, ahead by {difference}",
            "peer": "class-agnostic",
        }
        rows.append(
            row
            | {
                "peer_value": low,
                "value": value,
                "unit": "AP",
                "ratio": value / low if low else None,
            }
        )
    command = f"python -m benchmarks table1 --data coco --root COCO --seeds {options.seeds} --first-seed {options.first_seed}"
    if options.overrides:
        command += "".join(f" --set {one}" for one in options.overrides)
    no_bar = {"bar": None, "ok": None}
    return Result(
        [row | no_bar for row in rows],
        {"table1:coco": "\n\n".join(tables)},
        command,
        {"measures": measures},
    )
