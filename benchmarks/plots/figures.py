"""The figure of each benchmark of docs/benchmarks.md, drawn from its rows."""

from __future__ import annotations

import json
import os
import re
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.plots.curve_plot import curve_plot
from benchmarks.plots.quality_figures import (
    draw_adapt,
    draw_add_class,
    draw_heads,
    draw_real,
    draw_segmenter,
)
from benchmarks.plots.speed_plot import speed_plot
from benchmarks.writing import replace_table
from halfmask.errors import InputError

RESULTS = Path(__file__).parents[1] / "results"
Document = Mapping[str, Any]
"""What `python -m benchmarks NAME --json F` writes: rows, provenance, details."""
STORED = {"add-class": "add_class_world", "heads": "heads_world", "real": "real_data"}
"""Benchmark → its result file, where the name differs."""
OURS = "halfmask"


def draw(name: str, document: Document, page: Path) -> str:
    """Draws docs/figures/NAME.png; returns the Markdown that shows it on a page of docs/."""
    text, drawn = FIGURES[name]
    folders = page.resolve().parents
    docs = next((folder for folder in folders if folder.name == "docs"), folders[0])
    path = docs / "figures" / f"{name}.png"
    drawn(document, path)
    return f"![{text}]({os.path.relpath(path, folders[0])})"


def redraw(name: str, page: Path) -> None:
    """Draws the figure again from benchmarks/results/NAME.json, with that run's commit.

    Raises:
        InputError: the benchmark has no figure of this kind, or no stored result.
    """
    path = RESULTS / f"{STORED.get(name, name)}.json"
    if name not in FIGURES or not path.is_file():
        raise InputError(f"--measured: no stored result of {name} to draw from ({path})")
    document = json.loads(path.read_text(encoding="utf-8"))
    command = f"{document['command']} --docs {page}"
    replace_table(page, f"{name}:plot", draw(name, document, page), command, dict(document))


def _objects(document: Document, out: Path) -> None:
    targets: dict[str, dict[int, float]] = {OURS: {}, "torchvision": {}}
    largest: dict[str, dict[int, float]] = {OURS: {}, "objects × H × W": {}}
    for row in document["rows"]:
        found = re.match(r"(\d+) objects, (peak|largest)", row["name"])
        if found is None:
            continue
        ours, theirs = (targets if found[2] == "peak" else largest).values()
        ours[int(found[1])] = row["value"]
        if row["peer_value"] is not None:
            theirs[int(found[1])] = row["peer_value"]
    panels = {"Peak memory of targets, MiB": targets, "Largest tensor of a step, MiB": largest}
    curve_plot(panels, "masked objects on one image", out)


def _masks(document: Document, out: Path) -> None:
    rows = [row for row in document["rows"] if row["unit"] == "ms"]
    bars = {f"{OURS}, from the crops": rows[0]["value"]}
    bars |= {row["peer"].replace(" + ", ",\n"): row["peer_value"] for row in rows}
    speed_plot({"100 masks from probabilities to RLE, ms of CPU": bars}, out)


def _train(document: Document, out: Path) -> None:
    speed, memory = document["rows"][:2]
    panels = {"Training, images/s": speed, "Peak memory of a step above the model, MiB": memory}
    speed_plot({title: _pair(row) for title, row in panels.items()}, out)


def _steps(document: Document, out: Path) -> None:
    ways = {way: 1000 * statistics.median(s) for way, s in document["seconds"].items()}
    speed_plot(
        {"A training step of the box segmenter, ms of CPU": ways}, out, ours=("float32", "bfloat16")
    )


def _peers(document: Document, out: Path) -> None:
    seconds: dict[str, dict[int, float]] = {}
    for count, spent in document["seconds"].items():
        for who, value in spent.items():
            seconds.setdefault(who, {})[int(count)] = value
    rate = {who: {n: n / s for n, s in points.items()} for who, points in seconds.items()}
    panels = {"Photograph to RLE, seconds of CPU": seconds, "Masks per second and core": rate}
    curve_plot(panels, "boxes on a photograph", out)


def _annotations(document: Document, out: Path) -> None:
    rows = {row["name"]: row for row in document["rows"]}
    sizes = [f"{document['sizes'][key]:,} annotations" for key in ("peer", "annotations")]
    time: list[dict[str, float]] = [{}, {}]
    memory: list[dict[str, float]] = [{}, {}]
    for name, row in rows.items():
        size, what = name.split(": ", 1)
        target = time if "processor time" in what else memory if "peak memory" in what else None
        if target is None:
            continue
        short = re.sub(r",? ?(once|processor time|peak memory.*)", "", what).strip(", ")
        target[sizes.index(size.removesuffix(", indexed"))][f"{OURS}, {short}"] = row["value"]
        if row["peer_value"] is not None and short == "opening":
            target[0]["pycocotools, reading"] = row["peer_value"]
    panels = {}
    for index, size in enumerate(sizes):
        panels[f"{size}: seconds of CPU"] = time[index]
        panels[f"{size}: peak memory, MiB"] = memory[index]
    speed_plot({title: bars for title, bars in panels.items() if len(bars) > 1}, out)


def _evaluation(document: Document, out: Path) -> None:
    rows = {row["name"]: row for row in document["rows"]}
    panels = {
        "Box and mask AP at COCO's size, seconds of CPU": "both together, CPU time",
        "Peak memory of the process, MiB": "peak memory of the process",
    }
    speed_plot({title: _pair(rows[name]) for title, name in panels.items()}, out)


def _pair(row: Mapping[str, Any]) -> dict[str, float]:
    return {OURS: row["value"], row["peer"]: row["peer_value"]}


FIGURES: dict[str, tuple[str, Callable[[Document, Path], None]]] = {
    "objects": ("Memory against the number of masked objects", _objects),
    "masks": ("Time from probabilities to run lengths", _masks),
    "train": ("Images per second and memory of a training step", _train),
    "steps": ("Time of a training step in float32 and bfloat16", _steps),
    "peers": ("Time and masks per second against the number of boxes", _peers),
    "annotations": ("Time and memory of large annotation files", _annotations),
    "evaluation": ("Time and memory of AP at COCO's size", _evaluation),
    "segmenter": ("What each option of the box segmenter changes", draw_segmenter),
    "adapt": ("What masks of one's own add to the shipped model", draw_adapt),
    "heads": ("Mask IoU of the ways to train a head", draw_heads),
    "real": ("Mask IoU of rules and models on given boxes", draw_real),
    "add-class": ("AP of added classes", draw_add_class),
}
"""Benchmark → alternative text and what draws it."""
