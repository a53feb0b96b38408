"""`halfmask complete`: fills in the missing masks of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

import halfmask
from halfmask.cli.shared.options import (
    AcceptChangesOption,
    ClassesOption,
    CrowdMasksOption,
    DetectorOption,
    EffortOption,
    MaxSizeOption,
    PrecisionOption,
    ReadAsOption,
    RuntimeOption,
)
from halfmask.cli.shared.reading import show_additions, show_report
from halfmask.progress import Display
from halfmask.terminal import PlainConsole, PlainTable, say
from halfmask.text import lines_of, listed, plural

if TYPE_CHECKING:
    from halfmask.inference.complete.report import Completion

SHOWN = 10  # ids or lines that a report names before it counts the rest


def run(
    model: Annotated[
        str,
        typer.Argument(
            help="auto, box-segmenter, a checkpoint, a run directory, baseline:grabcut, or sam2:…."
        ),
    ],
    data: Annotated[
        Path,
        typer.Argument(
            help="COCO file, or a data set in another format that `convert` reads; halfmask "
            "never changes it."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="File or new folder to write. OUT.journal lies beside it until it is complete."
        ),
    ],
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the photographs. Default: where the data set says."),
    ] = None,
    out_format: Annotated[
        Literal["same", "coco", "yolo", "voc", "cvat", "label-studio"],
        typer.Option("--out-format", help="Format of OUT. same: that of DATA."),
    ] = "same",
    polygons: Annotated[
        bool,
        typer.Option("--polygons", help="Write masks as polygons that people can edit, not RLE."),
    ] = False,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0,
            help="How far polygons may be from their mask's border. 0 follows every pixel. A "
            "finer one is used where their IoU with the mask would be below 0.97.",
        ),
    ] = 1.0,
    redo_filled: Annotated[
        bool,
        typer.Option("--redo-filled", help="Draw again the filled masks that nobody accepted."),
    ] = False,
    replace_broken: Annotated[
        bool,
        typer.Option(
            "--replace-broken",
            help="Fill objects whose mask cannot be read, too; its value is kept in the file.",
        ),
    ] = False,
    crowd_masks: CrowdMasksOption = False,
    read_as: ReadAsOption = None,
    workers: Annotated[
        int,
        typer.Option(
            min=0, max=256, help="Threads that decode photographs. The result stays the same."
        ),
    ] = 2,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be filled; write nothing.")
    ] = False,
    json: Annotated[Path | None, typer.Option(help="Write a report to this file.")] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(help="Draw new masks with the best, median and worst scores (.png, .jpg)."),
    ] = None,
    boxes: Annotated[
        Literal["auto", "tight", "loose"],
        typer.Option(
            help="Whether the boxes end where their objects end. auto: measure this on the "
            "objects that have masks."
        ),
    ] = "auto",
    provider: Annotated[
        str | None,
        typer.Option(
            help="Another model that draws the masks, for example sam:facebook/sam-vit-base. "
            "Each mask is compared with MODEL's."
        ),
    ] = None,
    detector: DetectorOption = None,
    classes: ClassesOption = None,
    detections: Annotated[
        Path | None,
        typer.Option(help="COCO results file of any detector, with DATA's ids: objects to add."),
    ] = None,
    add_objects: Annotated[
        bool,
        typer.Option(
            "--add-objects",
            help="Also add what DETECTOR (or --detections) finds where DATA has no box.",
        ),
    ] = False,
    add_score: Annotated[
        float, typer.Option(min=0, max=1, help="Least score of an object to add.")
    ] = 0.5,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, … Default: a GPU if there is one.")
    ] = None,
    effort: EffortOption = None,
    runtime: RuntimeOption = "torch",
    precision: PrecisionOption = None,
    max_size: MaxSizeOption = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Draw on all machines of the Ray cluster at this address. auto: the cluster that "
            "runs here, or else the cores of this machine. local: only this machine.",
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="How long adapting may take, with auto. Default: 10.")
    ] = None,
    accept_changes: AcceptChangesOption = False,
) -> None:
    """Writes a data set again with a mask for every box that lacks one.

    With MODEL auto the shipped box segmenter first learns from the masks of DATA, if
    there are at least 50, and stays as it is unless masks that it did not learn from
    get better. A paragraph at the end says what to expect and what to do next. The
    model is kept in OUT.run.

    Example: halfmask complete auto yolo/ --out out/

    Each new mask carries the model, a score and the state `filled`. Masks that exist
    keep their value. Crowds, and polygons that only repeat their box, stay as they are
    and are reported, and so are masks that cannot be read (exit code 1): a person may
    have drawn them. With --replace-broken they are filled, and the old value is kept
    below halfmask.replaced. Classes that the model does not know are filled, too. After
    a kill or an interruption the same command goes on where it stopped. Photographs
    that cannot be read are skipped and counted (exit code 1).

    Example: halfmask complete box-segmenter boxes.json --images photos --out masks.json

    A data set in another format than COCO comes back in that format, with its parts,
    file names and class numbers. The COCO file with all scores is kept with it.

    Example: halfmask complete box-segmenter yolo/data.yaml --out yolo_masks

    With --provider each new mask carries `agreement`, its IoU with MODEL's own mask.

    With --add-objects each detection of a class of DATA that overlaps no box (IoU below
    0.5 with all of them) and lies in no crowd becomes an annotation with a mask, a new
    id, and `halfmask.added`.

    The paper's GrabCut Mask R-CNN: halfmask complete baseline:grabcut boxes.json …,
    then train on that with data.use=filled.
    """
    # fmt: off
    with Display(quiet=True) as progress:
        done = halfmask.complete(
            model, data, images=images, out=out, out_format=out_format, polygons=polygons,
            tolerance=tolerance, redo_filled=redo_filled, replace_broken=replace_broken,
            crowd_masks=crowd_masks, read_as=read_as, workers=workers, dry_run=dry_run,
            json=json, sheet=sheet, boxes=boxes, provider=provider, detector=detector,
            classes=classes, detections=detections, add_objects=add_objects, add_score=add_score,
            device=device, effort=effort, runtime=runtime, precision=precision, max_size=max_size,
            ray=ray, minutes=minutes, accept_changes=accept_changes, progress=progress,
        )
    # fmt: on
    _show(done)


def _show(done: Completion) -> None:
    (_print_plan if done.dry_run else _print_result)(done)
    is_whole = [show_report(done.reading), show_report(done.writing)]
    _print_summary(done.summary)
    if done.skipped or done.unusable or done.broken or not all(is_whole):
        raise typer.Exit(1)


def _print_summary(summary: str) -> None:
    """Prints a paragraph at the width of the terminal, and the next command in one line."""
    paragraph, _, command = summary.partition("\n")
    if paragraph:
        say()
        PlainConsole().print(paragraph)
    if command:
        say(f"\n{command}")


def _print_plan(done: Completion) -> None:
    table = PlainTable(
        "class", "would be filled", *[""] * any(not one.known for one in done.classes)
    )
    for one in done.classes:
        note = [] if one.known else ["a class that the model does not know"]
        table.add_row(one.name, str(one.masks), *note)
    if done.classes:
        PlainConsole().print(table)
    photographs = plural(done.plan.image_count, "photograph")
    say(f"would fill {plural(done.plan.total, 'mask')} in {photographs}; nothing was written")
    show_additions(done.additions, "would be added")
    say(f"would leave alone: {_kept(done.counts)}")
    _print_broken(done)
    if done.unusable:
        ids = listed(done.unusable, SHOWN)
        say(f"annotations without a usable box, image or class: {ids}", err=True)


def _print_result(done: Completion) -> None:
    score = "" if done.mean_score is None else f", mean score {done.mean_score:.2f}"
    if done.mean_agreement is not None:
        score += f", mean IoU with the model's own masks {done.mean_agreement:.2f}"
    resumed = f" ({done.resumed} of them by the run before)" if done.resumed else ""
    filled = f"{done.filled} masks filled{resumed}{score}" if done.filled else "nothing was filled"
    say(f"{done.out}: {filled}")
    show_additions(done.additions, "added")
    if done.coco not in (None, done.out):
        say(f"{done.coco}: the same as COCO, with each mask's score and state")
    if done.loose:
        measured = (
            ""
            if done.tightness is None
            else f" (mean IoU of {done.tightness:.2f} with the own boxes of the masks that exist)"
        )
        say(f"boxes count as loose{measured}; use --boxes tight if they are not")
    say(f"left alone: {_kept(done.counts)}")
    if done.counts["replaced"]:
        say(
            f"{plural(done.counts['replaced'], 'broken mask')} replaced; the old values are kept "
            "below halfmask.replaced"
        )
    if done.suspects:
        say(f"suspect, the polygon repeats its box: annotations {listed(done.suspects, SHOWN)}")
    if done.unknown_classes:
        names = listed(done.unknown_classes, SHOWN)
        say(f"filled although the model does not know the class: {names}")
    if done.sheet is not None:
        say(done.sheet)
    _print_faults(done)


def _print_broken(done: Completion) -> None:
    if done.broken:
        say(
            f"{plural(len(done.broken), 'mask')} that cannot be read, left as in the file: "
            f"annotations {listed(done.broken, SHOWN)}; `halfmask doctor` says why, and "
            "--replace-broken fills them and keeps the old values",
            err=True,
        )


def _print_faults(done: Completion) -> None:
    _print_broken(done)
    if done.unusable:
        ids = listed(done.unusable, SHOWN)
        say(f"{len(done.unusable)} without a usable box, image or class: {ids}", err=True)
    if done.skipped:
        skipped = plural(len(done.skipped), "photograph")
        say(f"{skipped} skipped, {plural(done.unfilled, 'mask')} still missing:", err=True)
        say("\n".join(lines_of(done.skipped, SHOWN)), err=True)


def _kept(counts: dict[str, int]) -> str:
    names = {
        "kept": "masks",
        "earlier": "filled before",
        "rejected": "rejected in review",
        "suspect": "suspect",
        "broken": "broken",
        "crowd": "crowds",
        "unusable": "unusable",
    }
    kept = [f"{counts[key]} {name}" for key, name in names.items() if counts.get(key)]
    return ", ".join(kept) or "nothing"
