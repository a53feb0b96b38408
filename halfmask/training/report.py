"""RUN/report.html: training data, quality by masks in training, example masks."""

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
from halfmask.coco.doctor.groups import MaskGroups
from halfmask.errors import InputError
from halfmask.pictures.curves import score
from halfmask.pictures.report import Chart, Headline, Page, ReportSection, Table, write_report
from halfmask.pictures.sets import ALL, shown_sets
from halfmask.recipes.recipe import Recipe
from halfmask.text import listed, plural
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
        _learned_from(data, job.recipe.init),
        None if adapted is None else adaptation_section(out, adapted),
        numbers(last, data),
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
    return (
        f"One model learned from {plural(data.main.objects, 'box', 'es')} and "
        f"{plural(data.masks, 'mask')}. "
        f"Masks that it was given: {data.given.summary()}. It draws masks for all of them."
    )


def _headlines(last: dict[str, Any], quality: dict[str, Any] | None) -> list[Headline]:
    heads: list[Headline] = []
    sets = shown_sets(last)
    for name, measures in sets.items():
        value = score(measures, "given_boxes", "miou")
        count = score(measures, "given_boxes", "instances")
        if value is not None and (name != ALL or not heads):
            label = f"mask IoU, {_whose(name)}"
            border = score(measures, "given_boxes", "boundary", "miou")
            beside = "" if border is None else f"boundary IoU {border * 100:.0f} %; "
            objects = amount_of(round(count or 0), "object")
            note = f"{beside}{objects} on held-out images, true boxes given"
            heads.append(Headline(f"{value * 100:.0f}", "%", label, note))
    if quality is not None:
        low, high, mean = (quality["estimate"][key] * 100 for key in ("low", "high", "miou"))
        label = "mask IoU to expect on classes without masks"
        note = f"95 %: {low:.0f} to {high:.0f}; from classes hidden in a first training"
        heads.append(Headline(f"{mean:.0f}", "%", label, note))
    for block in ("mask", "box"):
        value = score(last, block, "all", "AP")
        if value is not None:
            label = f"{block} AP, all classes"
            heads.append(Headline(f"{value:.1f}", "", label, "on held-out images"))
    return heads[:HEADLINES]


def _whose(title: str) -> str:
    """Names the classes of a set, for example ``classes with few masks (1–9)``."""
    if title.startswith(("no masks", "few masks", "many masks")):
        return f"classes with {title}"
    return "classes with masks" if title == "with masks" else title


def _learned_from(data: TrainingData, init: str | None) -> ReportSection:
    held = 0 if data.development is None else len(data.development)
    rows = [
        ("images to learn from", f"{len(data.training):,}"),
        ("images held out to measure on", f"{held:,}"),
        ("objects, each with a box", f"{data.main.objects:,}"),
        ("of them with a mask", f"{data.main.masks:,}"),
    ]
    rows += [(f"own data of stage {k + 1}: masks", f"{p.masks:,}") for k, p in data.own.items()]
    text = _given_lines(data.given, {c["id"]: c["name"] for c in data.categories})
    if init is not None:
        text.append(f"These numbers include the masks that {init}, its start, had learned from.")
    return ReportSection(title="What it learned from", text=text, table=Table([], rows))


def _given_lines(given: MaskGroups, names: dict[int, str]) -> list[str]:
    """A line for each group that has a class: its classes, those with most masks first."""
    lines = []
    for group, members in reversed(given.members().items()):
        ranked = sorted(members, key=lambda i: -(given.counts[i] or 0))
        counted = group in ("few", "many")
        shown = [f"{names[i]} ({given.counts[i]:,})" if counted else names[i] for i in ranked]
        if shown:
            title = given.title(group)
            lines.append(f"{title[0].upper()}{title[1:]}: {listed(shown, NAMED)}.")
    return lines


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
    charts = [Chart(curves, "training curves", width=560)] if curves.is_file() else []
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
