"""`halfmask complete`: fills in the missing masks of a COCO file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from halfmask.inference.complete.complete import Completion
    from halfmask.progress import Display

Boxes = Literal["auto", "tight", "loose"]

SHOWN = 10
"""How many ids or lines a report names before it counts the rest."""


def run(
    model: Annotated[
        str,
        typer.Argument(
            help="Checkpoint, run directory, box-segmenter, baseline:grabcut, or sam2:…."
        ),
    ],
    data: Annotated[Path, typer.Argument(help="COCO instances file; it is never written to.")],
    images: Annotated[Path, typer.Option(help="Folder of its photographs.")],
    out: Annotated[
        Path, typer.Option(help="The completed file. While it is made, OUT.journal lies beside it.")
    ],
    polygons: Annotated[
        bool, typer.Option("--polygons", help="Outlines along the pixels instead of RLE.")
    ] = False,
    redo_filled: Annotated[
        bool,
        typer.Option("--redo-filled", help="Fill anew what halfmask filled and nobody accepted."),
    ] = False,
    workers: Annotated[
        int, typer.Option(min=0, help="Threads that decode photographs; the result is the same.")
    ] = 2,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be filled.")
    ] = False,
    json: Annotated[Path | None, typer.Option(help="Write what was done here.")] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(
            help="Draw the best, median and worst of the new masks by score here (.png, .jpg)."
        ),
    ] = None,
    boxes: Annotated[
        Boxes,
        typer.Option(
            help="Do the boxes end where their objects do? auto: measured on objects that have "
            "a mask already."
        ),
    ] = "auto",
    provider: Annotated[
        str | None,
        typer.Option(
            help="What draws the masks instead (sam:facebook/sam-vit-base, …); MODEL says how "
            "far it agrees."
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, … Default: a GPU where there is one.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Draw on all machines of a Ray cluster; auto: the one that runs here, else "
            "this machine's own cores; local: these alone.",
        ),
    ] = None,
) -> None:
    """Writes the same file with a mask for every box that lacks one; each new mask
    carries the model, a score and the state `filled`.

    Masks that exist keep their value; crowds, and polygons that merely repeat their
    box, are left alone and reported. A broken mask is replaced, its old value kept
    below halfmask.replaced. A class that the model does not know is filled all the
    same. Killed or interrupted, the same command goes on where it stopped. Photographs
    that cannot be read are skipped and counted (exit code 1).

    Example: halfmask complete box-segmenter boxes.json --images photos --out masks.json

    With --provider each new mask also carries `agreement`, its IoU with MODEL's own
    mask: where they differ, look first.

    The paper's GrabCut Mask R-CNN: halfmask complete baseline:grabcut boxes.json …,
    then train on that with data.use=filled.
    """
    from halfmask.files.atomic import write_json
    from halfmask.inference.complete.complete import complete, journal_of
    from halfmask.inference.predictor import load
    from halfmask.pictures.filled_sheet import draw_filling_sheet
    from halfmask.pictures.save import check_sheet
    from halfmask.progress import Display

    if dry_run:
        _dry_run(provider or model, data, images, out, redo_filled)
        return
    if sheet is not None:
        check_sheet(sheet)
    predictor = load(model, device=device)
    drawer = None if provider is None else load(provider, device=device)
    display = Display(quiet=True)
    try:
        done = complete(
            predictor,
            data,
            images,
            out,
            polygons,
            redo_filled,
            workers,
            _shown_on(display),
            boxes,
            drawer,
            ray,
        )
    except KeyboardInterrupt:
        display.stop()
        if journal_of(out).exists():
            typer.echo("what is finished is noted; the same command goes on from there", err=True)
        raise
    finally:
        display.stop()
    _report(done)
    if json is not None:
        write_json(json, _as_json(done), indent=2)
    if sheet is not None:
        print(draw_filling_sheet(sheet, out, images))
    if done.skipped or done.unusable:
        raise typer.Exit(1)


def _shown_on(display: Display) -> Callable[[int, int], None]:
    """The first call says what an earlier run has left done, and how much there is."""
    begun = False

    def show(count: int, total: int) -> None:
        nonlocal begun
        if not begun:
            begun = True
            display.start("filling masks", total, "mask", count)
        display.update(count)

    return show


def _dry_run(model: str, data: Path, images: Path, out: Path, redo_filled: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from halfmask.coco.file import CocoFile
    from halfmask.inference.complete.complete import check_places, check_work
    from halfmask.inference.complete.plan import plan
    from halfmask.inference.predictor import load

    check_places(data, images, out)
    file = CocoFile.read(data)
    work = plan(file, redo_filled)
    check_work(file, work, images)
    predictor = load(model, device="cpu")
    labels = predictor.labels_of(file.categories)
    table = Table("class", "would be filled", "")
    for category in file.categories:
        if work.to_fill[category["id"]]:
            asks = bool(predictor.categories)  # a rule asks for no class
            note = (
                "a class that the model does not know"
                if asks and not labels[category["id"]]
                else ""
            )
            table.add_row(category["name"], str(work.to_fill[category["id"]]), note)
    if work.total:
        Console().print(table)
    photographs = len({piece.image["id"] for batch in work.batches for piece in batch})
    print(f"would fill {work.total} masks in {photographs} photographs; nothing was written")
    print(f"would leave alone: {_kept(work.counts)}")
    if work.unusable:
        typer.echo(
            f"annotations without a usable box, image or class: {_some(work.unusable)}", err=True
        )
        raise typer.Exit(1)


def _report(done: Completion) -> None:
    score = "" if done.mean_score is None else f", mean score {done.mean_score:.2f}"
    if done.mean_agreement is not None:
        score += f", mean IoU with the model's own masks {done.mean_agreement:.2f}"
    resumed = f" ({done.resumed} of them by the run before)" if done.resumed else ""
    print(
        f"{done.out}: {done.filled} masks filled{resumed}{score}"
        if done.filled
        else f"{done.out}: nothing was filled"
    )
    if done.loose:
        print(
            f"boxes were taken for loose ones{_agreement(done.tightness)}: --boxes tight if "
            "they are not"
        )
    print(f"left alone: {_kept(done.counts)}")
    if done.counts["broken"]:
        print(
            f"{done.counts['broken']} broken masks were replaced; their old value is kept "
            "below halfmask.replaced"
        )
    if done.suspects:
        print(
            "suspect, the polygon repeats its box: annotations "
            f"{_some([str(i) for i in done.suspects])}"
        )
    if done.unknown_classes:
        print(f"filled although the model does not know the class: {_some(done.unknown_classes)}")
    if done.unusable:
        typer.echo(
            f"{len(done.unusable)} without a usable box, image or class: {_some(done.unusable)}",
            err=True,
        )
    if done.skipped:
        typer.echo(
            f"{len(done.skipped)} photographs skipped, {done.unfilled} masks are missing still:",
            err=True,
        )
        for line in done.skipped[:SHOWN]:
            typer.echo(f"  {line}", err=True)
        if len(done.skipped) > SHOWN:
            typer.echo(f"  … and {len(done.skipped) - SHOWN} more", err=True)


def _agreement(tightness: float | None) -> str:
    return (
        ""
        if tightness is None
        else f" (mean IoU of {tightness:.2f} with the own boxes of the masks that exist)"
    )


def _kept(counts: dict[str, int]) -> str:
    names = {
        "kept": "masks",
        "earlier": "filled before",
        "rejected": "rejected in review",
        "suspect": "suspect",
        "crowd": "crowds",
        "unusable": "unusable",
    }
    return (
        ", ".join(f"{counts[key]} {name}" for key, name in names.items() if counts.get(key))
        or "nothing"
    )


def _some(items: list[str]) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more


def _as_json(done: Completion) -> dict[str, object]:
    return {
        "out": str(done.out),
        "filled": done.filled,
        "resumed": done.resumed,
        "unfilled": done.unfilled,
        "mean_score": done.mean_score,
        "mean_agreement": done.mean_agreement,
        "counts": dict(done.counts),
        "suspects": done.suspects,
        "skipped": done.skipped,
        "unusable": done.unusable,
        "unknown_classes": done.unknown_classes,
        "tightness": done.tightness,
        "loose": done.loose,
    }
