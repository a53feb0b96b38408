"""RUN/report.html: what a run learned from, how good it is with and without masks, what
its masks look like.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from halfmask._version import __version__
from halfmask.errors import InputError
from halfmask.pictures.curves import ab_bars, score
from halfmask.pictures.report import (
    Bars,
    Chart,
    Headline,
    Page,
    Section,
    Strip,
    Table,
    write_report,
)

if TYPE_CHECKING:
    from halfmask.models.base import SegmentationModel
    from halfmask.recipes.recipe import Recipe
    from halfmask.structures import Detection, Target
    from halfmask.training.data import TrainingData

REPORT = "report.html"
SHOWN_IMAGES = 200
"""Held-out photographs among which examples are looked for, at most: they are segmented
once more.
"""
EACH, HEADLINES = 6, 4
NAMED = 12
BATCH = 4
SETS = {"A": "with masks (A)", "B": "boxes only (B)", "all": "all classes"}

Segment = Callable[[list[Tensor], list["Target"]], list["Detection"]]


def report_run(recipe: Recipe, data: TrainingData, model: SegmentationModel, out: Path) -> None:
    """Writes the page and says so. Without it the run itself is whole: a photograph
    that has gone meanwhile is no failure.
    """
    try:
        print(f"{write_run_report(recipe, data, model, out)}: what was learnt, how good it is")
    except InputError as error:
        print(f"no report: {error}")


def write_run_report(
    recipe: Recipe, data: TrainingData, model: SegmentationModel, out: Path
) -> Path:
    """Writes the page of a run that has just finished.

    Args:
        model: with the weights that were kept.
        out: the run's folder; its metrics.json, quality.json, curves.png and
            reliability.png are read, where they are there.
    Raises:
        InputError: a held-out photograph cannot be read.
    """
    last = _last(out / "metrics.json")
    quality = _read(out / "quality.json")
    sections = [
        _learned_from(data),
        _numbers(last, data, out),
        _estimate(quality, out),
        _examples(data, model, last),
    ]
    sections.append(_training(recipe, out))
    page = Page(
        title=recipe.name.replace("_", " "),
        lead=_lead(data),
        headlines=_headlines(last, quality),
        sections=[section for section in sections if section is not None],
        facts=_facts(recipe, data, model, last, out),
    )
    return write_report(page, out / REPORT)


def _last(path: Path) -> dict[str, Any]:
    entries = _read(path)
    return entries[-1] if isinstance(entries, list) and entries else {}


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _lead(data: TrainingData) -> str:
    box_only = len(data.categories) - len(data.masked)
    return (
        f"One model learned from {data.main.objects:,} boxes and {data.masks:,} masks. "
        f"{_count(len(data.masked), 'class', 'classes')} "
        f"had masks (A), {box_only} had only boxes (B); it draws masks for all of them."
    )


def _headlines(last: dict[str, Any], quality: dict[str, Any] | None) -> list[Headline]:
    heads = []
    for name, label in (
        ("B", "mask IoU on classes that had only boxes"),
        ("A", "mask IoU on classes that had masks"),
    ):
        value = score(last, "given_boxes", name, "miou")
        count = score(last, "given_boxes", name, "instances")
        if value is not None:
            heads.append(
                Headline(
                    f"{value * 100:.0f}",
                    "%",
                    label,
                    f"{count or 0:.0f} objects on held-out images, true boxes given",
                )
            )
    if quality is not None:
        estimate = quality["estimate"]
        note = f"95 %: {estimate['low'] * 100:.0f} to {estimate['high'] * 100:.0f}; from classes hidden in a first training"
        heads.append(
            Headline(
                f"{estimate['miou'] * 100:.0f}", "%", "mask IoU to expect on box-only classes", note
            )
        )
    for block, label in (("mask", "mask AP, all classes"), ("box", "box AP, all classes")):
        value = score(last, block, "all", "AP")
        if value is not None:
            heads.append(Headline(f"{value:.1f}", "", label, "on held-out images"))
    return heads[:HEADLINES]


def _learned_from(data: TrainingData) -> Section:
    held = 0 if data.development is None else len(data.development)
    counts = data.mask_counts
    ranked = sorted(data.categories, key=lambda c: -counts[c["id"]])
    with_masks = [f"{c['name']} ({counts[c['id']]})" for c in ranked if c["id"] in data.masked]
    without = [c["name"] for c in ranked if c["id"] not in data.masked]
    rows = [
        ("images to learn from", f"{len(data.training):,}"),
        ("images held out to measure on", f"{held:,}"),
        ("objects, each with a box", f"{data.main.objects:,}"),
        ("of them with a mask", f"{data.main.masks:,}"),
    ]
    rows += [(f"own data of stage {k + 1}: masks", f"{p.masks:,}") for k, p in data.own.items()]
    text = [
        f"With masks, and how many: {_listed(with_masks)}.",
        f"With boxes only: {_listed(without)}.",
    ]
    return Section("What it learned from", text, table=Table(["", "count"], rows))


def _numbers(last: dict[str, Any], data: TrainingData, out: Path) -> Section:
    title = "What a class loses that had only boxes"
    if not last:
        return Section(
            title,
            [
                "No image was held out of this training, so nothing was measured. "
                "data.development=0.1 in the recipe holds a tenth out; "
                "the verb evaluate measures on any other file."
            ],
        )
    columns, rows = _measures(last)
    note = "Mask IoU in [0, 1], in the true boxes; AP in percent, of a model that finds boxes. A dash: no such mask is held out."
    chart = ab_bars({"this run": last}, out / "ab_bars.png")
    text = [
        f"Measured on {_count(len(data.development or ()), 'image')} that no step of the "
        "training saw."
    ]
    if score(last, "given_boxes", "B", "miou") is None:
        text.append(
            "The held-out images have no masks of the box-only classes, so these could not be "
            "measured here. hide=5 estimates them."
        )
    return Section(
        title,
        text,
        table=Table(columns, rows, note),
        charts=[Chart(chart, "A had masks in training, B had only boxes")],
    )


def _measures(last: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of A, B and all; a measure that none of them has is left out."""
    measures = {
        "box AP": ("box", "AP", ".1f"),
        "mask AP": ("mask", "AP", ".1f"),
        "mask AP50": ("mask", "AP50", ".1f"),
        "mask IoU": ("given_boxes", "miou", ".3f"),
        "objects": ("given_boxes", "instances", ".0f"),
    }
    known = {
        n: m
        for n, m in measures.items()
        if any(score(last, m[0], s, m[1]) is not None for s in SETS)
    }
    rows = [
        [
            shown,
            *(_number(score(last, block, name, key), form) for block, key, form in known.values()),
        ]
        for name, shown in SETS.items()
    ]
    return ["classes", *known], rows


def _estimate(quality: dict[str, Any] | None, out: Path) -> Section | None:
    if quality is None:
        return None
    estimate, rows = quality["estimate"], sorted(quality["hidden"], key=lambda row: -row["miou"])
    text = [
        f"The masks of {_count(len(rows), 'class', 'classes')} were hidden from a first "
        "training, which was then measured on them: expect "
        f"a mean IoU of {estimate['miou']:.2f} (95 %: {estimate['low']:.2f} to "
        f"{estimate['high']:.2f}) where there are only boxes.",
        "The model scores each of its masks. On the left: does the score say the IoU? On the "
        "right: how good are the masks that are left "
        "when only the best-scored are kept?",
    ]
    bars = Bars(
        ["mask IoU, %"], [(f"{row['name']} ({row['objects']})", "", [row["miou"]]) for row in rows]
    )
    plot = out / "reliability.png"
    charts = [Chart(plot, "how far the quality score can be trusted")] if plot.is_file() else []
    return Section("What to expect of classes without masks", text, bars=bars, charts=charts)


def _examples(data: TrainingData, model: SegmentationModel, last: dict[str, Any]) -> Section | None:
    """The best, median and worst masks on held-out photographs, of B's classes where
    their masks are known.
    """
    if data.development is None or not score(last, "given_boxes", "all", "instances"):
        return None
    from halfmask.data.dataset import CocoInstances
    from halfmask.evaluation.measures.given_boxes import IouTable
    from halfmask.evaluation.measures.metrics import compute_metrics
    from halfmask.evaluation.sheet import example_blocks

    held = data.development
    dataset = CocoInstances(held.file, held.folder, held.image_ids[:SHOWN_IMAGES], use=held.use)
    ious, segment = IouTable(), _segment_with(model)
    compute_metrics(
        dataset.file, given=_given(dataset, segment), masked=data.masked, use=dataset.use, ious=ious
    )
    box_only = {c["id"] for c in data.categories} - data.masked
    shown = [c for c in ious.categories if c in box_only]
    blocks = example_blocks(dataset, segment, ious, box_only if shown else None, EACH)
    whose = "classes that had only boxes" if shown else "all classes"
    text = (
        f"Out of {_count(len(shown) or len(ious.categories), 'mask')} of {whose}, on "
        f"{_count(len(dataset), 'held-out photograph')}. Pink: "
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
    return Section("Its best, middling and worst masks", [text], strips=strips)


def _segment_with(model: Any) -> Segment:
    from halfmask.inference.predictor import on_cpu

    device = next(model.parameters()).device
    model.eval()

    @torch.no_grad()
    def segment(images: list[Tensor], targets: list[Target]) -> list[Detection]:
        given = [t.boxes.to(device) for t in targets], [t.labels.to(device) for t in targets]
        return [
            on_cpu(found) for found in model.segment([image.to(device) for image in images], *given)
        ]

    return segment


def _given(dataset: Any, segment: Segment) -> Iterator[tuple[int, Tensor, Detection]]:
    from halfmask.progress import tracked

    starts = range(0, len(dataset), BATCH)
    for start in tracked(starts, "masks for the report", len(starts), "batch"):
        pairs = [dataset[k] for k in range(start, min(start + BATCH, len(dataset)))]
        targets = [target for _, target in pairs]
        drawn = segment([image for image, _ in pairs], targets)
        yield from (
            (t.image_id, t.annotation_ids, found) for t, found in zip(targets, drawn, strict=True)
        )


def _training(recipe: Recipe, out: Path) -> Section:
    rows = [
        (
            stage.name,
            ", ".join(stage.train),
            stage.loss,
            f"{stage.steps:,} × {stage.batch_size}",
            f"{stage.optimiser.lr:g}",
        )
        for stage in recipe.stages
    ]
    curves = out / "curves.png"
    charts = [Chart(curves, "training curves")] if curves.is_file() else []
    return Section(
        "How it was trained",
        table=Table(["stage", "learns", "losses", "steps × batch", "rate"], rows),
        charts=charts,
    )


def _facts(
    recipe: Recipe, data: TrainingData, model: Any, last: dict[str, Any], out: Path
) -> list[tuple[str, str]]:
    device = next(model.parameters()).device
    machine = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {os.cpu_count()} cores"
    )
    seconds = score(last, "seconds")
    again = f"halfmask train {out / 'recipe.yaml'} --out NEW_FOLDER"
    took = (
        []
        if seconds is None
        else [("Training time", str(datetime.timedelta(seconds=round(seconds))))]
    )
    return [
        ("The same again", again),
        ("Measure elsewhere", f"halfmask evaluate {out} DATA.json --images DIR --given-boxes"),
        (
            "Fill in the masks",
            f"halfmask complete {out} {data.name} --images {recipe.data.images} --out masks.json",
        ),
        ("Recipe", f"{recipe.name}, seed {recipe.seed}, {recipe.model.kind}"),
        ("Data", data.name),
        *took,
        ("Machine", f"{machine}, {platform.system()} {platform.machine()}"),
        ("Versions", f"halfmask {__version__}, torch {torch.__version__}"),
        ("Written", datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")),
    ]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more if names else "none"


def _count(number: int, noun: str, many: str = "") -> str:
    return f"{number:,} {noun if number == 1 else many or noun + 's'}"


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
