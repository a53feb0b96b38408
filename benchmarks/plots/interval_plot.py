"""A plot of differences: a dot and its interval for each row, beside the line of none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.plots.gain_plot import LINE, TEXT
from halfmask.pictures.save import new_figure, save_figure

GREY = "#8A929C"


def interval_plot(rows: Mapping[str, tuple[float, float]], title: str, out: Path) -> Path:
    """Draws one line for each row, in the order given.

    Args:
        rows: name → difference and half its interval; an interval that does not reach
            zero has the project's colour, any other is grey.
        title: of the plot, with the unit.
        out: the .png or .svg to write.
    """
    figure = new_figure(figsize=(9.6, 0.9 + 0.27 * len(rows)), layout="constrained")
    axis = figure.subplots()
    names = list(rows)[::-1]
    for height, name in enumerate(names):
        value, half = rows[name]
        colour = LINE if abs(value) > half else GREY
        axis.plot([value - half, value + half], [height, height], color=colour, linewidth=1.8)
        axis.plot([value], [height], "o", color=colour, markersize=6, zorder=3)
        axis.annotate(
            f"{value:+.1f}" if abs(value) >= 0.05 else "0.0",
            (value + half, height),
            textcoords="offset points",
            xytext=(7, 0),
            va="center",
            fontsize=8,
            color=TEXT,
        )
    axis.axvline(0, color=TEXT, linewidth=0.8)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(-0.7, len(names) - 0.3)
    axis.margins(x=0.08)
    axis.set_title(title, fontsize=10, loc="left", color=TEXT)
    axis.tick_params(labelsize=8, colors=TEXT)
    axis.grid(axis="x", color="#E3E6EA", zorder=0)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    return save_figure(figure, out)
