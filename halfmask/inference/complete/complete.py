"""`complete`: writes a COCO file again with its missing masks filled in."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from halfmask.coco.file import CocoFile
from halfmask.coco.images import missing_photographs, why_missing
from halfmask.coco.records import file_name_of
from halfmask.coco.tightness import box_tightness, boxes_are_loose
from halfmask.errors import InputError
from halfmask.inference.complete.draw import MaskDrawer
from halfmask.inference.complete.fill import FillingJob
from halfmask.inference.complete.filling import FilledMask
from halfmask.inference.complete.output import copy_file
from halfmask.inference.complete.plan import FillingPlan, plan
from halfmask.inference.complete.ray import check_ray
from halfmask.inference.predictor import Predictor, as_predictor
from halfmask.masks.outline import check_tolerance
from halfmask.pictures.filled_sheet import draw_filling_sheet
from halfmask.pictures.save import check_sheet
from halfmask.progress import Progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClassToFill:
    """A class of the file with masks to fill.

    Attributes:
        name: of the class.
        masks: number of its masks to fill.
        known: whether the model knows the class; a rule knows every class.
    """

    name: str
    masks: int
    known: bool


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What `complete` did, or would do.

    Attributes:
        out: the file it wrote.
        plan: what there was to do.
        classes: the classes with masks to fill.
        dry_run: whether nothing was drawn or written.
        filled: masks filled, including those of an interrupted run.
        resumed: how many of them an interrupted run had finished.
        skipped: one line for each image that cannot be read; its annotations stay as
            they are.
        mean_score: of the filled masks; None without any.
        mean_agreement: mean IoU of the filled masks with the model's own, if a provider
            drew them; else None.
        tightness: mean IoU of the file's boxes with their masks' own boxes; None
            without masks.
        loose: whether the boxes counted as loose, for a model that knows loose boxes.
        sheet: the picture of new masks, if it was wanted.
    """

    out: Path
    plan: FillingPlan
    classes: tuple[ClassToFill, ...] = ()
    dry_run: bool = False
    filled: int = 0
    resumed: int = 0
    skipped: tuple[str, ...] = ()
    mean_score: float | None = None
    mean_agreement: float | None = None
    tightness: float | None = None
    loose: bool = False
    sheet: Path | None = None

    @property
    def counts(self) -> Counter[str]:
        """Annotations by what happens to them; see `FillingPlan.counts`."""
        return self.plan.counts

    @property
    def suspects(self) -> list[int]:
        """Ids of annotations whose polygon repeats their box; they stay as they are."""
        return self.plan.suspects

    @property
    def unusable(self) -> list[str]:
        """Names of annotations without a usable box, image or class; they stay as they are."""
        return self.plan.unusable

    @property
    def unfilled(self) -> int:
        """Masks that are still missing, since their image was skipped."""
        return self.plan.total - self.filled

    @property
    def unknown_classes(self) -> list[str]:
        """Names of classes that are filled although the model does not know them."""
        return [one.name for one in self.classes if not one.known]

    def to_json(self) -> dict[str, Any]:
        """Returns what `halfmask complete --json` writes."""
        return {
            "out": str(self.out),
            "filled": self.filled,
            "resumed": self.resumed,
            "unfilled": self.unfilled,
            "mean_score": self.mean_score,
            "mean_agreement": self.mean_agreement,
            "counts": dict(self.counts),
            "suspects": self.suspects,
            "skipped": list(self.skipped),
            "unusable": self.unusable,
            "unknown_classes": self.unknown_classes,
            "tightness": self.tightness,
            "loose": self.loose,
        }


def complete(
    model: Predictor | str | Path,
    data: str | Path,
    *,
    images: str | Path,
    out: str | Path,
    polygons: bool = False,
    tolerance: float = 1.0,
    redo_filled: bool = False,
    workers: int = 2,
    dry_run: bool = False,
    sheet: str | Path | None = None,
    boxes: Literal["auto", "tight", "loose"] = "auto",
    provider: Predictor | str | Path | None = None,
    device: str | torch.device | None = None,
    ray: str | None = None,
    progress: Progress | None = None,
) -> Completion:
    """Writes a COCO file again with a mask for every box that lacks one.

    All keys and the order of annotations stay. A usable mask keeps its JSON value; a
    suspect one (a polygon that repeats its box) and crowds stay as they are; a broken
    one is replaced and kept below `halfmask.replaced`. A filled annotation gets
    segmentation, area and halfmask (model, score, state; with a provider also
    agreement). A file with nothing to fill is copied byte for byte.

    Finished batches are noted in OUT.journal, so that the same call continues after a
    kill. The bytes are the same whatever the number of workers and interruptions. The
    input is never written to.

    Args:
        model: a loaded model, or a name or path for `load`.
        data: a COCO instances file.
        images: the folder of its photographs.
        out: where the result goes; not the input.
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
        device: where to run the models that are not loaded yet.
        ray: draw on a Ray cluster: its address, `auto` (the one that runs here, else
            one of this machine) or `local`.
        progress: called after each batch.
    Raises:
        InputError: no COCO file, no box in it, no such folder, none of the photographs
            there, `out` is the input, no such model, or no Ray.
    """
    source, folder, target = Path(data), Path(images), Path(out)
    check_paths(source, folder, target)
    check_tolerance(tolerance)
    _check_options(boxes, sheet=None if dry_run else sheet, ray=None if dry_run else ray)
    file = CocoFile.read(source)
    work = plan(file, redo_filled)
    check_work(file, work, folder)
    done = Completion(out=target, plan=work, dry_run=dry_run)
    if dry_run:
        drawing = as_predictor(model if provider is None else provider, device="cpu")
        return replace(done, classes=_classes(drawing, file, work))
    if work.total == 0:
        copy_file(source, target)
        return _with_sheet(done, sheet, folder)
    own = as_predictor(model, device=device)
    drawing = own if provider is None else as_predictor(provider, device=device)
    tightness = box_tightness(file)
    loose = _are_loose(boxes, tightness, drawing)
    drawer = MaskDrawer(
        predictor=drawing,
        categories=file.categories,
        folder=folder,
        tolerance=tolerance if polygons else None,
        workers=workers,
        loose=loose,
        beside=None if provider is None else own,
    )
    job = FillingJob(
        source=source, file=file, target=target, work=work, drawer=drawer, redo_filled=redo_filled
    )
    masks, resumed, skipped = job.run(progress or (lambda *_: None), ray)
    done = replace(_with_masks(done, masks), classes=_classes(drawing, file, work))
    done = replace(done, resumed=resumed, skipped=skipped, tightness=tightness)
    done = replace(done, loose=loose and drawing.knows_loose_boxes)
    return _with_sheet(done, sheet, folder)


def check_paths(source: Path, folder: Path, out: Path) -> None:
    """Refuses paths that cannot be meant.

    Raises:
        InputError: `out` is the input or a folder, or `folder` is not a folder.
    """
    if out.is_dir():
        raise InputError(f"{out}: --out names the file to write, found a folder")
    if out.exists() and source.exists() and out.samefile(source):
        raise InputError(
            f"{out}: --out is the input itself, which is never written to; name another file"
        )
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of images")


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
    return replace(done, sheet=draw_filling_sheet(Path(sheet), done.out, folder))


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
