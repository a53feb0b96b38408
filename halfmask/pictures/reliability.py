"""A picture of how well the model's score predicts the IoU of its masks.

Left: score against IoU. Right: the quality of the best-scored masks, by how many of
them are kept.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from halfmask.errors import InputError
from halfmask.pictures.save import new_figure, save_figure
from halfmask.text import plural

BELOW: dict[str, Any] = {
    "loc": "upper center",
    "bbox_to_anchor": (0.5, -0.15),
    "fontsize": 9,
    "frameon": False,
}
"""Legends stand below their axes, where no point can lie beneath them."""
TITLE = 88
"""Characters in a line of the title."""
NOTE = 112
"""Characters in a line of the note at the bottom."""
BARS = (
    "± 2 s.e.: each bar reaches two standard errors (the spread of the IoUs in the bin, divided by "
    "the root of their number) to both sides of the mean. In about 95 of 100 such samples "
    "it holds the true mean."
)
TEXT, FAINT, SCORE, BAD = "#30343A", "#9AA3AD", "#0072B2", "#D55E00"


def reliability_plot(block: Mapping[str, Any], out: str | Path, title: str) -> Path:
    """Draws the reliability diagram and the coverage curve, and returns the path.

    Args:
        block: The measures that `evaluation.measures.reliability.reliability` returns.
        out: The .png or .svg to write.
        title: Says which masks these are.
    Raises:
        InputError: There is no mask to draw, or the file cannot be written.
    """
    if not block["instances"]:
        raise InputError(f"{out}: no reliability diagram, since no mask has a known truth")
    figure = new_figure(figsize=(8.0, 5.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    _plot_bins(left, block)
    _plot_coverage(right, block)
    for axis in (left, right):
        axis.grid(color="#E3E6EA", linewidth=0.8, zorder=0)
        axis.tick_params(labelsize=10, colors=TEXT)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    if not _one_mask_each(block["bins"]):
        figure.supxlabel(textwrap.fill(BARS, NOTE), fontsize=8.5, x=0.01, ha="left", color=TEXT)
    figure.suptitle(textwrap.fill(title, TITLE), fontsize=12, x=0.01, ha="left", color=TEXT)
    return save_figure(figure, out)


def _plot_bins(axis: Any, block: Mapping[str, Any]) -> None:
    bins = block["bins"]
    scores, ious = [b["score"] for b in bins], [b["iou"] for b in bins]
    # Two standard errors of the bin's mean IoU: about a 95 % interval.
    margins = [2 * b["deviation"] / b["instances"] ** 0.5 for b in bins]
    low = min(0.5, *(v - d for v, d in zip(ious, margins, strict=True)), *scores)
    low = max(0.0, round(low * 10 - 0.5) / 10)
    axis.plot([0, 1], [0, 1], "--", color=FAINT, linewidth=1.2, zorder=2, label="score = IoU")
    axis.errorbar(
        scores,
        ious,
        yerr=margins,
        fmt="o",
        color=SCORE,
        markersize=6,
        capsize=3,
        linewidth=1.4,
        zorder=3,
        label=_what_bins_are(bins),
    )
    axis.set(xlim=(low, 1), ylim=(low, 1), aspect="equal")
    axis.set_xlabel("mean score", fontsize=11, color=TEXT)
    axis.set_ylabel("mean true IoU", fontsize=11, color=TEXT)
    forms = {"calibration_error": "calibration error {:.3f}", "spearman": "rank correlation {:.2f}"}
    _head(axis, "Reliability", forms, block=block)
    axis.legend(**BELOW)


def _what_bins_are(bins: Sequence[Mapping[str, Any]]) -> str:
    if _one_mask_each(bins):
        return "one mask each"
    return f"{plural(len(bins), 'bin')} of equal count, ± 2 s.e."


def _one_mask_each(bins: Sequence[Mapping[str, Any]]) -> bool:
    """Whether no bin has a deviation, so that there are no bars to explain."""
    return all(b["instances"] == 1 for b in bins)


def _plot_coverage(axis: Any, block: Mapping[str, Any]) -> None:
    from matplotlib.ticker import PercentFormatter

    rows = block["coverage"]
    shares = [r["share"] for r in rows]
    lines = (
        ("miou", "-o", SCORE, "mean IoU of the kept masks"),
        ("bad", "-s", BAD, "share of bad ones (IoU < 0.5)"),
    )
    for key, style, colour, label in lines:
        values = [r[key] for r in rows]
        axis.plot(
            shares,
            values,
            style,
            color=colour,
            linewidth=1.8,
            markersize=5,
            label=label,
            clip_on=False,  # a share of 0 lies on the axis
            zorder=3,
        )
    axis.set(xlim=(0, 1.03), ylim=(0, 1))
    axis.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.set_xlabel("share of masks kept, best-scored first", fontsize=11, color=TEXT)
    forms = {"bad_found": "{:.0%} of bad masks are in the worst-scored fifth"}
    nothing_bad = "no mask has an IoU below 0.5"
    _head(axis, "Coverage", forms, block=block, otherwise=nothing_bad)
    axis.legend(**BELOW)


def _head(
    axis: Any, name: str, forms: Mapping[str, str], *, block: Mapping[str, Any], otherwise: str = ""
) -> None:
    """Writes a panel's title and below it the numbers of `forms` (key → format).

    `otherwise` stands there where none of them is known.
    """
    known = [form.format(block[key]) for key, form in forms.items() if block[key] is not None]
    axis.set_title(
        f"{name}\n" + (", ".join(known) or otherwise), fontsize=10, loc="left", color=TEXT
    )
