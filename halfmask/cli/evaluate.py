"""`halfmask evaluate`: the numbers of a model on a COCO file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from halfmask.evaluation.run import Reader, found_masks, given_masks

if TYPE_CHECKING:
    pass


Use = Literal["annotated", "accepted", "filled"]
Boxes = Literal["auto", "tight", "loose"]


def run(
    model: Annotated[
        str,
        typer.Argument(
            help="Checkpoint, run directory, shipped name, baseline:box, baseline:ellipse, "
            "baseline:grabcut, or sam2:…."
        ),
    ],
    data: Annotated[Path, typer.Argument(help="COCO instances file with the truth.")],
    images: Annotated[Path, typer.Option(help="Folder of its photographs.")],
    masked: Annotated[
        str | None,
        typer.Option(
            help="Set A: voc, nonvoc, random:TRIAL:COUNT or names a,b,c. Default: who had "
            "masks in training."
        ),
    ] = None,
    given_boxes: Annotated[
        bool, typer.Option("--given-boxes", help="Also mask IoU on the file's own boxes.")
    ] = False,
    loosen: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=0.49,
            help="Move the given boxes' corners by up to this share of their side.",
        ),
    ] = 0.0,
    detector: Annotated[
        str | None, typer.Option(help="A model that finds the boxes which MODEL fills.")
    ] = None,
    detections: Annotated[
        Path | None,
        typer.Option(help="Boxes of any detector (COCO results, .json), which MODEL fills."),
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(
            help="Also this one's masks in the same boxes, beside MODEL's: "
            "sam:facebook/sam-vit-base, …"
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the result here.")] = None,
    reliability: Annotated[
        Path | None,
        typer.Option(
            help="Draw here (.png) how far the model's own score of its masks can be trusted."
        ),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(
            help="Draw here (.png) the best, median and worst masks of B beside their truth."
        ),
    ] = None,
    per_category: Annotated[
        bool, typer.Option("--per-category", help="Also a line for each class.")
    ] = False,
    box_kind: Annotated[
        Boxes,
        typer.Option(
            "--boxes",
            help="Do the given boxes end where their objects do? auto: measured on masks of A.",
        ),
    ] = "auto",
    use: Annotated[
        Use, typer.Option(help="Which of halfmask's own masks in the file count as truth.")
    ] = "annotated",
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, … Default: a GPU where there is one.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Threads that decode photographs.")] = 2,
) -> None:
    """Box and mask AP (100 detections an image over all classes) and mask IoU on given
    boxes, for the classes that had masks (A), those that had boxes only (B) and all. A
    baseline draws its masks into the file's boxes, or into a detector's (--detector, or
    --detections with what any detector wrote: its image and category ids are DATA's,
    and the best 100 boxes of an image are used).

    With masks on given boxes also how far the model's own score of each mask is right:
    the JSON's `quality` has, for all, A and B, rank correlation and calibration error
    against the true IoU, the bad masks among the worst-scored fifth, and mean IoU at
    each coverage.

    Truth without a mask is neither a miss nor makes its detections wrong. A model that
    finds no boxes itself gets the file's own. Photographs that cannot be read are
    skipped and counted (exit code 1).

    Example: halfmask evaluate runs/voc DATA.json --images photos --masked voc
    --given-boxes --json result.json
    """
    from halfmask.coco.categories import resolve_masked
    from halfmask.coco.index.place import open_annotations
    from halfmask.coco.results import read_results
    from halfmask.data.dataset import CocoInstances
    from halfmask.errors import InputError
    from halfmask.evaluation.measures.evaluate import MAX_DETECTIONS, evaluate
    from halfmask.evaluation.measures.given_boxes import IouTable
    from halfmask.evaluation.sheet import check_sheet, draw_sheet
    from halfmask.evaluation.subject import GivenBoxes, are_loose, evaluated
    from halfmask.evaluation.tables import table
    from halfmask.files.atomic import write_json
    from halfmask.inference.predictor import load

    if detector is not None and detections is not None:
        raise InputError(
            "--detector and --detections both say whose boxes MODEL fills: give one of them"
        )
    if sheet is not None:
        check_sheet(sheet)
    file = open_annotations(data)
    if not any(file.annotations_of(i) for i in file.image_ids):
        raise InputError(
            f"{data}: no usable annotation to evaluate against; `halfmask doctor` says what is "
            "in the file"
        )
    dataset = CocoInstances(file, images, use=use)
    boxes = None if detections is None else read_results(detections, file, MAX_DETECTIONS)
    predictor = load(model, detector, device)
    in_a = (
        resolve_masked(masked, file.categories, file.name)
        if masked
        else predictor.masked_of(file.categories)
    )
    loose = box_kind == "loose"
    if box_kind == "auto" and predictor.knows_loose_boxes:
        loose = are_loose(dataset, in_a, loosen)
    chosen = evaluated(predictor, file, GivenBoxes(loosen, loose), boxes)
    other = None
    if provider is not None:
        other = evaluated(load(provider, device=device), file, GivenBoxes(loosen, loose), None)
    only_given = chosen.detect is None
    if not (given_boxes or only_given):
        _refuse_without_given_boxes(loosen, reliability, sheet, provider)
    if only_given and not any(file.mask_counts(use).values()):
        raise InputError(
            f"{data}: no annotation has a usable mask to compare with, and {model} finds no "
            "boxes to score"
        )
    reader = Reader(
        dataset, workers, passes=(1 if only_given else 1 + given_boxes) + (other is not None)
    )
    ious = IouTable()
    with reader:
        result = evaluate(
            file,
            detections=None if chosen.detect is None else found_masks(reader, chosen.detect),
            given=given_masks(reader, chosen.segment) if given_boxes or only_given else None,
            masked=in_a,
            use=use,
            model=chosen.name,
            ious=ious,
        )
        if other is not None:
            drawn = evaluate(
                file,
                given=given_masks(reader, other.segment),
                masked=in_a,
                use=use,
                model=other.name,
            )
            result["provider"] = {
                key: drawn[key]
                for key in ("model", "given_boxes", "quality", "ambiguous", "seconds")
            }
    if not result["images"]:
        raise InputError(
            f"{images}: none of the photographs can be read; first: "
            f"{next(iter(reader.skipped.values()))}"
        )
    if loosen:
        result["loosen"] = loosen
    if loose and predictor.knows_loose_boxes:
        result["boxes"] = "loose"
    # Before anything is printed: a reader like `head` may close the pipe.
    if json is not None:
        write_json(json, result, indent=2)
    print(table(result, per_category))
    if reliability is not None:
        _draw_reliability(result["quality"], reliability, file.name)
    if sheet is not None:
        box_only = {row["id"] for row in result["per_category"] if not row["masked"]}
        note = chosen.name + (f", boxes moved by up to {loosen:g} of their size" if loosen else "")
        print(draw_sheet(sheet, dataset, chosen.segment, ious, box_only, note))
    if boxes is not None and boxes.outside:
        typer.echo(
            f"{boxes.name}: left out, as nothing of the box lies on its image: {boxes.outside}",
            err=True,
        )
    if reader.skipped:
        _report_skipped(list(reader.skipped.values()))
        raise typer.Exit(1)


def _refuse_without_given_boxes(
    loosen: float, reliability: Path | None, sheet: Path | None, provider: str | None
) -> None:
    from halfmask.errors import InputError

    for asked, why in (
        (loosen > 0, "--loosen: moves the file's own boxes"),
        (
            reliability is not None,
            "--reliability: compares masks in the file's own boxes with the truth",
        ),
        (sheet is not None, "--sheet: shows masks in the file's own boxes beside the truth"),
        (provider is not None, "--provider: draws masks into the file's own boxes"),
    ):
        if asked:
            raise InputError(f"{why}: add --given-boxes")


def _draw_reliability(blocks: dict[str, Any], out: Path, data: str) -> None:
    """The picture of the box-only classes' masks; of all masks where the truth has none
    of theirs.
    """
    from halfmask.pictures.reliability import reliability_plot

    name = "B" if blocks["B"]["instances"] else "all"
    which = "classes without masks in training (B)" if name == "B" else "all classes"
    print(
        reliability_plot(
            blocks[name], out, f"{blocks[name]['instances']} masks of {which}, {Path(data).name}"
        )
    )


def _report_skipped(lines: list[str]) -> None:
    typer.echo(f"{len(lines)} photographs skipped, their truth is left out:", err=True)
    for line in lines[:10]:
        typer.echo(f"  {line}", err=True)
    if len(lines) > 10:
        typer.echo(f"  … and {len(lines) - 10} more", err=True)
