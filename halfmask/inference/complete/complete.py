"""`complete`: writes a data set again with its missing masks filled in."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from halfmask.coco.annotations import Annotations
from halfmask.coco.file import CocoFile
from halfmask.coco.images import missing_photographs, why_missing
from halfmask.coco.photographs.reader import reader_of
from halfmask.coco.reading.read_as import ReadAs
from halfmask.coco.records import file_name_of
from halfmask.coco.tightness import box_tightness, boxes_are_loose
from halfmask.errors import InputError
from halfmask.files.guard import Given, Output
from halfmask.files.kinds import PICTURE
from halfmask.formats.source import open_source
from halfmask.inference.complete.count import check_count, count_work, indexed_source
from halfmask.inference.complete.draw import MaskDrawer, drawing_model
from halfmask.inference.complete.fill import FillingJob
from halfmask.inference.complete.filling import FilledMask
from halfmask.inference.complete.finding import ADD_SCORE, AddOptions, found_journal_of
from halfmask.inference.complete.output import copy_file
from halfmask.inference.complete.plan import FillingPlan, Redo, plan
from halfmask.inference.complete.ray import check_ray
from halfmask.inference.complete.report import DOUBTFUL, REPORT, ClassToFill, Completion
from halfmask.inference.complete.target import OutFormat, OutputPlace
from halfmask.inference.predictor import Predictor, as_predictor
from halfmask.inference.runtime.names import IN_TORCH, Computing
from halfmask.masks.outline import check_tolerance
from halfmask.models.box_segmenter.looks import Effort
from halfmask.models.detectors.base import BoxDetector
from halfmask.pictures.filled_sheet import draw_filling_sheet
from halfmask.pictures.save import check_sheet
from halfmask.progress import Progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FillOptions:
    """How missing masks are drawn and written; `halfmask.complete` describes each."""

    out_format: OutFormat = "same"
    polygons: bool = False
    tolerance: float = 1.0
    redo_filled: bool = False
    replace_broken: bool = False
    read_as: ReadAs = field(default_factory=ReadAs)
    workers: int = 2
    dry_run: bool = False
    json: str | Path | None = None
    sheet: str | Path | None = None
    boxes: Literal["auto", "tight", "loose"] = "auto"
    provider: Predictor | str | Path | None = None
    detector: str | Path | BoxDetector | None = None
    classes: str | Sequence[str] | None = None
    detections: str | Path | None = None
    add_objects: bool = False
    add_score: float = ADD_SCORE
    device: str | torch.device | None = None
    effort: Effort | None = None
    computing: Computing = IN_TORCH
    ray: str | None = None
    accept_changes: bool = False

    def check(self) -> None:
        """Raises InputError for a value that cannot be used."""
        check_tolerance(self.tolerance)
        self.computing.check()
        if self.boxes not in ("auto", "tight", "loose"):
            raise InputError(f"boxes: expected auto, tight or loose, found {self.boxes!r}")
        if self.sheet is not None and not self.dry_run:
            check_sheet(self.sheet)
        if self.ray is not None and not self.dry_run:
            check_ray()

    @property
    def side_outputs(self) -> list[Output]:
        """What is written beside the data set."""
        return [Output(self.json, "--json", REPORT), Output(self.sheet, "--sheet", PICTURE)]

    @property
    def inputs(self) -> tuple[Given, ...]:
        """What is read beside the data set and the model."""
        return self.provider, self.detector, self.detections

    @property
    def redo(self) -> Redo:
        """Which masks are drawn again."""
        return Redo(filled=self.redo_filled, broken=self.replace_broken)

    @property
    def adding(self) -> AddOptions:
        """Options of the objects that a detector adds."""
        return AddOptions(
            wanted=self.add_objects,
            detector=self.detector,
            classes=self.classes,
            detections=self.detections,
            least_score=self.add_score,
            workers=self.workers,
            device=self.device,
            accept_changes=self.accept_changes,
            max_size=self.computing.max_size,
        )


def fill_missing(
    model: Predictor | str | Path,
    data: str | Path,
    options: FillOptions | None = None,
    *,
    images: str | Path | None = None,
    out: str | Path,
    progress: Progress | None = None,
) -> Completion:
    """Writes a data set again with a mask for every box that lacks one.

    See `halfmask.complete`, of which this is all but `auto`.

    Raises:
        InputError: no data set, no box in it, no such folder, none of the photographs
            there, `out` is the input, no such model, or no Ray.
    """
    options = options or FillOptions()
    options.check()
    opened = open_source(data, images=images, read_as=options.read_as, progress=progress)
    folder, dry_run = opened.photographs(), options.dry_run
    target = OutputPlace.of(Path(out), options.out_format, opened, tolerance=options.tolerance)
    target.guard(options.side_outputs, model, images, *options.inputs)
    index = indexed_source(opened, progress) if dry_run and not options.add_objects else None
    if index is not None:
        work = count_work(index, opened.annotations, options.redo, progress=progress)
        check_count(index, work, redo=options.redo, folder=folder)
        return _foreseen(target.begun(work, dry_run, None), model, index, options=options)
    noted = None if dry_run else target.out
    file, found = options.adding.applied(opened, noted, progress=progress)
    work = plan(file, options.redo, added=None if found is None else found.digest)
    if found is None or work.total:
        check_work(file, work, folder)
    done = target.begun(work, dry_run, found)
    if dry_run:
        return _foreseen(done, model, file, options=options)
    if work.total:
        drawer = _drawer(model, file, folder, options=options)
        job = target.job(
            opened,
            file,
            work,
            drawer=drawer,
            redo=options.redo,
            accept_changes=options.accept_changes,
        )
        done = _filled(done, job, progress, ray=options.ray)
    else:
        copy_file(opened.annotations, target.file)
        target.finish(target.file)
    found_journal_of(target.out).unlink(missing_ok=True)
    return _with_sheet(replace(done, writing=target.report), options.sheet, folder)


def _foreseen(
    done: Completion, model: Predictor | str | Path, file: Annotations, *, options: FillOptions
) -> Completion:
    """Adds the classes that are filled to the report of a dry run."""
    chosen = as_predictor(model if options.provider is None else options.provider, device="cpu")
    return replace(done, classes=_classes(chosen, file, done.plan))


def check_filling(
    data: str | Path,
    options: FillOptions,
    *,
    images: str | Path | None,
    out: str | Path,
    progress: Progress | None = None,
) -> bool:
    """Checks what `fill_missing` checks, before longer work; loads no model.

    Returns:
        Whether there may be something to fill.
    Raises:
        InputError: as `fill_missing`.
    """
    opened = open_source(data, images=images, read_as=options.read_as, progress=progress)
    folder = opened.photographs()
    target = OutputPlace.of(Path(out), options.out_format, opened, tolerance=options.tolerance)
    target.guard(options.side_outputs, images, *options.inputs)
    if options.adding.wanted:
        return True
    file = opened.read()
    work = plan(file, options.redo)
    check_work(file, work, folder)
    return work.total > 0


def _filled(
    done: Completion, job: FillingJob, progress: Progress | None, *, ray: str | None
) -> Completion:
    masks, resumed, skipped = job.run(progress or (lambda *_: None), ray)
    drawing = job.drawer.predictor
    return replace(
        _with_masks(done, masks),
        classes=_classes(drawing, job.file, job.work),
        resumed=resumed,
        unread=skipped,
        tightness=box_tightness(job.file),
        loose=job.drawer.loose and drawing.knows_loose_boxes,
        looks=job.drawer.looks,
        runtime=drawing.runtime,
        max_size=drawing.max_size,
    )


def check_work(file: CocoFile, work: FillingPlan, folder: Path) -> None:
    """Raises InputError for a file without boxes or a folder without its photographs."""
    if not any(file.annotations_of(image["id"]) for image in file.images):
        found = (
            f"{len(work.unusable)} annotations, none usable (halfmask doctor says why)"
            if work.unusable
            else "no annotation"
        )
        raise InputError(f"{file.name}: no box to fill a mask into: {found}")
    needed = list(work.photographs.values())
    if needed and len(missing_photographs(folder, needed)) == len(needed):
        name = file_name_of(needed[0])
        why = why_missing(folder, name)
        raise InputError(
            f"{folder}: none of the {len(needed)} photographs that {file.name} needs is here, "
            f"such as {name or '(no file_name)'}" + (f" ({why})" if why else "")
        )


def _are_loose(boxes: str, tightness: float | None, drawing: Predictor) -> bool:
    loose = boxes == "loose" or (boxes == "auto" and boxes_are_loose(tightness))
    if loose and not drawing.knows_loose_boxes:
        logger.warning(
            "%s did not learn on loose boxes (box_jitter): masks will end where the boxes do",
            drawing.name,
        )
    return loose


def _drawer(
    model: Predictor | str | Path, file: CocoFile, folder: Path, *, options: FillOptions
) -> MaskDrawer:
    chosen = model if options.provider is None else options.provider
    found_by = options.adding.resizes
    drawing = drawing_model(chosen, options.device, options.computing, if_it_resizes=found_by)
    drawing.effort.checked(options.effort)
    beside = None if options.provider is None else as_predictor(model, device=options.device)
    return MaskDrawer(
        predictor=drawing,
        categories=file.categories,
        reader=reader_of(file, folder),
        tolerance=options.tolerance if options.polygons else None,
        workers=options.workers,
        loose=_are_loose(options.boxes, box_tightness(file), drawing),
        beside=beside,
        effort=options.effort,
    )


def _classes(predictor: Predictor, file: Annotations, work: FillingPlan) -> tuple[ClassToFill, ...]:
    label_of = predictor.labels_of(file.categories)
    return tuple(
        ClassToFill(
            c["name"], work.to_fill[c["id"]], not predictor.categories or label_of[c["id"]] > 0
        )
        for c in file.categories
        if work.to_fill[c["id"]]
    )


def _with_masks(done: Completion, masks: Sequence[FilledMask]) -> Completion:
    return replace(
        done,
        filled=len(masks),
        mean_score=_mean([m["score"] for m in masks]),
        doubtful=sum(m["score"] < DOUBTFUL for m in masks),
        mean_agreement=_mean([m["agreement"] for m in masks if "agreement" in m]),
    )


def _with_sheet(done: Completion, sheet: str | Path | None, folder: Path) -> Completion:
    if sheet is None:
        return done
    return replace(done, sheet=draw_filling_sheet(Path(sheet), done.coco or done.out, folder))


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
