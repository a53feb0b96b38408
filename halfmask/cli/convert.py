"""`halfmask convert`: other formats to COCO, and COCO to other formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import halfmask
from halfmask.cli.shared.options import CrowdMasksOption, ReadAsOption, complete_format
from halfmask.progress import Display
from halfmask.terminal import say


def run(
    format: Annotated[
        str,
        typer.Argument(
            help="To COCO: yolo, voc, cvat, label-studio, labelme, via, supervisely, datumaro, "
            "coco-panoptic, lvis, objects365, open-images, visual-genome. "
            "From COCO: to-coco (in its own forms), to-yolo, to-voc, to-cvat, to-label-studio.",
            metavar="FORMAT",
            autocompletion=complete_format,
        ),
    ],
    source: Annotated[
        Path,
        typer.Argument(help="File or folder to read; halfmask never changes it.", metavar="SRC"),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            help="To COCO: the file to write. From COCO: a new folder (CVAT: an XML file).",
            metavar="OUT",
        ),
    ],
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the photographs: for formats without image sizes, and to look up names."
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Part of the source to convert: train, val, …; yolo: all for all in one file."
        ),
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(help="Folder of the mask PNGs (voc, open-images, coco-panoptic).")
    ] = None,
    zero_based: Annotated[
        bool,
        typer.Option(
            "--zero-based", help="voc: pixels count from 0, and a box excludes its last pixel."
        ),
    ] = False,
    predictions: Annotated[
        bool,
        typer.Option(
            "--predictions",
            help="label-studio: read the last prediction of a task without an annotation; its "
            "masks count as filled by a model.",
        ),
    ] = False,
    image_url: Annotated[
        str | None,
        typer.Option(
            "--image-url",
            help="to-label-studio: URL before each file name. Default: local storage.",
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="to-yolo, to-cvat, to-label-studio: how far polygons of masks that a model drew "
            "may be from the mask's border. Default: 1 in YOLO; CVAT and Label Studio get masks.",
        ),
    ] = None,
    copy: Annotated[
        bool,
        typer.Option(
            "--copy", help="to-yolo, to-voc: photographs are copied into OUT, not linked."
        ),
    ] = False,
    crowd_masks: CrowdMasksOption = False,
    read_as: ReadAsOption = None,
    coco_val: Annotated[
        Path | None,
        typer.Option(
            "--coco-val",
            help="visual-genome: COCO's instances_val2017.json; its images become the part val.",
        ),
    ] = None,
    synsets: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="visual-genome: number of synsets to take as classes, besides COCO's 80. "
            "Default: 3000.",
        ),
    ] = None,
    test_count: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="visual-genome: size of the part test, the last images that are not in COCO. "
            "Default: 5000.",
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write the report as JSON.")] = None,
) -> None:
    """Converts another format to COCO, or COCO to another format.

    Box-only annotations stay box-only. A report at the end counts what could not be
    carried over. Exit code 1: a part of SRC could not be read and was left out.

    Examples: halfmask convert yolo dataset/data.yaml train.json --split train

    halfmask convert to-yolo masks.json dataset/ --images photos/
    """
    options: dict[str, Any] = {"images": images, "split": split, "masks": masks}
    options |= {"zero_based": zero_based, "predictions": predictions}
    options |= {"image_url": image_url, "tolerance": tolerance, "copy": copy}
    options |= {"crowd_masks": crowd_masks, "read_as": read_as}
    options |= {"coco_val": coco_val, "synsets": synsets, "test_count": test_count}
    with Display(quiet=True) as progress:
        done = halfmask.convert(format, source, out, json=json, progress=progress, **options)
    _show(done)


def _show(done: Any) -> None:
    say(done.summary)
    for note in done.notes:
        say(f"note: {note}")
    for problem in done.problems:
        say(f"problem: {problem}", err=True)
    if not done.ok:
        raise typer.Exit(1)
