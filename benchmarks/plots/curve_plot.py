"""The plot of `bench classes`: what the number of classes costs the mask branch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.plots.gain_plot import LINE, TEXT
from halfmask.pictures.save import save_figure

PEER_LINE = "#D55E00"


def class_plot(
    time: Mapping[str, Mapping[int, float]], memory: Mapping[str, Mapping[int, float]], out: Path
) -> Path:
    """Draws two panels over the number of classes, logarithmic both ways.

    Args:
        time: who → classes → ms of a step; memory: the same in MiB.
        out: the .png or .svg to write.
    """
    from matplotlib.figure import Figure  # no pyplot: no window system, no global state

    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    for axis, (title, curves) in zip(
        figure.subplots(1, 2), (("Step, ms", time), ("Peak memory, MiB", memory)), strict=True
    ):
        for (name, points), colour in zip(curves.items(), (LINE, PEER_LINE), strict=False):
            counts = sorted(points)
            axis.loglog(
                counts, [points[c] for c in counts], "-o", color=colour, markersize=5, linewidth=1.8
            )
            axis.annotate(
                name,
                (counts[-1], points[counts[-1]]),
                textcoords="offset points",
                xytext=(-4, 8),
                ha="right",
                color=colour,
            )
        axis.set_title(f"Mask branch: {title}", fontsize=10, loc="left", color=TEXT)
        axis.set_xlabel("classes", color=TEXT)
        low, high = axis.get_ylim()
        axis.set_ylim(low / 1.5, high * 1.5)
        axis.grid(color="#E3E6EA", zorder=0)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    return save_figure(figure, out)
