"""The plot of the paper's Figure 3: what transfer gains over a class-agnostic head,
against how many classes have masks.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from halfmask.pictures.save import save_figure

TEXT, LINE, POINT = "#30343A", "#0072B2", "#9AB8D0"


def gain_plot(
    points: Mapping[int, Sequence[float]],
    classes: int,
    out: str | Path,
    masks: Mapping[int, float] | None = None,
) -> Path:
    """Draws relative gains in mask AP on B.

    Args:
        points: |A| → one gain for each seed and split, 0.5 = half as much again as the
            class-agnostic head.
        classes: A ∪ B.
        out: the .png or .svg to write.
        masks: |A| → masks of a class of A, the second axis, above; None: no such axis.
    """
    from matplotlib.figure import Figure  # no pyplot: no window system, no global state
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axis = figure.subplots()
    sizes = sorted(points)
    for size in sizes:
        axis.plot(
            [size] * len(points[size]), points[size], "o", color=POINT, markersize=4, zorder=2
        )
    means = [statistics.fmean(points[size]) for size in sizes]
    axis.plot(sizes, means, "-o", color=LINE, linewidth=1.8, markersize=6, zorder=3)
    axis.axhline(0, color=TEXT, linewidth=0.8)
    axis.set_xticks(sizes)
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.set_xlabel(f"classes with masks, |A| of {classes}", color=TEXT)
    if masks is not None:
        above = axis.secondary_xaxis("top")
        above.set_xticks(sizes, [f"{masks[size]:.0f}" for size in sizes])
        above.set_xlabel("masks per class of A, mean", color=TEXT, fontsize=8)
        above.tick_params(labelsize=8, length=0)
        above.spines["top"].set_visible(False)
    axis.set_title(
        "Gain of transfer over class-agnostic, mask AP on B",
        fontsize=10,
        loc="left",
        color=TEXT,
        pad=10,
    )
    axis.text(
        0.99,
        0.97,
        "line: mean; dots: seeds × splits",
        ha="right",
        va="top",
        transform=axis.transAxes,
        fontsize=8,
        color=TEXT,
    )
    axis.grid(axis="y", color="#E3E6EA", zorder=0)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    return save_figure(figure, out)
