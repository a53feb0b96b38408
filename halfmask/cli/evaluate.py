"""`halfmask evaluate`: measures a model on a COCO file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

import halfmask
from halfmask.cli.shared.options import (
    ClassesOption,
    CrowdMasksOption,
    DetectorOption,
    ReadAsOption,
)
from halfmask.cli.shared.reading import fail_if_unread, show_report
from halfmask.errors import InputError
from halfmask.progress import Display
from halfmask.terminal import say
from halfmask.text import lines_of, listed, plural, with_counts

if TYPE_CHECKING:
    from halfmask.evaluation.run import Evaluation


def run(
    model: Annotated[
        str,
        typer.Argument(
            help="Checkpoint, run directory, shipped name, baseline:box, baseline:ellipse, "
            "baseline:grabcut, or sam2:PATH."
        ),
    ],
    data: Annotated[
        Path,
        typer.Argument(
            help="The true boxes and masks: a COCO file, or a data set in another format that "
            "`convert` reads."
        ),
    ],
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the photographs. Default: where the data set says."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Part of a data set that is no COCO file: train, val, … Default: all."),
    ] = None,
    masked: Annotated[
        str | None,
        typer.Option(
            help="Classes of set A, to compare with the others (B): voc, nonvoc, "
            "random:TRIAL:COUNT or names a,b,c. Default: classes by their masks in training."
        ),
    ] = None,
    given_boxes: Annotated[
        bool, typer.Option("--given-boxes", help="Also measure mask IoU in the file's own boxes.")
    ] = False,
    loosen: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=0.49,
            help="Move the corners of given boxes by at most this share of the box's side.",
        ),
    ] = 0.0,
    detector: DetectorOption = None,
    classes: ClassesOption = None,
    detections: Annotated[
        Path | None, typer.Option(help="COCO results file of any detector; MODEL fills its boxes.")
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(
            help="A second model to measure in the same boxes, for example "
            "sam:facebook/sam-vit-base."
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the result to this file.")] = None,
    reliability: Annotated[
        Path | None,
        typer.Option(help="Plot how well the score predicts the IoU of the masks (.png)."),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(
            help="Draw the best, median and worst masks of the classes with the fewest masks in "
            "training beside the true masks (.png)."
        ),
    ] = None,
    per_category: Annotated[
        bool, typer.Option("--per-category", help="Also print a line for each class.")
    ] = False,
    boxes: Annotated[
        Literal["auto", "tight", "loose"],
        typer.Option(
            help="Whether boxes end where their objects end. auto: measure this on masks of "
            "classes with many masks in training, or of --masked."
        ),
    ] = "auto",
    use: Annotated[
        Literal["annotated", "accepted", "filled"],
        typer.Option(
            help="Whether masks that halfmask filled count as true: none, accepted ones, or all."
        ),
    ] = "annotated",
    protocol: Annotated[
        Literal["auto", "coco", "lvis"],
        typer.Option(
            help="The rules of AP. auto: LVIS's where images have neg_category_ids or "
            "not_exhaustive_category_ids, else COCO's."
        ),
    ] = "auto",
    ignored: Annotated[
        str | None,
        typer.Option(
            help="Classes a,b whose boxes are regions to ignore; none: no class. Default: classes "
            "with a name such as DontCare."
        ),
    ] = None,
    crowd_masks: CrowdMasksOption = False,
    read_as: ReadAsOption = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, … Default: a GPU if there is one.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, max=256, help="Threads that decode photographs.")
    ] = 2,
) -> None:
    """Measures box and mask AP, and mask IoU in given boxes.

    Each number is for the classes of which the model was given no masks in training,
    few (1–9) and many (10 or more), and for all. With --masked it is for the classes
    that you name (A) and the others (B). AP counts the best 100 detections of an image
    over all classes. A model that finds no boxes itself draws its masks into the file's
    own, a detector's (--detector) or those of a COCO results file with DATA's image and
    category ids (--detections).

    Beside each stands the same by boundary IoU (Cheng et al., 2021), which compares the
    bands along the masks' borders, 2 % of the image's diagonal wide. Boundary AP counts
    the lesser of both IoUs.

    In given boxes it also measures how far the model's score of each mask can be
    trusted. The JSON's `quality` has rank correlation and calibration error against the
    true IoU, the share of bad masks in the worst-scored fifth, and mean IoU by
    coverage.

    Truth without a mask is neither a miss nor makes detections wrong, and in boxes of a
    class such as DontCare no detection is wrong. Photographs that
    cannot be read are skipped and counted (exit code 1).

    Example: halfmask evaluate runs/voc DATA.json --images photos --masked voc
    --given-boxes --json result.json
    """
    # fmt: off
    with Display(quiet=True) as progress:
        done: Evaluation = halfmask.evaluate(
            model, data, images=images, split=split, masked=masked, given_boxes=given_boxes,
            loosen=loosen, detector=detector, classes=classes, detections=detections,
            provider=provider, json=json,
            reliability=reliability, sheet=sheet, boxes=boxes, use=use, protocol=protocol,
            ignored=ignored, device=device, workers=workers, crowd_masks=crowd_masks,
            read_as=read_as, progress=progress,
        )
    # fmt: on
    say("\n".join([done.table(per_category), *map(str, done.pictures)]))
    _report_left_out(done, detections)
    fail_if_unread(done.reading)


def _report_left_out(done: Evaluation, detections: Path | None) -> None:
    if done.outside:
        say(f"{detections}: boxes left out, outside their image: {done.outside}", err=True)
    if done.left_out:
        boxes = sum(done.left_out.values())
        say(
            f"{boxes} boxes of classes that the file lacks do not count: "
            f"{listed(with_counts(done.left_out), 10)}",
            err=True,
        )
    if done.not_found:
        say(
            f"classes that the detector does not know, so it misses their objects: "
            f"{listed(done.not_found, 10)}",
            err=True,
        )
    if done.not_drawn:
        raise InputError("; ".join(done.not_drawn))
    if done.skipped:
        count = plural(len(done.skipped), "photograph")
        say(f"{count} skipped; their truth does not count:", err=True)
        say("\n".join(lines_of(list(done.skipped.values()), 10)), err=True)
        show_report(done.reading)
        raise typer.Exit(1)
