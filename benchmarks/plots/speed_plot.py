"""The plot of `bench inference`: how much each way does in a second."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.plots.class_plot import PEER_LINE
from benchmarks.plots.gain_plot import LINE, TEXT
from halfmask.pictures.save import save_figure


def speed_plot(
    panels: Mapping[str, Mapping[str, float]], out: Path, ours: str | tuple[str, ...] = "halfmask"
) -> Path:
    """Draws a panel of horizontal bars for each title.

    Args:
        panels: title → who → how much in a second; a span of more than 30 is drawn on a
            logarithmic axis.
        out: the .png or .svg to write.
        ours: names that begin so have the project's colour.
    """
    from matplotlib.figure import Figure  # no pyplot: no window system, no global state

    most = max(len(bars) for bars in panels.values())
    figure = Figure(figsize=(9.6, 0.8 + 0.36 * most), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, bars) in zip(axes, panels.items(), strict=True):
        names, values = list(bars)[::-1], list(bars.values())[::-1]
        colours = [LINE if name.startswith(ours) else PEER_LINE for name in names]
        axis.barh(names, values, color=colours, height=0.62, zorder=2)
        wide = max(values) > 30 * min(values)
        if wide:
            axis.set_xscale("log")
        axis.set_xlim(min(values) / 2 if wide else 0, max(values) * (4 if wide else 1.25))
        for row, value in enumerate(values):
            axis.annotate(
                f"{value:.3g}",
                (value, row),
                textcoords="offset points",
                xytext=(4, 0),
                va="center",
                fontsize=8,
                color=TEXT,
            )
        axis.set_title(title, fontsize=10, loc="left", color=TEXT)
        axis.tick_params(labelsize=8, colors=TEXT)
        axis.grid(axis="x", color="#E3E6EA", zorder=0)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    return save_figure(figure, out)
