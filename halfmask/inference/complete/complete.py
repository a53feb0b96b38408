"""`complete`: writes a data set again with its missing masks filled in."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from halfmask.coco.file import CocoFile
from halfmask.coco.images import missing_photographs, why_missing
from halfmask.coco.records import file_name_of
from halfmask.coco.tightness import box_tightness, boxes_are_loose
from halfmask.errors import InputError
from halfmask.formats.source import open_source
from halfmask.inference.complete.draw import MaskDrawer
from halfmask.inference.complete.fill import FillingJob
from halfmask.inference.complete.filling import FilledMask
from halfmask.inference.complete.finding import ADD_SCORE, AddOptions, found_journal_of
from halfmask.inference.complete.output import copy_file
from halfmask.inference.complete.plan import FillingPlan, plan
from halfmask.inference.complete.ray import check_ray
from halfmask.inference.complete.report import ClassToFill, Completion
from halfmask.inference.complete.target import OutFormat, OutputPlace
from halfmask.inference.predictor import Predictor, as_predictor
from halfmask.masks.outline import check_tolerance
from halfmask.models.detectors.base import BoxDetector
from halfmask.pictures.filled_sheet import draw_filling_sheet
from halfmask.pictures.save import check_sheet
from halfmask.progress import Progress

logger = logging.getLogger(__name__)


def complete(
    model: Predictor | str | Path,
    data: str | Path,
    *,
    images: str | Path | None = None,
    out: str | Path,
    out_format: OutFormat = "same",
    polygons: bool = False,
    tolerance: float = 1.0,
    redo_filled: bool = False,
    workers: int = 2,
    dry_run: bool = False,
    sheet: str | Path | None = None,
    boxes: Literal["auto", "tight", "loose"] = "auto",
    provider: Predictor | str | Path | None = None,
    detector: str | Path | BoxDetector | None = None,
    classes: str | Sequence[str] | None = None,
    detections: str | Path | None = None,
    add_objects: bool = False,
    add_score: float = ADD_SCORE,
    device: str | torch.device | None = None,
    ray: str | None = None,
    progress: Progress | None = None,
) -> Completion:
    """Writes a data set again with a mask for every box that lacks one.

    All keys and the order of annotations stay. A usable mask keeps its JSON value; a
    suspect one (a polygon that repeats its box) and crowds stay as they are; a broken
    one is replaced and kept below `halfmask.replaced`. A filled annotation gets
    segmentation, area and halfmask (model, score, state; with a provider also
    agreement). A file with nothing to fill is copied byte for byte.

    A data set in another format comes back in that format, with its parts, file names
    and class numbers. The COCO file with all scores is kept with it: `halfmask.json` in
    OUT, or beside CVAT's XML.

    Finished batches are noted in OUT.journal, so that the same call continues after a
    kill. The bytes are the same whatever the number of workers and interruptions. The
    input is never written to.

    Args:
        model: a loaded model, or a name or path for `load`.
        data: a data set in any format that `convert` reads.
        images: the folder of its photographs; None: where the data set says.
        out: where the result goes, a file or a new folder; not the input.
        out_format: coco, yolo, voc, cvat or label-studio; same: that of the data set.
        polygons: outlines instead of RLE.
        tolerance: pixels that polygons may be from their mask's border; see `outlines`.
        redo_filled: also fill what halfmask filled and nobody accepted.
        workers: threads that decode photographs.
        dry_run: only look what there is to fill.
        sheet: a picture to draw of the best, median and worst new masks (.png, .jpg).
        boxes: whether the file's boxes end where their objects do; auto measures it on
            the objects that have a mask.
        provider: another model (as `model`), which draws the masks instead. Each filled
            mask then also has its IoU with the mask that `model` draws.
        detector: what finds the objects to add; see `load`.
        classes: names for a detector of open vocabulary; see `load`.
        detections: a COCO results file of the objects to add, with the ids of `data`.
        add_objects: whether to add objects that the file lacks: detections whose IoU
            with every box of their photograph is below 0.5, outside of crowds, of a
            class of the file. They carry `halfmask.added`.
        add_score: least score of an object to add.
        device: where to run the models that are not loaded yet.
        ray: draw on a Ray cluster: its address, `auto` (the one that runs here, else
            one of this machine) or `local`.
        progress: called after each batch.
    Raises:
        InputError: no data set, no box in it, no such folder, none of the photographs
            there, `out` is the input, no such model, or no Ray.
    """
    check_tolerance(tolerance)
    _check_options(boxes, sheet=None if dry_run else sheet, ray=None if dry_run else ray)
    adding = AddOptions(
        wanted=add_objects,
        detector=detector,
        classes=classes,
        detections=detections,
        least_score=add_score,
        workers=workers,
        device=device,
    )
    opened = open_source(data, images=images, progress=progress)
    folder = opened.photographs()
    target = OutputPlace.of(Path(out), out_format, opened, tolerance=tolerance)
    file, found = adding.applied(opened, None if dry_run else target.out, progress=progress)
    work = plan(file, redo_filled, added=None if found is None else found.digest)
    if found is None or work.total:
        check_work(file, work, folder)
    done = target.begun(work, dry_run, found)
    if dry_run:
        drawing = as_predictor(model if provider is None else provider, device="cpu")
        return replace(done, classes=_classes(drawing, file, work))
    if work.total:
        drawer = _drawer(
            (model, provider),
            file,
            folder,
            tolerance=tolerance if polygons else None,
            workers=workers,
            boxes=boxes,
            device=device,
        )
        job = target.job(opened, file, work, drawer=drawer, redo_filled=redo_filled)
        done = _filled(done, job, progress, ray=ray)
    else:
        copy_file(opened.annotations, target.file)
        target.finish(target.file)
    found_journal_of(target.out).unlink(missing_ok=True)
    return _with_sheet(replace(done, writing=target.report), sheet, folder)


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


def _check_options(boxes: str, *, sheet: str | Path | None, ray: str | None) -> None:
    if boxes not in ("auto", "tight", "loose"):
        raise InputError(f"boxes: expected auto, tight or loose, found {boxes!r}")
    if sheet is not None:
        check_sheet(sheet)
    if ray is not None:
        check_ray()


def _are_loose(boxes: str, tightness: float | None, drawing: Predictor) -> bool:
    loose = boxes == "loose" or (boxes == "auto" and boxes_are_loose(tightness))
    if loose and not drawing.knows_loose_boxes:
        logger.warning(
            "%s did not learn on loose boxes (box_jitter): masks will end where the boxes do",
            drawing.name,
        )
    return loose


def _drawer(
    models: tuple[Predictor | str | Path, Predictor | str | Path | None],
    file: CocoFile,
    folder: Path,
    *,
    tolerance: float | None,
    workers: int,
    boxes: str,
    device: str | torch.device | None,
) -> MaskDrawer:
    model, provider = models
    own = as_predictor(model, device=device)
    drawing = own if provider is None else as_predictor(provider, device=device)
    return MaskDrawer(
        predictor=drawing,
        categories=file.categories,
        folder=folder,
        tolerance=tolerance,
        workers=workers,
        loose=_are_loose(boxes, box_tightness(file), drawing),
        beside=None if provider is None else own,
    )


def _classes(predictor: Predictor, file: CocoFile, work: FillingPlan) -> tuple[ClassToFill, ...]:
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
        mean_agreement=_mean([m["agreement"] for m in masks if "agreement" in m]),
    )


def _with_sheet(done: Completion, sheet: str | Path | None, folder: Path) -> Completion:
    if sheet is None:
        return done
    return replace(done, sheet=draw_filling_sheet(Path(sheet), done.coco or done.out, folder))


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
