"""Plots of a cost against a number: of classes, objects or boxes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.plots.gain_plot import LINE, TEXT
from halfmask.pictures.save import new_figure, save_figure

PEER_LINE = "#D55E00"
MORE_LINES = ("#CC79A7", "#009E73", "#E69F00")
"""Of further peers; all colours are Okabe and Ito's."""
Curves = Mapping[str, Mapping[int, float]]
"""Who → number → cost."""


def curve_plot(panels: Mapping[str, Curves], number: str, out: Path) -> Path:
    """Draws a panel for each title, logarithmic both ways.

    Args:
        panels: title → its curves; those of halfmask have blues.
        number: what the horizontal axis counts.
        out: the .png or .svg to write.
    """
    figure = new_figure(figsize=(8.4, 3.4), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        _draw(axis, curves)
        axis.set_title(title, fontsize=10, loc="left", color=TEXT)
        axis.set_xlabel(number, color=TEXT)
    return save_figure(figure, out)


def _draw(axis: Any, curves: Curves) -> None:
    colours = iter((PEER_LINE, *MORE_LINES))
    ours = iter((LINE, "#56B4E9", "#003F5C"))
    for name, points in curves.items():
        colour = next(ours if name.startswith("halfmask") else colours)
        counts = sorted(points)
        costs = [points[count] for count in counts]
        axis.loglog(counts, costs, "-o", color=colour, markersize=5, linewidth=1.8)
    _label(axis, curves)
    plain_ticks(axis.xaxis)
    plain_ticks(axis.yaxis)
    axis.tick_params(labelsize=8, colors=TEXT)
    axis.grid(color="#E3E6EA", zorder=0)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _label(axis: Any, curves: Curves) -> None:
    """Writes each name at the right of its curve's end, clear of the other names."""
    ends = {name: (max(points), points[max(points)]) for name, points in curves.items()}
    costs = [cost for points in curves.values() for cost in points.values()]
    low, high = min(costs) / 1.6, max(costs) * 1.6
    first = min(min(points) for points in curves.values())
    last = max(count for count, _ in ends.values())
    axis.set_ylim(low, high)
    axis.set_xlim(first / 1.25, last * (last / first) ** (0.1 + 0.022 * max(map(len, ends))))
    apart = (high / low) ** 0.075
    height = 0.0
    colours = {name: line.get_color() for name, line in zip(curves, axis.lines, strict=True)}
    for name, (count, cost) in sorted(ends.items(), key=lambda end: end[1][1]):
        height = max(cost, height * apart)
        offset = {"textcoords": "offset points", "xytext": (7, 0), "va": "center"}
        axis.annotate(name, (count, height), color=colours[name], fontsize=8.5, **offset)


def plain_ticks(axis: Any) -> None:
    """Labels a logarithmic axis as 1, 10, 100, with 2 and 5 between where it is short."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    low, high = axis.get_view_interval()
    steps = (1.0, 2.0, 5.0) if high / low < 200 else (1.0,)
    axis.set_major_locator(LogLocator(subs=steps, numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
