"""`python -m benchmarks steps`: a training step of the box segmenter on a CPU, in
float32 and bfloat16.

Each way trains in a process of its own, in turns, once for FEW and once for MANY steps;
the difference is the steps' own processor time. A way that names an earlier checkout
(`--set base=FOLDER`) trains with its code. Losses are those of the training's log.
"""

from __future__ import annotations

import csv
import statistics
import tempfile
from pathlib import Path

from benchmarks.child import seconds_of_verb
from benchmarks.result import Options, Result, Row, compared
from halfmask.errors import InputError

RECIPE = "coco_mini_voc2nonvoc_box_segmenter"
FEW, MANY, ROUNDS = 20, 120, 3
PEER, BASE = "float32", "earlier version, float32"


LAST = 20
"""Steps at the end whose mean loss is shown."""


def run(options: Options) -> Result:
    """Trains each way. `--set base=FOLDER` adds an earlier checkout, `--set rounds=N`
    and `--set few=N`, `--set many=N` change how often and how long.

    Raises:
        InputError: an override is unknown, or a training fails.
    """
    given = dict(one.partition("=")[::2] for one in options.overrides)
    if given.keys() - {"base", "rounds", "few", "many"}:
        raise InputError("bench steps: --set takes base=FOLDER, rounds=N, few=N and many=N")
    few, many = int(given.get("few", FEW)), int(given.get("many", MANY))
    if not 0 < few < many:
        raise InputError("bench steps: few has to be below many, and above 0")
    base = given.get("base")
    ways = [*((BASE, f"{BASE[:-7]}bfloat16") if base else ()), PEER, "bfloat16"]
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    losses: dict[str, float] = {}
    for _ in range(int(given.get("rounds", ROUNDS))):
        for way in ways:
            precision = "bf16" if way.endswith("bfloat16") else "32"
            home = base if way.startswith(BASE[:7]) else None
            spent = [trained(precision, steps, home) for steps in (few, many)]
            step = (spent[1][0] - spent[0][0]) / (many - few)
            seconds[way].append(step)
            losses[way] = spent[1][1]
            options.say(f"{way}: {1000 * step:.0f} ms of CPU a step")
    median = {way: statistics.median(found) for way, found in seconds.items()}
    peer = BASE if base else PEER
    return Result(
        _rows(median, losses, peer),
        {"steps": _table(median, losses, peer, many)},
        "python -m benchmarks steps --threads 1",
        {"seconds": seconds, "losses": losses},
    )


def trained(precision: str, steps: int, home: str | None) -> tuple[float, float]:
    """Trains on one thread; returns processor seconds and the mean loss of the end.

    Args:
        home: another checkout, whose code trains; None: this one.
    Raises:
        InputError: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        words = ["train", RECIPE, "seed=3", "rounds=1", f"stages.0.steps={steps}"]
        spent = seconds_of_verb([*words, f"precision='{precision}'", "--out", str(out)], home)
        with (out / "logs" / "metrics.csv").open(encoding="utf-8") as file:
            rows = [(int(row["step"]), row["loss"]) for row in csv.DictReader(file)]
        end = [float(loss) for step, loss in rows if step > steps - LAST and loss]
    return spent, statistics.mean(end)


def _rows(seconds: dict[str, float], losses: dict[str, float], peer: str) -> list[Row]:
    rows = []
    for way in seconds:
        if way == peer:
            continue
        row = compared(f"{way}, a step", peer, seconds[peer], seconds[way], "s", 1.5, True)
        loss = compared(f"{way}, loss at the end", peer, losses[peer], losses[way], "", None)
        rows += [row, loss]
    return rows


def _table(seconds: dict[str, float], losses: dict[str, float], peer: str, steps: int) -> str:
    lines = [
        f"| | ms of CPU a step | times {peer} | loss of the last {LAST} steps |",
        "|---|---|---|---|",
    ]
    for way, spent in seconds.items():
        ratio = seconds[peer] / spent
        lines.append(f"| {way} | {1000 * spent:.0f} | {ratio:.2f} | {losses[way]:.4f} |")
    note = (
        f"`{RECIPE}`, one round of {steps} steps, seed 3: 4 photographs a step with up to 6 "
        "crops of 96 × 96 each, the loader's work included. Medians of the rounds."
    )
    return "\n".join([*lines, "", note])
