"""`halfmask synth`: writes the procedural world."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    pass

CLASSES = 32
WORLD_SIZE = 112


def run(
    folder: Annotated[
        Path, typer.Argument(help="Folder to write: images/, instances.json, contact_sheet.png.")
    ],
    images: Annotated[int, typer.Option(help="Number of pictures.")],
    seed: Annotated[int, typer.Option(help="Picture i of a seed is always the same.")] = 0,
    classes: Annotated[
        int | None,
        typer.Option(help=f"The world's number of classes, 1 to 6144. Default: {CLASSES}."),
    ] = None,
    size: Annotated[
        int | None, typer.Option(help=f"Side of the square pictures. Default: {WORLD_SIZE} pixels.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that draw; 0: this one.")] = 0,
) -> None:
    """Writes pictures with exact masks in COCO format, in which a box does not tell
    which of its pixels are its object's.

    Example: halfmask synth world/train --images 3000 --seed 0
    """
    _write_world(folder, images, seed, classes, size, workers)


def _write_world(
    folder: Path, images: int, seed: int, classes: int | None, size: int | None, workers: int
) -> None:
    from halfmask.data.synthetic.write import write_world
    from halfmask.progress import displayed

    start, classes = time.perf_counter(), CLASSES if classes is None else classes
    side = WORLD_SIZE if size is None else size
    with displayed("drawing", images, "image") as display:
        path = write_world(folder, images, seed, classes, side, workers, display.advance)
    seconds = time.perf_counter() - start
    print(
        f"{path}: {images} pictures, {classes} classes, seed {seed}, {seconds:.1f} s "
        f"({images / seconds:.0f} images/s)"
    )
    print(f"{path.parent / 'contact_sheet.png'}: the first of them with their masks")
