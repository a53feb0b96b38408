"""`halfmask convert`: other formats to COCO."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from halfmask.coco.visual_genome import Converted

FORMATS = ("visual-genome",)


def run(
    form: Annotated[str, typer.Argument(help=f"One of: {', '.join(FORMATS)}.", metavar="FORMAT")],
    source: Annotated[
        Path, typer.Argument(help="Folder with objects.json and image_data.json (version 1.4).", metavar="SRC")
    ],
    out: Annotated[
        Path, typer.Argument(help="Written as OUT_train.json, OUT_val.json, OUT_test.json.", metavar="OUT.json")
    ],
    coco_val: Annotated[
        Path | None,
        typer.Option(
            "--coco-val", help="COCO's instances_val2017.json: Visual Genome's images that are in it become val."
        ),
    ] = None,
    classes: Annotated[
        int, typer.Option(min=1, help="The most frequent synsets become classes; COCO's 80 besides.")
    ] = 3000,
    test: Annotated[int, typer.Option(min=0, help="The last images that are not COCO's become test.")] = 5000,
) -> None:
    """Turns another format into COCO files. `visual-genome`: boxes of 3000 synsets, COCO's 80 classes first and by COCO's names.

    Example: halfmask convert visual-genome vg/ vg/vg3k.json --coco-val coco/annotations/instances_val2017.json
    """
    from rich.progress import Progress

    from halfmask.coco.visual_genome import IMAGES, OBJECTS, convert_visual_genome
    from halfmask.errors import InputError

    if form not in FORMATS:
        raise InputError(f"convert: no format {form}; there are: {', '.join(FORMATS)}")
    if coco_val is None:
        raise InputError(
            "convert visual-genome: --coco-val FILE is missing: name COCO's instances_val2017.json, or images that COCO tests on "
            "would be trained on"
        )
    sizes = {name: (source / name).stat().st_size for name in (OBJECTS, IMAGES) if (source / name).is_file()}
    if len(sizes) < 2:
        raise InputError(
            f"{source}: expected a folder with {OBJECTS} and {IMAGES}, found {', '.join(sizes) or 'neither'}"
        )
    with Progress(transient=True) as bar:
        task = bar.add_task("converting", total=2 * sizes[OBJECTS] + sizes[IMAGES])  # objects.json is read twice
        done = convert_visual_genome(source, out, coco_val, classes, test, lambda n: bar.advance(task, n))
    _tell(done)


def _tell(done: Converted) -> None:
    for split, file in done.files.items():
        print(f"{file}: {done.images[split]} images, {done.boxes[split]} boxes")
    found = len(done.classes.categories)
    print(
        f"{found} classes (K = {found + 1} with background), {found - len(done.classes.added)} of them frequent; "
        f"for COCO's sake besides: {', '.join(done.classes.added) or 'none'}"
    )
    if done.classes.unmatched:
        print(f"COCO's classes that nothing here stands for: {', '.join(done.classes.unmatched)}")
    for reason, count in done.skipped.most_common():
        print(f"left out: {count} objects {reason}")
