"""Refuses what `evaluate` cannot measure."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from halfmask.coco.annotations import Annotations
from halfmask.coco.index.place import open_annotations
from halfmask.coco.supervision import Use
from halfmask.data.dataset import CocoInstances
from halfmask.errors import InputError
from halfmask.evaluation.measures.protocol import ApProtocol
from halfmask.files.guard import Output
from halfmask.files.kinds import PICTURE, report
from halfmask.formats.source import DataSource
from halfmask.inference.predictor import Predictor
from halfmask.pictures.save import check_sheet
from halfmask.progress import Progress

Boxes = Literal["auto", "tight", "loose"]
REPORT = report("evaluate", "box", "mask", "given_boxes", "quality")


def check_choices(
    loosen: float,
    boxes: str,
    use: str,
    *,
    sheet: str | Path | None,
    protocol: str,
    fills: tuple[object, object],
) -> None:
    """Raises InputError for an option that cannot be used.

    Args:
        loosen: see `evaluate`, as for the others.
        boxes: tight, loose or auto.
        use: which masks count as truth.
        sheet: the picture to draw.
        protocol: the rules of AP.
        fills: what names boxes to fill, a detector and a results file: one at most.
    """
    if None not in fills:
        raise InputError("--detector and --detections both name the boxes to fill: give only one")
    if sheet is not None:
        check_sheet(sheet)
    if not 0 <= loosen < 0.5:
        raise InputError(f"loosen: expected a share of at least 0 and below 0.5, found {loosen}")
    choices = (("boxes", boxes, Boxes), ("use", use, Use), ("protocol", protocol, ApProtocol))
    for name, value, kind in choices:
        if value not in get_args(kind):
            raise InputError(f"{name}: expected {' or '.join(get_args(kind))}, found {value!r}")


def outputs_of(json: str | Path | None, *pictures: str | Path | None) -> list[Output]:
    """Returns what `evaluate` writes; `pictures` are the sheet and the plot of reliability."""
    named = zip(pictures, ("--sheet", "--reliability"), strict=True)
    return [Output(json, "--json", REPORT), *(Output(path, flag, PICTURE) for path, flag in named)]


def open_truth(data: DataSource, progress: Progress | None) -> Annotations:
    """Opens the truth; raises InputError for a file without a usable annotation.

    What is suspected of the file is added to the report of `data`.
    """
    file = open_annotations(data.annotations, progress)
    data.note_findings(file)
    if not any(file.annotations_of(i) for i in file.image_ids):
        raise InputError(
            f"{data.annotations}: no usable annotation to evaluate against; `halfmask doctor` "
            "lists what is in the file"
        )
    return file


def check_masks(dataset: CocoInstances, predictor: Predictor) -> None:
    """Raises InputError for a truth without masks, and a model without boxes."""
    if not any(dataset.file.mask_counts(dataset.use).values()):
        raise InputError(
            f"{dataset.file.name}: no annotation has a usable mask to compare with, and "
            f"{predictor.name} finds no boxes to score"
        )


def refuse_without_given_boxes(
    loosen: float, reliability: object, sheet: object, *, provider: object
) -> None:
    """Raises InputError for an option that is about masks in the file's own boxes."""
    reasons = {
        "--loosen moves the file's own boxes": loosen > 0,
        "--reliability compares masks in the file's own boxes with the truth": reliability,
        "--sheet shows masks in the file's own boxes beside the truth": sheet,
        "--provider draws masks into the file's own boxes": provider,
    }
    for reason, asked in reasons.items():
        if asked:
            raise InputError(f"{reason}: add --given-boxes")
