"""Sections of RUN/report.html about the quality of the masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from halfmask.data.dataset import CocoInstances
from halfmask.evaluation.measures.given_boxes import IouTable
from halfmask.evaluation.measures.metrics import compute_metrics
from halfmask.evaluation.sheet import example_blocks
from halfmask.pictures.curves import ab_bars, score
from halfmask.pictures.report import Bars, Chart, ReportSection, Strip, Table
from halfmask.training.data import TrainingData
from halfmask.training.held_out import drawn_masks, segment_with
from halfmask.training.job import TrainingJob

SHOWN_IMAGES = 200
"""Examples come from at most so many held-out photographs, which are segmented again."""
EACH = 6
SETS = {"A": "with masks (A)", "B": "boxes only (B)", "all": "all classes"}


def numbers(last: dict[str, Any], data: TrainingData, out: Path) -> ReportSection:
    """Returns the last evaluation for A, B and all classes."""
    title = "What a class loses that had only boxes"
    if not last:
        return ReportSection(
            title=title,
            text=[
                "No image was held out of this training, so nothing was measured. "
                "data.development=0.1 in the recipe holds a tenth out; "
                "the verb evaluate measures on any other file."
            ],
        )
    columns, rows = _measures(last)
    note = (
        "Mask IoU in [0, 1], in the true boxes; AP in percent, of a model that finds boxes. "
        "A dash: no such mask is held out."
    )
    chart = ab_bars({"this run": last}, out / "ab_bars.png")
    text = [
        f"Measured on {amount_of(len(data.development or ()), 'image')} that no step of the "
        "training saw."
    ]
    if score(last, "given_boxes", "B", "miou") is None:
        text.append(
            "The held-out images have no masks of the box-only classes, so these could not be "
            "measured here. hide=5 estimates them."
        )
    return ReportSection(
        title=title,
        text=text,
        table=Table(columns, rows, note),
        charts=[Chart(chart, "A had masks in training, B had only boxes")],
    )


def _measures(last: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Returns columns and rows for A, B and all, without measures that none of them has."""
    measures = {
        "box AP": ("box", "AP", ".1f"),
        "mask AP": ("mask", "AP", ".1f"),
        "mask AP50": ("mask", "AP50", ".1f"),
        "mask IoU": ("given_boxes", "miou", ".3f"),
        "objects": ("given_boxes", "instances", ".0f"),
    }
    known = {
        title: (block, key, form)
        for title, (block, key, form) in measures.items()
        if any(score(last, block, name, key) is not None for name in SETS)
    }
    rows = []
    for name, shown in SETS.items():
        values = [(score(last, block, name, key), form) for block, key, form in known.values()]
        rows.append([shown, *("–" if v is None else format(v, form) for v, form in values)])
    return ["classes", *known], rows


def estimate(quality: dict[str, Any] | None, out: Path) -> ReportSection | None:
    """Returns the estimate for box-only classes; None without quality.json."""
    if quality is None:
        return None
    expected, rows = quality["estimate"], sorted(quality["hidden"], key=lambda row: -row["miou"])
    text = [
        f"The masks of {amount_of(len(rows), 'class', 'classes')} were hidden from a first "
        "training, which was then measured on them: expect "
        f"a mean IoU of {expected['miou']:.2f} (95 %: {expected['low']:.2f} to "
        f"{expected['high']:.2f}) where there are only boxes.",
        "The model scores each of its masks. On the left: does the score say the IoU? On the "
        "right: how good are the masks that are left "
        "when only the best-scored are kept?",
    ]
    bars = Bars(
        ["mask IoU, %"], [(f"{row['name']} ({row['objects']})", "", [row["miou"]]) for row in rows]
    )
    plot = out / "reliability.png"
    charts = [Chart(plot, "how far the quality score can be trusted")] if plot.is_file() else []
    return ReportSection(
        title="What to expect of classes without masks", text=text, bars=bars, charts=charts
    )


def mask_examples(job: TrainingJob, last: dict[str, Any]) -> ReportSection | None:
    """Returns the best, median and worst masks on held-out photographs.

    The masks are of B's classes if the photographs have true ones.

    Raises:
        InputError: a photograph cannot be read.
    """
    data, held = job.data, job.data.development
    if held is None or not score(last, "given_boxes", "all", "instances"):
        return None
    dataset = CocoInstances(held.file, held.folder, held.image_ids[:SHOWN_IMAGES], use=held.use)
    ious, segment = IouTable(), segment_with(job.model)
    compute_metrics(
        dataset.file,
        given=drawn_masks(segment, dataset, 0, progress=job.options.progress),
        masked=data.masked,
        use=dataset.use,
        ious=ious,
    )
    box_only = {c["id"] for c in data.categories} - data.masked
    shown = [c for c in ious.categories if c in box_only]
    blocks = example_blocks(
        dataset,
        segment,
        ious,
        classes=box_only if shown else None,
        each=EACH,
        progress=job.options.progress,
    )
    whose = "classes that had only boxes" if shown else "all classes"
    text = (
        f"Out of {amount_of(len(shown) or len(ious.categories), 'mask')} of {whose}, on "
        f"{amount_of(len(dataset), 'held-out photograph')}. Pink: "
        "the model's mask. White line: the true one. Yellow: the box that was given."
    )
    strips = [
        Strip(
            [(cell.picture, f"{cell.name} · IoU {cell.iou:.2f}") for cell in cells],
            heading.capitalize().replace(" iou ", " IoU "),
        )
        for heading, cells in blocks
        if cells
    ]
    return ReportSection(title="Its best, middling and worst masks", text=[text], strips=strips)


def amount_of(number: int, noun: str, many: str = "") -> str:
    """For example ``1 class``, ``1,200 classes``."""
    return f"{number:,} {noun if number == 1 else many or noun + 's'}"
