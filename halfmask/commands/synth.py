"""`halfmask synth`: writes the procedural world."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def run(
    folder: Annotated[Path, typer.Argument(help="Folder to write: images/, instances.json, contact_sheet.png.")],
    images: Annotated[int, typer.Option(help="Number of pictures.")],
    seed: Annotated[int, typer.Option(help="Picture i of a seed is always the same.")] = 0,
    classes: Annotated[int, typer.Option(help="Number of classes, 1 to 6144.")] = 32,
    size: Annotated[int, typer.Option(help="Side of the square pictures in pixels.")] = 112,
    workers: Annotated[int, typer.Option(help="Processes that draw; 0: this one.")] = 0,
) -> None:
    """Writes the procedural world: composite objects whose box does not tell which pixels are theirs, with exact masks, in COCO format.

    Example: halfmask synth world/train --images 3000 --seed 0
    """
    import time

    from rich.progress import Progress

    from halfmask.data.synthetic import write_world

    start = time.perf_counter()
    with Progress(transient=True) as progress:
        task = progress.add_task("drawing", total=images)
        path = write_world(folder, images, seed, classes, size, workers, lambda n: progress.update(task, advance=n))
    seconds = time.perf_counter() - start
    print(
        f"{path}: {images} pictures, {classes} classes, seed {seed}, {seconds:.1f} s ({images / seconds:.0f} images/s)"
    )
    print(f"{path.parent / 'contact_sheet.png'}: the first of them with their masks")
