"""Plots of bars: what each way costs, or does in a second."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.plots.curve_plot import PEER_LINE, plain_ticks
from benchmarks.plots.gain_plot import LINE, TEXT
from halfmask.pictures.save import new_figure, save_figure

WIDTH, MOST_COLUMNS = 9.6, 2


def speed_plot(
    panels: Mapping[str, Mapping[str, float]], out: Path, ours: str | tuple[str, ...] = "halfmask"
) -> Path:
    """Draws a panel of horizontal bars for each title, two beside each other.

    Args:
        panels: title → who → value; a span of more than 30 is drawn on a logarithmic
            axis.
        out: the .png or .svg to write.
        ours: names that begin so have the project's colour.
    """
    columns = min(MOST_COLUMNS, len(panels))
    titles = list(panels)
    rows = [titles[k : k + columns] for k in range(0, len(titles), columns)]
    heights = [max(len(panels[title]) for title in row) + 2.2 for row in rows]
    figure = new_figure(figsize=(WIDTH, 0.36 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
    for axis in axes.flat[len(titles) :]:
        axis.set_visible(False)
    for axis, title in zip(axes.flat, titles, strict=False):
        _bars(axis, panels[title], ours)
        axis.set_title(title, fontsize=10, loc="left", color=TEXT)
    return save_figure(figure, out)


def _bars(axis: Any, bars: Mapping[str, float], ours: str | tuple[str, ...]) -> None:
    names, values = list(bars)[::-1], list(bars.values())[::-1]
    colours = [LINE if name.startswith(ours) else PEER_LINE for name in names]
    axis.barh(names, values, color=colours, height=0.62, zorder=2)
    wide = max(values) > 30 * min(values)
    if wide:
        axis.set_xscale("log")
    axis.set_xlim(min(values) / 2 if wide else 0, max(values) * (4 if wide else 1.25))
    if wide:
        plain_ticks(axis.xaxis)
    else:
        axis.xaxis.set_major_formatter("{x:,g}")
    for row, value in enumerate(values):
        axis.annotate(
            f"{value:,.0f}" if value >= 100 else f"{value:.3g}",
            (value, row),
            textcoords="offset points",
            xytext=(4, 0),
            va="center",
            fontsize=8,
            color=TEXT,
        )
    axis.tick_params(labelsize=8, colors=TEXT)
    axis.grid(axis="x", color="#E3E6EA", zorder=0)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
