"""`halfmask predict`: a model on photographs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

import halfmask
from halfmask.cli.shared.options import (
    ClassesOption,
    DetectorOption,
    EffortOption,
    MaxSizeOption,
    PrecisionOption,
    RuntimeOption,
)
from halfmask.cli.shared.reading import fail_if_unread, show_report
from halfmask.progress import Display
from halfmask.terminal import say
from halfmask.text import lines_of, plural

if TYPE_CHECKING:
    from halfmask.inference.predict import Predictions

SHOWN = 10
"""How many skipped photographs a report names before it counts the rest."""


def run(
    model: Annotated[
        str, typer.Argument(help="Checkpoint, run directory or shipped name (box-segmenter).")
    ],
    images: Annotated[
        list[Path], typer.Argument(help="Photographs, or folders of them and of folders.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for results.json, instances.json and overlays/.")
    ],
    detector: DetectorOption = None,
    classes: ClassesOption = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Data set whose boxes to fill; images are matched by file name."),
    ] = None,
    detections: Annotated[
        Path | None,
        typer.Option(help="COCO results file of any detector, with DATA's ids: boxes to fill."),
    ] = None,
    score: Annotated[
        float, typer.Option(min=0, max=1, help="Least score in overlays and instances.json.")
    ] = 0.5,
    overlays: Annotated[
        bool, typer.Option(help="Also draw a picture of each photograph with its masks.")
    ] = True,
    colour_by: Annotated[
        Literal["class", "supervision"],
        typer.Option(
            help="Colours of the pictures. supervision: green for classes with masks in "
            "training, red for classes with boxes only, yellow for few masks."
        ),
    ] = "class",
    beside: Annotated[
        str | None,
        typer.Option(
            help="Another model: each picture shows its masks for the same boxes at the right."
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, … Default: a GPU if there is one.")
    ] = None,
    effort: EffortOption = None,
    runtime: RuntimeOption = "torch",
    precision: PrecisionOption = None,
    max_size: MaxSizeOption = None,
) -> None:
    """Finds and outlines objects, and draws a picture for each photograph.

    OUT/instances.json is a COCO file of the objects with at least --score, for
    `review`, `complete` and `convert`. OUT/results.json holds every object as COCO
    results, each with its file_name and the model's mask_score. Photographs are
    turned as their EXIF orientation says. Those that cannot be read are skipped and
    counted (exit code 1).

    Example: halfmask predict runs/voc photo.jpg more_photos --out found

    Example: halfmask predict box-segmenter photos --out found --detector
    torchvision:fasterrcnn_mobilenet_v3_large_320_fpn

    Example: halfmask predict runs/transfer photos --out found --colour-by supervision
    --beside runs/agnostic
    """
    # fmt: off
    with Display(quiet=True) as progress:
        found = halfmask.predict(
            model, images, out=out, detector=detector, classes=classes, data=data,
            detections=detections, score=score, overlays=overlays, colour_by=colour_by,
            beside=beside, device=device, effort=effort, runtime=runtime, precision=precision,
            max_size=max_size, progress=progress,
        )
    # fmt: on
    _show(found)


def _show(found: Predictions) -> None:
    objects = plural(len(found.results), "object")
    say(f"{found.file}: {objects} in {plural(found.photographs, 'photograph')}")
    say(f"look at them: halfmask review {found.instances} --images {found.folder}")
    if found.skipped:
        say(f"{plural(len(found.skipped), 'photograph')} skipped:", err=True)
        say("\n".join(lines_of(found.skipped, SHOWN)), err=True)
        show_report(found.reading)
        raise typer.Exit(1)
    fail_if_unread(found.reading)
