"""RUN/report.html: training data, quality with and without masks, example masks."""

from __future__ import annotations

import datetime
import json
import logging
import os
import platform
from pathlib import Path
from typing import Any

import torch

from halfmask._version import __version__
from halfmask.errors import InputError
from halfmask.pictures.curves import score
from halfmask.pictures.report import Chart, Headline, Page, ReportSection, Table, write_report
from halfmask.recipes.recipe import Recipe
from halfmask.text import listed
from halfmask.training.adapt.section import adaptation_headlines, adaptation_section
from halfmask.training.data import TrainingData
from halfmask.training.job import TrainingJob
from halfmask.training.report_quality import amount_of, estimate, mask_examples, numbers

logger = logging.getLogger("halfmask")

HEADLINES = 4
NAMED = 12


def report_run(job: TrainingJob) -> None:
    """Writes RUN/report.html for a run that has just finished.

    Uses metrics.json, quality.json, curves.png and reliability.png of its folder if
    they exist. The run is complete without its report, so a missing photograph is only
    logged.
    """
    try:
        logger.info("%s: training data, and the quality of the masks", _write_report(job))
    except InputError as error:
        logger.info("no report: %s", error)


def _write_report(job: TrainingJob) -> Path:
    data, out = job.data, job.out
    entries = _read(out / "metrics.json")
    last = entries[-1] if isinstance(entries, list) and entries else {}
    quality, adapted = _read(out / "quality.json"), _read(out / "adaptation.json")
    sections = [
        _learned_from(data),
        None if adapted is None else adaptation_section(out, adapted),
        numbers(last, data, out),
        estimate(quality, out),
        mask_examples(job, last),
        _training(job.recipe, out),
    ]
    page = Page(
        title=job.recipe.name.replace("_", " "),
        lead=_lead(data),
        headlines=_headlines(last, quality) or adaptation_headlines(adapted or {}),
        sections=[section for section in sections if section is not None],
        facts=_facts(job, last),
    )
    return write_report(page, out / "report.html")


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _lead(data: TrainingData) -> str:
    box_only = len(data.categories) - len(data.masked)
    return (
        f"One model learned from {data.main.objects:,} boxes and {data.masks:,} masks. "
        f"{amount_of(len(data.masked), 'class', 'classes')} "
        f"had masks (A), {box_only} had only boxes (B); it draws masks for all of them."
    )


def _headlines(last: dict[str, Any], quality: dict[str, Any] | None) -> list[Headline]:
    heads = []
    for name, had in (("B", "only boxes"), ("A", "masks")):
        value = score(last, "given_boxes", name, "miou")
        count = score(last, "given_boxes", name, "instances")
        if value is not None:
            label = f"mask IoU on classes that had {had}"
            note = f"{count or 0:.0f} objects on held-out images, true boxes given"
            heads.append(Headline(f"{value * 100:.0f}", "%", label, note))
    if quality is not None:
        low, high, mean = (quality["estimate"][key] * 100 for key in ("low", "high", "miou"))
        label = "mask IoU to expect on box-only classes"
        note = f"95 %: {low:.0f} to {high:.0f}; from classes hidden in a first training"
        heads.append(Headline(f"{mean:.0f}", "%", label, note))
    for block in ("mask", "box"):
        value = score(last, block, "all", "AP")
        if value is not None:
            label = f"{block} AP, all classes"
            heads.append(Headline(f"{value:.1f}", "", label, "on held-out images"))
    return heads[:HEADLINES]


def _learned_from(data: TrainingData) -> ReportSection:
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
        f"With masks, and how many: {listed(with_masks, NAMED) or 'none'}.",
        f"With boxes only: {listed(without, NAMED) or 'none'}.",
    ]
    return ReportSection(title="What it learned from", text=text, table=Table(["", "count"], rows))


def _training(recipe: Recipe, out: Path) -> ReportSection:
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
    return ReportSection(
        title="How it was trained",
        table=Table(["stage", "learns", "losses", "steps × batch", "rate"], rows),
        charts=charts,
    )


def _facts(job: TrainingJob, last: dict[str, Any]) -> list[tuple[str, str]]:
    recipe, name, out = job.recipe, job.data.name, job.out
    device = next(job.model.parameters()).device
    machine = f"CPU, {os.cpu_count()} cores"
    if device.type == "cuda":
        machine = torch.cuda.get_device_name(device)
    seconds = score(last, "seconds")
    took = [] if seconds is None else [str(datetime.timedelta(seconds=round(seconds)))]
    complete = f"halfmask complete {out} {name} --images {recipe.data.images} --out masks.json"
    return [
        ("Train again", f"halfmask train {out / 'recipe.yaml'} --out NEW_FOLDER"),
        ("Measure elsewhere", f"halfmask evaluate {out} DATA.json --images DIR --given-boxes"),
        ("Fill in the masks", complete),
        ("Recipe", f"{recipe.name}, seed {recipe.seed}, {recipe.model.kind}"),
        ("Data", name),
        *(("Training time", time) for time in took),
        ("Machine", f"{machine}, {platform.system()} {platform.machine()}"),
        ("Versions", f"halfmask {__version__}, torch {torch.__version__}"),
        ("Written", datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")),
    ]
