"""The part of RUN/report.html about an adaptation, and a page if nothing was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from halfmask._version import __version__
from halfmask.pictures.report import Bars, Chart, Headline, Page, ReportSection, Table, write_report
from halfmask.text import plural

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
    reason = state["reason"]
    text = [_held_out_text(state.get("held_out")), f"{reason[0].upper()}{reason[1:]}."]
    expected = state.get("expected")
    if expected is not None:
        text.append(
            f"Expect a mean IoU of {100 * expected['miou']:.0f} % on objects without masks (95 % "
            f"interval: {100 * expected['low']:.0f} to {100 * expected['high']:.0f}). The estimate "
            "is the mean of the model's own scores; the interval says how far a class can lie "
            "from its scores."
        )
    held, plot = state.get("held_out"), out / "reliability.png"
    bars = None
    if held is not None:
        groups = [(name, "", [held[key]]) for key, name in NAMES.items() if held[key] is not None]
        bars = Bars(["mean IoU, %"], groups, f"{_masks_of(held)}, true boxes given.")
    charts = [Chart(plot, "how far the quality score can be trusted")] if plot.is_file() else []
    return ReportSection(title="Does adapting help?", text=text, bars=bars, charts=charts)


def _masks_of(held: dict[str, Any]) -> str:
    masks = plural(held["masks"], "mask" if held["by"] == "nothing" else "held-out mask")
    return f"{masks} of the data" if held["by"] == "nothing" else masks


def _held_out_text(held: dict[str, Any] | None) -> str:
    if held is None:
        return "The data have no mask, so nothing was measured."
    if held["by"] == "nothing":
        return f"The model as it is was measured on {_masks_of(held)}."
    unseen, new = held["unseen_classes"], held["new_photographs"]
    text = "Two short trainings each left out a third of the photographs"
    if held["by"] == "classes":
        text += f" and all masks of some classes (of {', '.join(held['names'])})"
    text += f". They were measured on {_masks_of(held)}."
    for part, where in ((new, "on new photographs"), (unseen, "of classes without any mask")):
        if part is not None:
            start, adapted = 100 * part["start"], 100 * part["adapted"]
            text += (
                f" {plural(part['masks'], 'mask').capitalize()} {where}: the mean IoU went from "
                f"{start:.1f} to {adapted:.1f} %."
            )
    return text


def adaptation_headlines(state: dict[str, Any]) -> list[Headline]:
    """Returns the expected IoU, and both models' on held-out masks."""
    heads, expected, held = [], state.get("expected"), state.get("held_out")
    if expected is not None:
        note = f"95 % interval: {100 * expected['low']:.0f} to {100 * expected['high']:.0f}"
        label = "mask IoU to expect on objects without masks"
        heads.append(Headline(f"{100 * expected['miou']:.0f}", "%", label, note))
    if held is not None:
        note = f"{_masks_of(held)}, true boxes given"
        for key in ("adapted", "start"):
            if held[key] is None:
                continue
            label = f"mask IoU of {NAMES[key]}"
            heads.append(Headline(f"{100 * held[key]:.0f}", "%", label, note))
    return heads


def report_kept_start(
    out: Path, state: dict[str, Any], samples: ReportSection | None = None
) -> Path:
    """Writes report.html of a run that keeps the starting model, with sample masks."""
    n, held = state["learned_from"], state.get("held_out")
    trained = held is not None and held["adapted"] is not None
    why = "adapting it did not help enough" if trained else "the masks are too few to adapt it"
    table = Table(
        [],
        [
            ("masks", f"{n['masks']:,}"),
            ("photographs with masks", f"{n['photographs']:,}"),
            ("classes with masks", f"{n['classes']:,}"),
            ("objects without a mask", f"{n['boxes_without_masks']:,}"),
            ("classes without a mask", f"{n['classes_without_masks']:,}"),
        ],
    )
    page = Page(
        title="Adapted or as it is?",
        lead=f"The run holds {state['init']} as it is: {why}.",
        headlines=adaptation_headlines(state),
        sections=[
            adaptation_section(out, state),
            *([] if samples is None else [samples]),
            ReportSection(title="What the data hold", table=table),
        ],
        facts=[("Versions", f"halfmask {__version__}")],
    )
    return write_report(page, out / "report.html")
