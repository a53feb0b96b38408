"""What adapting the shipped model gives, by the number of masks: `train DATA`.

`facade` keeps masks of four of its ten classes, all of them or some. The others are
measured on other photographs, in their true boxes.
"""

from __future__ import annotations

import json
import random
import statistics
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.paper.table1_page import spread
from benchmarks.real.command import Halfmask, run_halfmask
from benchmarks.result import Options, Result, Row, compared
from halfmask.recipes.recipe import expand

MASKED = ("window", "vegetation", "car", "fence")
COUNTS: tuple[int | None, ...] = (0, 50, 200, 1000, None)
"""Masks to learn from; None: all."""
MINUTES = "10"
START = "box-segmenter"


def run(options: Options, halfmask: Halfmask = run_halfmask) -> Result:
    """Adapts to each number of masks, once for each seed, and measures each result.

    By default with the command, for ten minutes each (`--set minutes=5`). `--set
    steps=150` takes the recipe alone instead: so many steps, nothing held out, the
    adapted model kept in any case. `--set masks=50` does one number of masks (`all`).

    Raises:
        InputError: the shared data are absent, or a run fails.
    """
    settings = dict(text.split("=", 1) for text in options.overrides)
    way = {k: v for k, v in settings.items() if k != "masks"} or {"minutes": MINUTES}
    counts = [c for c in COUNTS if settings.get("masks", _title(c)) == _title(c)]
    data = expand("${HALFMASK_SHARED}/data/facade")
    train = json.loads((data / "instances_train.json").read_text(encoding="utf-8"))
    truth = options.out / "val.json"
    if not truth.is_file():
        document = json.loads((data / "instances_val.json").read_text(encoding="utf-8"))
        _write(truth, _only(document))
    measure = partial(_measured, truth=truth, images=data / "val", halfmask=halfmask)
    start = measure(START, result=options.out / "start.json")
    options.say(f"as it is: {100 * start:.1f}")
    measures: list[dict[str, Any]] = []
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    for count, seed in ((c, s) for c in counts for s in seeds):
        folder = options.out / f"{_title(count)}-{seed}"
        row: dict[str, Any] = {"masks": _title(count), "seed": seed, "miou": start, "kept": "start"}
        if count != 0:
            file = folder / "data.json"
            _write(file, _with_masks(train, count, seed))
            row |= _adapted(file, data / "train", seed, way=way, halfmask=halfmask)
        if row["kept"] == "adapted":
            row["miou"] = measure(str(folder / "run"), result=folder / "val.json")
        measures.append(row)
        options.say(f"{folder.name}: {100 * row['miou']:.1f} ({row['kept']})")
    text = " ".join(f"--set {k}={v}" for k, v in settings.items())
    command = f"python -m benchmarks adapt --seeds {options.seeds} {text}".rstrip()
    details = {"measures": measures, "start": start}
    return Result(_rows(measures, start), {"adapt": _table(measures, start)}, command, details)


def _title(count: int | None) -> str:
    return "all" if count is None else str(count)


def _adapted(
    file: Path, images: Path, seed: int, *, way: dict[str, str], halfmask: Halfmask
) -> dict[str, Any]:
    """Adapts in the folder of `file`, or finds what was done before."""
    run = file.parent / "run"
    common = [f"seed={seed}", "--out", str(run), "--resume"]
    if "steps" in way:
        keys = [f"data.annotations={file}", f"data.images={images}", "data.cache=true"]
        halfmask(["train", "adapt", *keys, f"stages.0.steps={way['steps']}", *common])
        return {"kept": "adapted"}
    options = ["--images", str(images), "--minutes", way["minutes"]]
    halfmask(["train", str(file), *common, *options])
    found = json.loads((run / "adaptation.json").read_text(encoding="utf-8"))
    return {key: found.get(key) for key in ("kept", "held_out", "expected", "learned_from")}


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


def _measured(model: str, *, result: Path, truth: Path, images: Path, halfmask: Halfmask) -> float:
    """Mean IoU in the true boxes, in [0, 1]."""
    if not result.is_file():
        arguments = ["evaluate", model, str(truth), "--images", str(images), "--given-boxes"]
        halfmask([*arguments, "--json", str(result)])
    blocks = json.loads(result.read_text(encoding="utf-8"))
    return float(blocks["given_boxes"]["all"]["miou"])


def _by_count(measures: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    out: dict[str, list[dict[str, Any]]] = {}
    for m in measures:
        out.setdefault(m["masks"], []).append(m)
    return out


def _rows(measures: list[dict[str, Any]], start: float) -> list[Row]:
    return [
        compared(
            f"{name} masks",
            "the model as it is",
            100 * start,
            100 * statistics.fmean(m["miou"] for m in own),
            "mean IoU, %",
            None,
            at_least=True,
        )
        for name, own in _by_count(measures).items()
    ]


def _table(measures: list[dict[str, Any]], start: float) -> str:
    lines = ["| masks learned from | mean IoU on the other classes, % | gain |", "|---|---|---|"]
    for name, own in _by_count(measures).items():
        value = spread([100 * m["miou"] for m in own], 1)
        gain = 100 * (statistics.fmean(m["miou"] for m in own) - start)
        lines.append(f"| {name} | {value} | {gain:+.1f} |")
    return "\n".join(lines)
