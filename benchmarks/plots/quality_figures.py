"""The figures of the benchmarks of masks, drawn from their rows; see `figures`."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.plots.interval_plot import interval_plot
from benchmarks.plots.speed_plot import speed_plot

Document = Mapping[str, Any]
NAMES = {"voc": "halfmask, masks of the other classes", "all": "halfmask, all masks"}


def draw_segmenter(document: Document, out: Path) -> None:
    """Draws what each option changes on classes without masks."""
    rows = {}
    for row in document["rows"]:
        found = re.search(r"held-out fold, (.*), ahead by (\S+) ± (\S+)", row["name"])
        if found is not None:
            rows[found[1]] = (float(found[2]), float(found[3]))
    title = "Mask IoU on B beside the recipe's, points, with 95 % intervals"
    interval_plot(rows, title, out)


def draw_adapt(document: Document, out: Path) -> None:
    """Draws what masks add to the shipped model."""
    gains: dict[str, list[float]] = {}
    for one in document["measures"]:
        name = f"{one['masks']} masks"
        gains.setdefault(name, []).append(100 * (one["miou"] - document["start"]))
    rows = {
        name: (statistics.fmean(values), statistics.stdev(values))
        for name, values in gains.items()
        if name != "0 masks"
    }
    title = "Gain in mask IoU on the other classes, points, with standard deviations"
    interval_plot(rows, title, out)


def draw_heads(document: Document, out: Path) -> None:
    """Draws a panel for each head, with the ways to train it."""
    panels: dict[str, dict[str, float]] = {}
    for row in document["rows"]:
        found = re.match(r"mask IoU on B, (class-agnostic|T\(\w+\))(?:, (.*))?, \|A\|", row["name"])
        if found is not None:
            ways = panels.setdefault(f"{found[1]}: mask IoU on B", {})
            ways[found[2] or "plain"] = row["value"]
    speed_plot(panels, out, ours=("boxes", "class", "hourglass", "ignore", "skip", "taught"))


def draw_real(document: Document, out: Path) -> None:
    """Draws a panel for each direction, with the rules and the models."""
    titles = {"voc": "voc → non-voc: mask IoU on B, %", "nonvoc": "non-voc → voc: mask IoU on B, %"}
    found: dict[str, dict[str, list[float]]] = {title: {} for title in titles.values()}
    for one in document["measures"]:
        name = NAMES.get(one["model"], NAMES["voc"] if one["model"] == "nonvoc" else one["model"])
        values = found[titles[one["direction"]]].setdefault(name, [])
        values.append(one["boxes"]["miou"])
    speed_plot(
        {
            title: {name: statistics.fmean(values) for name, values in bars.items()}
            for title, bars in found.items()
        },
        out,
    )


def draw_add_class(document: Document, out: Path) -> None:
    """Draws added classes beside classes that were there from the start."""
    panels = {}
    for key, title in (("box_AP", "box AP"), ("mask_AP", "mask AP")):
        panels[f"Added classes, {title}, mean of the seeds"] = {
            name: statistics.fmean(one[side][key] for one in document["measures"])
            for name, side in (("halfmask add-class", "added"), ("from the start", "peer"))
        }
    speed_plot(panels, out)
