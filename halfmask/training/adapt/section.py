"""The part of RUN/report.html about an adaptation, and a page if nothing was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from halfmask._version import __version__
from halfmask.pictures.report import Bars, Chart, Headline, Page, ReportSection, Table, write_report

NAMES = {
    "box": "the box",
    "ellipse": "an ellipse in it",
    "start": "the model as it is",
    "adapted": "the adapted model",
}


def adaptation_section(out: Path, state: dict[str, Any]) -> ReportSection:
    """Returns what adapting gave, and what to expect of objects without masks.

    Args:
        out: folder of the run.
        state: what adaptation.json holds.
    """
    text = [_held_out_text(state.get("held_out")), f"{state['reason'].capitalize()}."]
    expected = state.get("expected")
    if expected is not None:
        text.append(
            f"Expect a mean IoU of {expected['miou']:.2f} (95 %: {expected['low']:.2f} to "
            f"{expected['high']:.2f}) on objects without masks. The estimate is the mean of the "
            "model's own scores; its interval says how far classes lie from their scores."
        )
    held, plot = state.get("held_out"), out / "reliability.png"
    bars = None
    if held is not None:
        groups = [(name, "", [held[key]]) for key, name in NAMES.items() if held[key] is not None]
        bars = Bars(["mean IoU, %"], groups, f"{held['masks']} held-out masks, true boxes given.")
    charts = [Chart(plot, "how far the quality score can be trusted")] if plot.is_file() else []
    return ReportSection(title="Does adapting help?", text=text, bars=bars, charts=charts)


def _held_out_text(held: dict[str, Any] | None) -> str:
    if held is None:
        return "There are too few masks to hold some back, so nothing was measured."
    if held["by"] == "nothing":
        return f"The model as it is was measured on {held['masks']} masks of the data."
    if held["by"] == "classes":
        whose = f"of {held['classes']} classes ({', '.join(held['names'])})"
        how = "without the masks of some of these classes"
    else:
        whose, how = f"on {held['photographs']} photographs", "without a third of the photographs"
    return (
        f"Two short trainings, each {how}, were measured on {held['masks']} masks {whose} that "
        "they had not seen."
    )


def adaptation_headlines(state: dict[str, Any]) -> list[Headline]:
    """Returns the expected IoU, and both models' on held-out masks."""
    heads, expected, held = [], state.get("expected"), state.get("held_out")
    if expected is not None:
        note = f"95 %: {100 * expected['low']:.0f} to {100 * expected['high']:.0f}"
        label = "mask IoU to expect on objects without masks"
        heads.append(Headline(f"{100 * expected['miou']:.0f}", "%", label, note))
    if held is not None:
        note = f"{held['masks']} held-out masks, true boxes given"
        for key in ("adapted", "start"):
            if held[key] is None:
                continue
            label = f"mask IoU of {NAMES[key]}"
            heads.append(Headline(f"{100 * held[key]:.0f}", "%", label, note))
    return heads


def report_kept_start(out: Path, state: dict[str, Any]) -> Path:
    """Writes report.html of a run that keeps the starting model."""
    n = state["learned_from"]
    table = Table(
        ["", "count"],
        [
            ("masks", f"{n['masks']:,}"),
            ("photographs with masks", f"{n['photographs']:,}"),
            ("objects without a mask", f"{n['boxes_without_masks']:,}"),
        ],
    )
    page = Page(
        title="adapt",
        lead=f"The run holds {state['init']} as it is: no training made it better.",
        headlines=adaptation_headlines(state),
        sections=[
            adaptation_section(out, state),
            ReportSection(title="What the data hold", table=table),
        ],
        facts=[("Versions", f"halfmask {__version__}")],
    )
    return write_report(page, out / "report.html")
