"""`halfmask.complete`: fills in the missing masks, with a model or with one made for the data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from halfmask.coco.reading.read_as import ReadAs
from halfmask.errors import InputError
from halfmask.files.atomic import write_json
from halfmask.files.guard import Output, guard
from halfmask.files.kinds import ANYTHING, RUN
from halfmask.inference.complete.complete import FillOptions, fill_missing
from halfmask.inference.complete.finding import ADD_SCORE
from halfmask.inference.complete.journal import run_of
from halfmask.inference.complete.report import Completion
from halfmask.inference.complete.target import OutFormat
from halfmask.inference.predictor import Predictor
from halfmask.inference.runtime.names import Computing, Precision, Runtime
from halfmask.models.box_segmenter.looks import Effort
from halfmask.models.detectors.base import BoxDetector
from halfmask.progress import Progress

AUTO = "auto"


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
    json: str | Path | None = None,
    sheet: str | Path | None = None,
    boxes: Literal["auto", "tight", "loose"] = "auto",
    provider: Predictor | str | Path | None = None,
    detector: str | Path | BoxDetector | None = None,
    classes: str | Sequence[str] | None = None,
    detections: str | Path | None = None,
    add_objects: bool = False,
    add_score: float = ADD_SCORE,
    device: str | torch.device | None = None,
    effort: Effort | None = None,
    runtime: Runtime = "torch",
    precision: Precision | None = None,
    max_size: int | None = None,
    ray: str | None = None,
    minutes: float | None = None,
    accept_changes: bool = False,
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
        json: a JSON file to write the report to, unless it is a dry run.
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
        effort: how often the model looks at each box: `fast` once, `balanced` twice,
            `best` as its recipe says; None: best.
        runtime: what computes the model; see `halfmask.load`. Masks of another runtime
            differ in single pixels, so an interrupted run goes on with the one that
            began it.
        precision: of its numbers; see `halfmask.load`.
        max_size: of the photographs that a Mask R-CNN sees; see `halfmask.load`.
        ray: draw on a Ray cluster: its address, `auto` (the one that runs here, else
            one of this machine) or `local`.
        accept_changes: go on with an interrupted run although the data, the model or
            the options have changed: what depends on them is done again.
        minutes: auto only: how long adapting may take, 10 by default.
        progress: called after each batch.
    Raises:
        InputError: no data set, no box in it, no such folder, none of the photographs
            there, an output is an input or something else (see `guard`), no such
            model, or no Ray.
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
        json=json,
        sheet=sheet,
        boxes=boxes,
        provider=provider,
        detector=detector,
        classes=classes,
        detections=detections,
        add_objects=add_objects,
        add_score=add_score,
        device=device,
        effort=effort,
        computing=Computing(runtime, precision, max_size),
        ray=ray,
        accept_changes=accept_changes,
    )
    options.check()
    if model != AUTO and minutes is not None:
        raise InputError("--minutes is for `complete auto`, which adapts a model")
    out = Path(out)
    outputs = [Output(out, "--out", ANYTHING), *options.side_outputs]
    outputs += [Output(run_of(out), "the run of --out", RUN)] * (model == AUTO)
    guard(outputs, inputs=(model, data, images, *options.inputs), photographs=[images])
    if model == AUTO:
        done = _complete_auto(data, options, images, out=out, minutes=minutes, progress=progress)
    else:
        done = fill_missing(model, data, options, images=images, out=out, progress=progress)
    if json is not None and not dry_run:
        write_json(json, done.to_json(), indent=2)
    return done


def _complete_auto(
    data: str | Path,
    options: FillOptions,
    images: str | Path | None,
    *,
    out: Path,
    minutes: float | None,
    progress: Progress | None,
) -> Completion:
    # Lightning takes two seconds of start-up, which only adapting needs.
    from halfmask.labelling.auto import complete_auto

    return complete_auto(data, options, images=images, out=out, minutes=minutes, progress=progress)
