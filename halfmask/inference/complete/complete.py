"""`complete`: the same COCO file with its missing masks filled in."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from halfmask._version import __version__
from halfmask.coco.file import CocoFile
from halfmask.coco.images import missing_photographs
from halfmask.coco.records import file_name_of
from halfmask.coco.tightness import box_tightness, boxes_are_loose
from halfmask.errors import InputError
from halfmask.files.atomic import write_json
from halfmask.inference.complete import plan as planning
from halfmask.inference.complete.draw import MaskDrawer, drawn_here
from halfmask.inference.complete.filling import FilledMask
from halfmask.inference.complete.journal import Journal
from halfmask.inference.complete.output import completed, copy_file, sweep
from halfmask.inference.complete.plan import Plan, plan
from halfmask.inference.complete.ray import check_ray, drawn_on_ray
from halfmask.inference.predictor import Predictor, load

logger = logging.getLogger("halfmask")

Boxes = Literal["auto", "tight", "loose"]
Progress = Callable[[int, int], None]
"""Called with the masks that are done and those there are to do."""


@dataclass
class Completion:
    """What `complete` did.

    Attributes:
        out: the file it wrote.
        filled: masks filled, those of an interrupted run among them.
        resumed: how many of them an interrupted run had finished.
        counts: annotations by what became of them (`Plan.counts`).
        suspects: ids of annotations whose polygon repeats their box: left alone.
        skipped: one line for each image that could not be read; its annotations stay as
            they were.
        unusable: names of annotations that have no usable box, image or class: left
            alone.
        unfilled: annotations that lack a mask still, since their image was skipped.
        mean_score: of the filled masks; None where none was filled.
        mean_agreement: mean IoU of the filled masks with the model's own, where a
            provider drew them; else None.
        unknown_classes: names of classes that were filled although the model does not
            know them.
        tightness: mean IoU of the file's boxes with their masks' own boxes; None where
            it has no mask.
        loose: whether boxes were taken for ones that may be off, by a model that knows
            such boxes.
    """

    out: Path
    filled: int = 0
    resumed: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    suspects: list[int] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    unfilled: int = 0
    mean_score: float | None = None
    mean_agreement: float | None = None
    unknown_classes: list[str] = field(default_factory=list)
    tightness: float | None = None
    loose: bool = False


def complete(
    model: Predictor | str | Path,
    annotations: str | Path,
    images: str | Path,
    out: str | Path,
    polygons: bool = False,
    redo_filled: bool = False,
    workers: int = 2,
    progress: Progress | None = None,
    boxes: Boxes = "auto",
    provider: Predictor | str | Path | None = None,
    ray: str | None = None,
) -> Completion:
    """Writes the file `annotations` again with a mask for every box that lacks one.

    Every key and the order of annotations stay. A usable mask keeps its JSON value; a
    suspect one (a polygon that repeats its box) and crowds are left alone; a broken one
    is replaced and kept below `halfmask.replaced`. A filled annotation gets
    segmentation, area and halfmask (model, score, state; with a provider also
    agreement). Where there is nothing to fill, the file is copied byte for byte.

    Finished batches are noted in OUT.journal, so that the same call goes on after a
    kill; the result is the same bytes whatever the number of workers and interruptions.
    The input is never written to.

    Args:
        model: a loaded model, or what `load` takes.
        annotations: a COCO instances file.
        images: the folder of its photographs.
        out: where the result goes; another file than `annotations`.
        polygons: outlines instead of RLE.
        redo_filled: fill anew what halfmask filled and nobody accepted.
        workers: threads that decode photographs.
        progress: told after each batch.
        boxes: whether the file's boxes end where their objects do; auto: measured on
            the objects that have a mask already.
        provider: another model or what `load` takes (`sam2:…`), which draws the masks
            instead; `model` then says how far it agrees: the IoU of its own mask with
            each filled one.
        ray: draw on a Ray cluster (`inference.complete.ray`): its address, `auto` (the
            one that runs here, else one of this machine) or `local`.
    Raises:
        InputError: no COCO file, no box in it, no such folder, none of the photographs
            there, `out` is the input, no checkpoint, or no Ray.
    """
    source, folder, target = Path(annotations), Path(images), Path(out)
    check_places(source, folder, target)
    if ray is not None:
        check_ray()
    file = CocoFile.read(source)
    work = plan(file, redo_filled)
    check_work(file, work, folder)
    result = Completion(target, counts=work.counts, suspects=work.suspects, unusable=work.unusable)
    if work.total == 0:
        copy_file(source, target)
        return result
    own = model if isinstance(model, Predictor) else load(model)
    predictor = (
        own if provider is None else provider if isinstance(provider, Predictor) else load(provider)
    )
    result.tightness = box_tightness(file)
    loose = boxes == "loose" or (boxes == "auto" and boxes_are_loose(result.tightness))
    result.loose = loose and predictor.knows_loose_boxes
    if loose and not result.loose:
        logger.warning(
            "%s did not learn on loose boxes (box_jitter): masks will end where the boxes do",
            predictor.name,
        )
    run = MaskDrawer(
        predictor,
        file.categories,
        folder,
        polygons,
        workers,
        loose,
        own if provider is not None else None,
    )
    if predictor.categories:  # a rule asks for no class
        wanted = [c for c in file.categories if work.to_fill[c["id"]]]
        result.unknown_classes = [
            c["name"] for c in wanted if not predictor.labels_of([c])[c["id"]]
        ]
    notes = {"date": datetime.datetime.now(datetime.UTC).date().isoformat()}
    with Journal(journal_of(target), _job(source, run, redo_filled), notes) as journal:
        if journal.replaced:
            logger.warning(
                "%s belonged to another input, model or setting: begun anew", journal.path
            )
        masks = _fill(run, work, journal, result, progress, ray)
        if masks:
            write_json(
                target,
                completed(file.document, work, masks, predictor.identity, journal.header["date"]),
            )
        else:
            copy_file(source, target)
        sweep(target)
        journal.remove()
    result.filled, result.unfilled = len(masks), work.total - len(masks)
    result.mean_score = _mean([m["score"] for m in masks.values()])
    result.mean_agreement = _mean([m["agreement"] for m in masks.values() if "agreement" in m])
    return result


def journal_of(out: Path) -> Path:
    """Where the journal of an output lies until the output is there."""
    return out.with_name(f"{out.name}.journal")


def _job(source: Path, run: MaskDrawer, redo_filled: bool) -> dict[str, Any]:
    """Whatever, if it changed, would change a byte."""
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "input": digest,
        "images": str(run.folder.resolve()),
        "model": run.predictor.identity,
        "beside": None if run.beside is None else run.beside.identity,
        "polygons": run.polygons,
        "loose": run.loose,
        "redo_filled": redo_filled,
        "batch": [planning.BATCH_IMAGES, planning.BATCH_BOXES, planning.BATCH_PIXELS],
        "versions": [__version__, torch.__version__],
        "device": str(run.predictor.device),
        "threads": torch.get_num_threads(),
    }


def _fill(
    run: MaskDrawer,
    work: Plan,
    journal: Journal,
    result: Completion,
    progress: Progress | None,
    ray: str | None,
) -> dict[int, FilledMask]:
    """Every mask by position: those of the journal, and the rest drawn now."""
    masks: dict[int, FilledMask] = {}
    for earlier in journal.batches.values():
        masks.update((position, filling) for position, filling in earlier)
    result.resumed = done = len(masks)
    if progress is not None:
        progress(done, work.total)
    rest = [k for k in range(len(work.batches)) if k not in journal.batches]
    drawn = (
        drawn_here(run, work.batches, rest)
        if ray is None
        else drawn_on_ray(run, work.batches, rest, ray)
    )
    skipped: dict[int, list[str]] = {}
    with contextlib.closing(drawn):
        for number, rows, faults in drawn:
            if faults:  # not noted: the photograph may have been mended when the job goes on
                skipped[number] = faults
            else:
                journal.append(number, rows)
            masks.update(rows)
            done += sum(len(piece.positions) for piece in work.batches[number])
            if progress is not None:
                progress(done, work.total)
    result.skipped = list(
        dict.fromkeys(line for number in sorted(skipped) for line in skipped[number])
    )
    return dict(sorted(masks.items()))


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def check_places(source: Path, folder: Path, out: Path) -> None:
    """Refuses places that cannot be meant.

    Raises:
        InputError: `out` is the input or a folder, or `folder` is none.
    """
    if out.is_dir():
        raise InputError(f"{out}: --out names the file to write, found a folder")
    if out.exists() and source.exists() and out.samefile(source):
        raise InputError(
            f"{out}: --out is the input itself, which is never written to; name another file"
        )
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of images")


def check_work(file: CocoFile, work: Plan, folder: Path) -> None:
    """Refuses a file without boxes, and a folder that has none of the photographs that
    are needed.

    Raises:
        InputError: as said.
    """
    if not any(file.annotations_of(image["id"]) for image in file.images):
        found = (
            f"{len(work.unusable)} annotations, none usable (halfmask doctor says why)"
            if work.unusable
            else "no annotation"
        )
        raise InputError(f"{file.name}: no box to fill a mask into: {found}")
    needed = {piece.image["id"]: piece.image for batch in work.batches for piece in batch}
    if needed and len(missing_photographs(folder, needed.values())) == len(needed):
        name = file_name_of(next(iter(needed.values()))) or "(no file_name)"
        raise InputError(
            f"{folder}: none of the {len(needed)} photographs that {file.name} needs is here, "
            f"such as {name}"
        )
