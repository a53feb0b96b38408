"""Charts: the losses and scores of a run, and bars that compare A with B."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfmask.errors import InputError
from halfmask.pictures.save import new_figure, save_figure
from halfmask.pictures.sets import ALL, shown_sets

Floats = NDArray[np.float64]
Series = dict[str, list[tuple[float, float]]]
LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5A5F66", "#A08A00")
LEGEND = 60
"""Characters in a line of a legend; a longer line would squeeze the axes."""
NO_LOSS = ("step", "epoch", "lr", "time", "seconds", "images_per_second")
"""Columns of the log, and beginnings of their names, that are not losses."""


def training_curves(run: str | Path) -> Path:
    """Draws RUN/curves.png and returns its path.

    Losses come from RUN/logs/metrics.csv, scores from RUN/metrics.json if it exists.

    Raises:
        InputError: The run has no log, or its log holds no loss.
    """
    folder = Path(run)
    log = folder / "logs" / "metrics.csv"
    if not log.is_file():
        raise InputError(
            f"{log}: no such file; {folder} is not a run of `halfmask train`, or it has not "
            "logged anything yet"
        )
    losses = _read_losses(log)
    if not losses:
        raise InputError(f"{log}: holds no losses; expected a column `step` and one for each loss")
    scores = _read_scores(folder / "metrics.json")
    rows = 2 if scores else 1
    figure = new_figure(figsize=(5.4, 3.3 * rows), layout="constrained")
    axes = figure.subplots(rows, 1, squeeze=False)[:, 0]
    _plot_losses(axes[0], losses)
    if scores:
        _plot_scores(axes[1], scores)
    out = folder / "curves.png"
    return save_figure(figure, out)


def ab_bars(results: Mapping[str, Mapping[str, Any]], out: str | Path) -> Path:
    """Draws bars of mask AP and of mask IoU on given boxes, for A and B, by model.

    Args:
        results: Model name → the JSON of `halfmask evaluate`. A missing or null value
            leaves a gap marked `–`. A panel without any value is left out, unless both
            are.
        out: The .png or .svg to write.
    Returns:
        The path written.
    """
    panels = (
        ("mask", "AP", 1.0, "mask AP"),
        ("given_boxes", "miou", 100.0, "mask IoU on given boxes, %"),
    )

    def is_known(block: str, key: str) -> bool:
        return any(
            score(r, block, name, key) is not None for r in results.values() for name in "AB"
        )

    shown = [panel for panel in panels if is_known(panel[0], panel[1])] or panels
    figure = new_figure(figsize=(3.8 * len(shown), 3.2), layout="constrained")
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for axis, (block, key, factor, title) in zip(axes, shown, strict=True):
        _plot_bars(axis, results, (block, key, factor))
        axis.set_title(title, fontsize=10, loc="left", color="#30343A")
        _tidy(axis)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return save_figure(figure, out)


def score(result: Mapping[str, Any], *keys: str) -> float | None:
    """A number of a nested evaluation, None where it is missing or null."""
    node: Any = result
    for key in keys:
        node = node.get(key) if isinstance(node, Mapping) else None
    return float(node) if isinstance(node, int | float) and not isinstance(node, bool) else None


def _plot_bars(
    axis: Any, results: Mapping[str, Mapping[str, Any]], what: tuple[str, str, float]
) -> None:
    block, key, factor = what
    places = np.arange(len(results))
    sets = (("A", "classes A", "#9AA3AD"), ("B", "classes B", "#0072B2"))
    for k, (name, label, colour) in enumerate(sets):
        values = [score(r, block, name, key) for r in results.values()]
        heights = [0.0 if v is None else v * factor for v in values]
        bars = axis.bar(places + (k - 0.5) * 0.38, heights, 0.36, color=colour, label=label)
        texts = ["–" if v is None else f"{h:.0f}" for v, h in zip(values, heights, strict=True)]
        axis.bar_label(bars, texts, padding=2, fontsize=9, color="#30343A")
    axis.set_xticks(places, list(results))
    axis.set_ylim(0, max(1.0, axis.get_ylim()[1] * 1.1))


def _read_losses(log: Path) -> Series:
    with log.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    series: Series = {}
    for row in rows:
        step = _number(row.get("step"))
        for name, text in row.items():
            value = _number(text)
            is_loss = isinstance(name, str) and not name.startswith(NO_LOSS)
            if is_loss and step is not None and value is not None:
                series.setdefault(name, []).append((step, value))
    if len(series) == 2:
        series.pop("loss", None)  # the sum of a single loss
    return series


def _read_scores(path: Path) -> Series:
    """Scores of each evaluation of the run, in percent; none from an unreadable file."""
    try:
        evaluations = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    series: Series = {}
    for row in evaluations if isinstance(evaluations, list) else []:
        step = score(row, "step")
        for name, value in _scores_of(row).items():
            if value is not None and step is not None:
                series.setdefault(name, []).append((step, value))
    return series


def _scores_of(evaluation: Mapping[str, Any]) -> dict[str, float | None]:
    """Box AP of all classes, and mask AP and mask IoU of each set of classes, in percent."""
    sets = shown_sets(evaluation)
    every = sets.pop(ALL)
    found = {"box AP": score(every, "box", "AP")}
    for title, key, number, factor in (
        ("mask AP", "mask", "AP", 1),
        ("mask IoU", "given_boxes", "miou", 100),
    ):
        for name, measures in (sets if len(sets) > 1 else {"": every}).items():
            value = score(measures, key, number)
            label = f"{title}, {name}" if name else title
            found[label] = None if value is None else value * factor
    return found


def _number(text: Any) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) else None


def _plot_losses(axis: Any, series: Series) -> None:
    for colour, (name, points) in zip(cycle(LINES), series.items(), strict=False):
        steps, values = (np.asarray(v) for v in zip(*points, strict=True))
        axis.plot(steps, values, color=colour, linewidth=0.7, alpha=0.22)
        marker = "o" if len(values) == 1 else ""  # a line needs two points
        label = name.removeprefix("loss_")
        axis.plot(steps, _smooth(values), color=colour, linewidth=1.7, marker=marker, label=label)
    losses = [v for points in series.values() for _, v in points]
    if 0 < 10 * min(losses) < max(losses):
        axis.set_yscale("log")
    _finish(axis, "losses")


def _plot_scores(axis: Any, series: Series) -> None:
    for colour, (name, points) in zip(cycle(LINES), series.items(), strict=False):
        steps, values = zip(*points, strict=True)
        axis.plot(steps, values, color=colour, linewidth=1.7, marker="o", markersize=4, label=name)
    axis.set_ylim(0, max(1.0, 1.08 * max(v for points in series.values() for _, v in points)))
    _finish(axis, "scores, %")


def _finish(axis: Any, title: str) -> None:
    axis.set_title(title, fontsize=11, loc="left", color="#30343A")
    axis.set_xlabel("step", fontsize=9, color="#555B63")
    axis.locator_params(axis="x", integer=True, nbins=7)
    longest = max((len(label) for label in axis.get_legend_handles_labels()[1]), default=0)
    axis.legend(
        frameon=False,
        fontsize=9,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.2),
        ncols=min(3, max(1, LEGEND // (longest + 6))),
    )
    _tidy(axis)


def _smooth(values: Floats) -> Floats:
    """Means over a window of a twentieth of the run, narrower at both ends."""
    half = max(1, len(values) // 40)
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    reach = np.minimum(half, np.minimum(index, len(values) - 1 - index))
    smooth: Floats = (total[index + reach + 1] - total[index - reach]) / (2 * reach + 1)
    return smooth


def _tidy(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#B8BEC6")
    axis.tick_params(colors="#555B63", labelsize=8)
    axis.grid(axis="y", color="#E6E9ED", linewidth=0.8)
    axis.set_axisbelow(True)
