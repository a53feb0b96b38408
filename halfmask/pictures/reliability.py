"""A quality score in one picture: does it say the IoU (left), and what is left when
only the best-scored masks are kept (right)?
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halfmask.errors import InputError
from halfmask.pictures.save import save_figure

TEXT, FAINT, SCORE, BAD = "#30343A", "#9AA3AD", "#0072B2", "#D55E00"


def reliability_plot(block: Mapping[str, Any], out: str | Path, title: str) -> Path:
    """Draws the reliability diagram and the coverage curve.

    Args:
        block: what `evaluation.reliability.reliability` gives.
        out: the .png or .svg to write.
        title: which masks these are.
    Raises:
        InputError: there is no mask to draw.
    """
    if not block["instances"]:
        raise InputError(f"{out}: no mask with a known truth, so no reliability diagram")
    from matplotlib.figure import Figure  # no pyplot: no window system, no global state

    figure = Figure(figsize=(8.0, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _plot_bins(left, block)
    _plot_coverage(right, block)
    for axis in (left, right):
        axis.grid(color="#E3E6EA", linewidth=0.8, zorder=0)
        axis.tick_params(labelsize=10, colors=TEXT)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    figure.suptitle(title, fontsize=12, x=0.01, ha="left", color=TEXT)
    return save_figure(figure, out)


def _plot_bins(axis: Any, block: Mapping[str, Any]) -> None:
    bins = block["bins"]
    scores, ious = [b["score"] for b in bins], [b["iou"] for b in bins]
    # Twice the standard error of each bin's mean: where its point could as well lie.
    doubt = [2 * b["deviation"] / b["instances"] ** 0.5 for b in bins]
    low = min(0.5, *(v - d for v, d in zip(ious, doubt, strict=True)), *scores)
    low = max(0.0, round(low * 10 - 0.5) / 10)
    axis.plot([0, 1], [0, 1], "--", color=FAINT, linewidth=1.2, zorder=2, label="score = IoU")
    axis.errorbar(
        scores,
        ious,
        yerr=doubt,
        fmt="o",
        color=SCORE,
        markersize=6,
        capsize=3,
        linewidth=1.4,
        zorder=3,
        label=f"{len(bins)} bins of equal count, ± 2 s.e.",
    )
    axis.set(xlim=(low, 1), ylim=(low, 1), aspect="equal")
    axis.set_xlabel("mean score", fontsize=11, color=TEXT)
    axis.set_ylabel("mean true IoU", fontsize=11, color=TEXT)
    _head(
        axis,
        "Reliability",
        {"calibration_error": "calibration error {:.3f}", "spearman": "Spearman {:.2f}"},
        block,
    )
    axis.legend(loc="lower right", fontsize=9, frameon=False)


def _plot_coverage(axis: Any, block: Mapping[str, Any]) -> None:
    from matplotlib.ticker import PercentFormatter

    rows = block["coverage"]
    shares = [r["share"] for r in rows]
    lines = (
        ("miou", "-o", SCORE, "their mean IoU"),
        ("bad", "-s", BAD, "share of them with IoU < 0.5"),
    )
    for key, style, colour, label in lines:
        # Not clipped: a share of 0 is a point on the axis.
        values = [r[key] for r in rows]
        axis.plot(
            shares,
            values,
            style,
            color=colour,
            linewidth=1.8,
            markersize=5,
            label=label,
            clip_on=False,
            zorder=3,
        )
    axis.set(xlim=(0, 1.03), ylim=(0, 1))
    axis.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.set_xlabel("best-scored masks that are kept", fontsize=11, color=TEXT)
    _head(axis, "Coverage", {"bad_found": "{:.0%} of IoU < 0.5 in the worst-scored fifth"}, block)
    axis.legend(loc="center", bbox_to_anchor=(0.5, 0.45), fontsize=9, frameon=False)


def _head(axis: Any, name: str, forms: Mapping[str, str], block: Mapping[str, Any]) -> None:
    """A panel's title with its numbers, key → how to write it."""
    known = [form.format(block[key]) for key, form in forms.items() if block[key] is not None]
    axis.set_title(f"{name}\n" + ", ".join(known), fontsize=10, loc="left", color=TEXT)
