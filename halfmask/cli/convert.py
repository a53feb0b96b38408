"""`halfmask convert`: other formats to COCO, and COCO to other formats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from halfmask.formats.options import Progress
    from halfmask.formats.report import Report
    from halfmask.formats.visual_genome.convert import Converted

VISUAL_GENOME = "visual-genome"


def run(
    form: Annotated[
        str,
        typer.Argument(
            help="To COCO: yolo, voc, cvat, label-studio, lvis, objects365, open-images, "
            "visual-genome. "
            "From COCO: to-yolo, to-voc, to-cvat, to-label-studio.",
            metavar="FORMAT",
        ),
    ],
    source: Annotated[
        Path, typer.Argument(help="File or folder to read; it is never written to.", metavar="SRC")
    ],
    out: Annotated[
        Path,
        typer.Argument(
            help="COCO file to write; from COCO, a new folder (CVAT: an XML file).", metavar="OUT"
        ),
    ],
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the photographs, where sizes must be read from them."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="One part of the source: train, val, …")] = None,
    masks: Annotated[
        Path | None, typer.Option(help="Folder of the mask PNGs (voc, open-images).")
    ] = None,
    zero_based: Annotated[
        bool,
        typer.Option("--zero-based", help="voc: boxes count from 0 and leave the last pixel out."),
    ] = False,
    image_url: Annotated[
        str | None,
        typer.Option(
            "--image-url",
            help="to-label-studio: what goes before a file name; local storage by default.",
        ),
    ] = None,
    coco_val: Annotated[
        Path | None,
        typer.Option(
            "--coco-val",
            help="visual-genome: COCO's instances_val2017.json, whose images become val.",
        ),
    ] = None,
    classes: Annotated[
        int,
        typer.Option(
            min=1, help="visual-genome: so many synsets become classes; COCO's 80 besides."
        ),
    ] = 3000,
    test: Annotated[
        int,
        typer.Option(min=0, help="visual-genome: the last images that are not COCO's become test."),
    ] = 5000,
    json: Annotated[Path | None, typer.Option("--json", help="Write the report as JSON.")] = None,
) -> None:
    """Turns another format into COCO, or COCO into another format; says at the end what
    could not be carried over.

    Box-only annotations stay box-only. Exit code 1: something in SRC could not be read
    and was left out.

    Examples: halfmask convert yolo dataset/data.yaml train.json --split train

    halfmask convert to-yolo masks.json dataset/ --images photos/
    """
    from halfmask.errors import InputError
    from halfmask.formats.options import LOCAL_STORAGE, Options
    from halfmask.formats.registry import READERS, WRITERS, check_options, read_into, write_from
    from halfmask.formats.report import Report

    if form == VISUAL_GENOME:
        _visual_genome(source, out, coco_val, classes, test)
        return
    if form not in READERS and form not in WRITERS:
        raise InputError(
            f"convert: no format {form}; there are: "
            f"{', '.join([*READERS, VISUAL_GENOME, *WRITERS])}"
        )
    given = {
        "--images": images,
        "--split": split,
        "--masks": masks,
        "--zero-based": zero_based,
        "--image-url": image_url,
    }
    check_options(form, [option for option, value in given.items() if value not in (None, False)])
    if images is not None and not images.is_dir():
        raise InputError(
            f"{images}: expected the folder of the photographs, there is no such folder"
        )
    tally = Report()

    def work(progress: Progress) -> str:
        options = Options(images, masks, split, zero_based, image_url or LOCAL_STORAGE, progress)
        return (read_into if form in READERS else write_from)(form, source, out, options, tally)

    _report(_with_progress(work), tally, json)


def _with_progress(work: Callable[[Progress], str]) -> str:
    """Runs a piece of work under a progress bar; a total of 0 is one that nobody knows."""
    from rich.progress import Progress as Bar

    with Bar(transient=True) as bar:
        task = bar.add_task("converting", total=None)
        return work(lambda step, total: bar.update(task, advance=step, total=total or None))


def _report(summary: str, tally: Report, json: Path | None) -> None:
    from halfmask.files.atomic import write_json

    print(summary)
    for line in tally.lines(tally.notes):
        print(f"note: {line}")
    for line in tally.lines(tally.faults):
        typer.echo(f"problem: {line}", err=True)
    if json is not None:
        write_json(json, {"written": summary, **tally.as_json()}, indent=2)
    if tally.faults:
        raise typer.Exit(1)


def _visual_genome(source: Path, out: Path, coco_val: Path | None, classes: int, test: int) -> None:
    from halfmask.errors import InputError
    from halfmask.formats.visual_genome.convert import IMAGES, OBJECTS, convert_visual_genome

    if coco_val is None:
        raise InputError(
            "convert visual-genome: --coco-val FILE is missing: name COCO's "
            "instances_val2017.json, or images that COCO tests on "
            "would be trained on"
        )
    sizes = {
        name: (source / name).stat().st_size
        for name in (OBJECTS, IMAGES)
        if (source / name).is_file()
    }
    if len(sizes) < 2:
        raise InputError(
            f"{source}: expected a folder with {OBJECTS} and {IMAGES}, found "
            f"{', '.join(sizes) or 'neither'}"
        )
    total = 2 * sizes[OBJECTS] + sizes[IMAGES]  # objects.json is read twice

    def work(progress: Progress) -> str:
        done = convert_visual_genome(
            source, out, coco_val, classes, test, lambda n: progress(n, total)
        )
        return "\n".join(_told(done))

    print(_with_progress(work))


def _told(done: Converted) -> list[str]:
    lines = [
        f"{file}: {done.images[split]} images, {done.boxes[split]} boxes"
        for split, file in done.files.items()
    ]
    found = len(done.classes.categories)
    lines.append(
        f"{found} classes (K = {found + 1} with background), {found - len(done.classes.added)} "
        "of them frequent; "
        f"for COCO's sake besides: {', '.join(done.classes.added) or 'none'}"
    )
    if done.classes.unmatched:
        lines.append(
            f"COCO's classes that nothing here stands for: {', '.join(done.classes.unmatched)}"
        )
    return lines + [
        f"left out: {count} objects {reason}" for reason, count in done.skipped.most_common()
    ]
