"""What adapting the shipped model gives, by the number of masks: `train DATA`.

`facade` keeps masks of four of its ten classes, all of them or some. The others are
measured on other photographs, in their true boxes.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.paper.table1_page import spread
from benchmarks.real.segmenter import Halfmask, run_halfmask
from benchmarks.result import Options, Result, Row
from halfmask.recipes.recipe import expand

MASKED = ("window", "vegetation", "car", "fence")
COUNTS: tuple[int | None, ...] = (0, 50, 200, 1000, None)
"""Masks to learn from; None: all."""
MINUTES = "10"
START = "box-segmenter"


def run(options: Options, halfmask: Halfmask = run_halfmask) -> Result:
    """Adapts to each number of masks, once for each seed, and measures each result.

    `--set minutes=5` changes the time of each adaptation.

    Raises:
        InputError: the shared data are absent, or a run fails.
    """
    settings = dict(text.split("=", 1) for text in options.overrides)
    minutes = settings.get("minutes", MINUTES)
    data = expand("${HALFMASK_SHARED}/data/facade")
    train = json.loads((data / "instances_train.json").read_text(encoding="utf-8"))
    truth = options.out / "val.json"
    _write(truth, _only(json.loads((data / "instances_val.json").read_text(encoding="utf-8"))))
    start = _measured(START, truth, data / "val", options.out / "start.json", halfmask=halfmask)
    options.say(f"as it is: {100 * start:.1f}")
    measures: list[dict[str, Any]] = []
    for count in COUNTS:
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            name = f"{'all' if count is None else count}-{seed}"
            folder = options.out / name
            _write(folder / "data.json", _with_masks(train, count, seed))
            began = time.monotonic()
            halfmask(
                [
                    "train",
                    str(folder / "data.json"),
                    f"seed={seed}",
                    "--images",
                    str(data / "train"),
                    "--minutes",
                    minutes,
                    "--out",
                    str(folder / "run"),
                    "--resume",
                ]
            )
            seconds = time.monotonic() - began
            found = json.loads((folder / "run" / "adaptation.json").read_text(encoding="utf-8"))
            value = start
            if found["kept"] == "adapted":
                value = _measured(
                    str(folder / "run"), truth, data / "val", folder / "val.json", halfmask=halfmask
                )
            measures.append(_row(count, seed, found, value=value, seconds=seconds))
            options.say(f"{name}: {100 * value:.1f} ({found['kept']})")
    command = f"python -m benchmarks adapt --seeds {options.seeds} --set minutes={minutes}"
    return Result(
        _rows(measures, start), {"adapt": _table(measures)}, command, {"measures": measures}
    )


def _write(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")


def _names(document: dict[str, Any]) -> dict[int, str]:
    return {c["id"]: c["name"] for c in document["categories"]}


def _only(document: dict[str, Any]) -> dict[str, Any]:
    """The file with the annotations of the other classes alone."""
    names = _names(document)
    rows = [a for a in document["annotations"] if names[a["category_id"]] not in MASKED]
    return {**document, "annotations": rows}


def _with_masks(document: dict[str, Any], count: int | None, seed: int) -> dict[str, Any]:
    """The file with so many masks of the masked classes, drawn by the seed."""
    names = _names(document)
    own = [a["id"] for a in document["annotations"] if names[a["category_id"]] in MASKED]
    random.Random(seed).shuffle(own)
    kept = set(own if count is None else own[:count])
    rows = []
    for a in document["annotations"]:
        bare = a["id"] not in kept
        area = a["bbox"][2] * a["bbox"][3]
        rows.append({**a, "segmentation": [], "area": area} if bare else a)
    return {**document, "annotations": rows}


def _measured(model: str, truth: Path, images: Path, result: Path, *, halfmask: Halfmask) -> float:
    """Mean IoU in the true boxes, in [0, 1]."""
    if not result.is_file():
        arguments = ["evaluate", model, str(truth), "--images", str(images), "--given-boxes"]
        halfmask([*arguments, "--json", str(result)])
    blocks = json.loads(result.read_text(encoding="utf-8"))
    return float(blocks["given_boxes"]["all"]["miou"])


def _row(
    count: int | None, seed: int, found: dict[str, Any], *, value: float, seconds: float
) -> dict[str, Any]:
    expected = found["expected"]
    return {
        "masks": found["learned_from"]["masks"] if count is None else count,
        "all": count is None,
        "seed": seed,
        "kept": found["kept"],
        "miou": value,
        "held_out": found.get("held_out"),
        "expected": expected,
        "inside": expected["low"] <= value <= expected["high"],
        "seconds": seconds,
    }


def _rows(measures: list[dict[str, Any]], start: float) -> list[Row]:
    rows = []
    for name, own in _by_count(measures).items():
        value = 100 * statistics.fmean(m["miou"] for m in own)
        row = {"name": f"{name} masks", "peer": "the model as it is", "peer_value": 100 * start}
        gain = {"value": value, "unit": "mean IoU, %", "ratio": value / (100 * start)}
        rows.append({**row, **gain, "bar": None, "ok": None})
    return rows


def _by_count(measures: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    out: dict[str, list[dict[str, Any]]] = {}
    for m in measures:
        out.setdefault(f"all {m['masks']:,}" if m["all"] else f"{m['masks']:,}", []).append(m)
    return out


def _table(measures: list[dict[str, Any]]) -> str:
    lines = [
        "| masks | mean IoU on the other classes, % | adapted model kept | expected, % | "
        "interval holds the truth |",
        "|---|---|---|---|---|",
    ]
    for name, own in _by_count(measures).items():
        kept = sum(m["kept"] == "adapted" for m in own)
        inside = sum(m["inside"] for m in own)
        expected = spread([100 * m["expected"]["miou"] for m in own], 1)
        value = spread([100 * m["miou"] for m in own], 1)
        lines.append(
            f"| {name} | {value} | {kept} of {len(own)} | {expected} | {inside} of {len(own)} |"
        )
    return "\n".join(lines)
