"""`halfmask.complete`: fills in the missing masks, with a model or with one made for the data."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from halfmask.coco.reading.read_as import ReadAs
from halfmask.errors import InputError
from halfmask.inference.complete.complete import FillOptions, check_filling, fill_missing
from halfmask.inference.complete.finding import ADD_SCORE
from halfmask.inference.complete.report import DOUBTFUL, Completion
from halfmask.inference.complete.target import OutFormat
from halfmask.inference.predictor import Predictor
from halfmask.models.detectors.base import BoxDetector
from halfmask.progress import Progress
from halfmask.text import plural
from halfmask.training.adapt.adapt import adapt
from halfmask.training.adapt.outcome import Adaptation
from halfmask.training.adapt.request import checked_minutes, read_request
from halfmask.training.adapt.run import clean_on_error
from halfmask.training.job import RunOptions, show_nothing
from halfmask.training.single import Stopped

logger = logging.getLogger("halfmask")

AUTO = "auto"
START = "box-segmenter"
ENOUGH = 50
"""Masks from which on the shipped model is adapted."""


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
    replace_broken: bool = False,
    crowd_masks: bool = False,
    read_as: str | None = None,
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
    minutes: float | None = None,
    progress: Progress | None = None,
) -> Completion:
    """Writes a data set again with a mask for every box that lacks one.

    All keys and the order of annotations stay. A usable mask keeps its JSON value; a
    suspect one (a polygon that repeats its box), a broken one and crowds stay as they
    are and are reported. With `replace_broken` a broken one is replaced, and its value
    is kept below `halfmask.replaced`. A filled annotation gets
    segmentation, area and halfmask (model, score, state; with a provider also
    agreement). A file with nothing to fill is copied byte for byte.

    A data set in another format comes back in that format, with its parts, file names
    and class numbers. The COCO file with all scores is kept with it: `halfmask.json` in
    OUT, or beside CVAT's XML.

    Finished batches are noted in OUT.journal, so that the same call continues after a
    kill. The bytes are the same whatever the number of workers and interruptions. The
    input is never written to.

    Args:
        model: a loaded model, or a name or path for `load`; or auto: the shipped box
            segmenter, adapted to the data if they have at least 50 masks and it gets
            better by it. The run lies beside `out`, in OUT.run.
        data: a data set in any format that `convert` reads.
        images: the folder of its photographs; None: where the data set says.
        out: where the result goes, a file or a new folder; not the input.
        out_format: coco, yolo, voc, cvat or label-studio; same: that of the data set.
        polygons: outlines instead of RLE.
        tolerance: pixels that polygons may be from their mask's border; see `outlines`.
        redo_filled: also fill what halfmask filled and nobody accepted.
        replace_broken: also fill objects whose mask cannot be read.
        crowd_masks: of a COCO file: masks with iscrowd 1 are masks of single objects.
        read_as: how a COCO file writes boxes or polygons; see `ReadAs.of`.
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
        minutes: auto only: how long adapting may take, 10 by default.
        progress: called after each batch.
    Raises:
        InputError: no data set, no box in it, no such folder, none of the photographs
            there, `out` is the input, no such model, or no Ray.
    """
    options = FillOptions(
        out_format=out_format,
        polygons=polygons,
        tolerance=tolerance,
        redo_filled=redo_filled,
        replace_broken=replace_broken,
        read_as=ReadAs.of(crowd_masks, read_as),
        workers=workers,
        dry_run=dry_run,
        sheet=sheet,
        boxes=boxes,
        provider=provider,
        detector=detector,
        classes=classes,
        detections=detections,
        add_objects=add_objects,
        add_score=add_score,
        device=device,
        ray=ray,
    )
    options.check()
    if model != AUTO:
        if minutes is not None:
            raise InputError("--minutes is for `complete auto`, which adapts a model")
        return fill_missing(model, data, options, images=images, out=out, progress=progress)
    return _complete_auto(
        data, options, images=images, out=Path(out), minutes=minutes, progress=progress
    )


def _complete_auto(
    data: str | Path,
    options: FillOptions,
    *,
    images: str | Path | None,
    out: Path,
    minutes: float | None,
    progress: Progress | None,
) -> Completion:
    """Adapts the shipped model in OUT.run if there are enough masks, then fills with it."""
    minutes = checked_minutes(minutes)
    if options.dry_run:
        planned = fill_missing(START, data, options, images=images, out=out, progress=progress)
        return replace(planned, summary=_intention(planned, minutes))
    if not check_filling(data, options, images=images, out=out, progress=progress):
        return fill_missing(START, data, options, images=images, out=out, progress=progress)
    place = out if out.name not in ("", "..") else out.resolve()
    run = place.with_name(f"{place.name}.run")
    learned = _adapted(
        data, images, run, minutes=minutes, read_as=options.read_as, progress=progress
    )
    done = fill_missing(run, data, options, images=images, out=out, progress=progress)
    return replace(done, learned=learned.to_json(), summary=_summary(learned, done, images))


def _intention(planned: Completion, minutes: float) -> str:
    """Says whether a model would be adapted."""
    masks = planned.counts["kept"]
    if not planned.plan.total:
        return ""
    if masks < ENOUGH:
        return f"no model would be adapted: {plural(masks, 'mask')}, it takes {ENOUGH}"
    return f"first the shipped model would learn from {masks} masks, at most {minutes:g} minutes"


def _summary(learned: Adaptation, done: Completion, images: str | Path | None) -> str:
    """Says in one paragraph what was learned and what to expect, then what to do next."""
    sentences = [f"{line[0].upper()}{line[1:]}." for line in learned.lines()]
    if not done.filled:
        return " ".join(sentences)
    if done.doubtful:
        sentences.append(
            f"Look at {done.doubtful:,} of the {plural(done.filled, 'filled mask')} first: a "
            f"score below {DOUBTFUL} is doubtful."
        )
    else:
        sentences.append(f"No filled mask has a score below {DOUBTFUL}.")
    where = [] if images is None else ["--images", str(images)]
    command = shlex.join(["halfmask", "review", str(done.out), *where])
    return f"{' '.join(sentences)}\nNext: {command}"


def _adapted(
    data: str | Path,
    images: str | Path | None,
    run: Path,
    *,
    minutes: float,
    read_as: ReadAs,
    progress: Progress | None,
) -> Adaptation:
    """Adapts the shipped model in the folder `run`, or goes on with it."""
    with clean_on_error(run):
        request = read_request(
            data, (), images=images, val=None, out=run, read_as=read_as, progress=progress
        )
        options = RunOptions(resume_command="the same command", progress=progress or show_nothing)
        try:
            return adapt(request.recipe, run, options, minutes=minutes, least=ENOUGH)
        except (Stopped, KeyboardInterrupt) as stopped:
            logger.warning("what is done so far is saved; the same command goes on from there")
            raise KeyboardInterrupt from stopped
