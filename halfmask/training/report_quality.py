"""Sections of RUN/report.html about the quality of the masks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halfmask.data.dataset import CocoInstances
from halfmask.evaluation.measures.given_boxes import IouTable
from halfmask.evaluation.measures.metrics import compute_metrics
from halfmask.evaluation.samples import training_samples
from halfmask.evaluation.sheet import example_blocks, focus_of
from halfmask.pictures.curves import score
from halfmask.pictures.report import Bars, Chart, ReportSection, Strip, Table
from halfmask.pictures.sets import shown_sets
from halfmask.training.data import TrainingData
from halfmask.training.held_out import drawn_masks, segment_with
from halfmask.training.job import TrainingJob

SHOWN_IMAGES = 200
"""Examples come from at most so many held-out photographs, which are segmented again."""
EACH = 6


def numbers(last: dict[str, Any], data: TrainingData) -> ReportSection:
    """Returns the last evaluation, by the masks in training and for all classes."""
    title = "Quality by masks in training"
    if not last:
        return ReportSection(
            title=title,
            text=[
                "No image was held out of this training, so nothing was measured. "
                "data.development=0.1 in the recipe holds a tenth out; "
                "halfmask evaluate measures on any other file."
            ],
        )
    sets = shown_sets(last)
    columns, rows = _measures(sets)
    note = (
        "Mask IoU in [0, 1], in the true boxes; boundary IoU is that of the bands along both "
        "borders. AP in percent, of a model that finds boxes. "
        "A dash: no such mask is held out."
    )
    text = [
        f"Measured on {amount_of(len(data.development or ()), 'image')} that no step of the "
        "training saw."
    ]
    without = data.given.members()["no_masks"]
    if without and score(last, "groups", "no_masks", "given_boxes", "miou") is None:
        text.append(
            "The held-out images have no masks of the classes without masks in training, so "
            "these could not be measured here. hide=5 estimates them."
        )
    return ReportSection(title=title, text=text, table=Table(columns, rows, note), bars=_bars(sets))


def _bars(sets: Mapping[str, Mapping[str, Any]]) -> Bars | None:
    """Returns bars to compare the sets; None where fewer than two are measured."""
    known = {
        title: [score(measures, "given_boxes", *keys) for keys in (("miou",), ("boundary", "miou"))]
        for title, measures in sets.items()
    }
    groups = [(title, "", values) for title, values in known.items() if values[0] is not None]
    return Bars(["mask IoU, %", "boundary IoU, %"], groups) if len(groups) > 2 else None


def _measures(sets: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Returns columns and a row for each set, without measures that none of them has."""
    measures = {
        "box AP": (("box", "AP"), ".1f"),
        "mask AP": (("mask", "AP"), ".1f"),
        "mask AP50": (("mask", "AP50"), ".1f"),
        "boundary AP": (("boundary", "AP"), ".1f"),
        "mask IoU": (("given_boxes", "miou"), ".3f"),
        "boundary IoU": (("given_boxes", "boundary", "miou"), ".3f"),
        "objects": (("given_boxes", "instances"), ".0f"),
    }
    known = {
        title: (keys, form)
        for title, (keys, form) in measures.items()
        if any(score(measures, *keys) is not None for measures in sets.values())
    }
    rows = []
    for shown, blocks in sets.items():
        values = [(score(blocks, *keys), form) for keys, form in known.values()]
        rows.append([shown, *("–" if v is None else format(v, form) for v, form in values)])
    return ["classes", *known], rows


def estimate(quality: dict[str, Any] | None, out: Path) -> ReportSection | None:
    """Returns the estimate for classes without masks; None without quality.json."""
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

    They are of the classes with the fewest masks in training: see `focus_of`. Where no
    mask is held out they are from the training file: see `training_samples`.

    Raises:
        InputError: a photograph cannot be read.
    """
    data, held = job.data, job.data.development
    if held is None or not score(last, "given_boxes", "all", "instances"):
        segment = segment_with(job.model)
        return training_samples(data.training, segment, progress=job.options.progress)
    dataset = CocoInstances(held.file, held.folder, held.image_ids[:SHOWN_IMAGES], use=held.use)
    ious, segment = IouTable(), segment_with(job.model)
    compute_metrics(
        dataset.file,
        given=drawn_masks(segment, dataset, 0, progress=job.options.progress),
        masked=data.masked,
        use=dataset.use,
        ious=ious,
    )
    focus = focus_of(ious, data.given, data.masked)
    blocks = example_blocks(
        dataset, segment, ious, classes=focus.classes, each=EACH, progress=job.options.progress
    )
    text = (
        f"Out of {amount_of(focus.masks, 'mask')} of {focus.title}, on "
        f"{amount_of(len(dataset), 'held-out photograph')}. Pink: "
        "the model's mask. White line: the true one. Yellow: the box that was given."
    )
    strips = [
        Strip(
            [(cell.picture, f"{cell.name} · {cell.agreement}") for cell in cells],
            heading.capitalize().replace(" iou ", " IoU "),
        )
        for heading, cells in blocks
        if cells
    ]
    return ReportSection(title="Its best, middling and worst masks", text=[text], strips=strips)


def amount_of(number: int, noun: str, many: str = "") -> str:
    """For example ``1 class``, ``1,200 classes``."""
    return f"{number:,} {noun if number == 1 else many or noun + 's'}"
