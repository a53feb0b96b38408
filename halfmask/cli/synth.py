"""`halfmask synth`: writes pictures of the procedural world."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import halfmask
from halfmask.progress import Display
from halfmask.terminal import say
from halfmask.text import plural


def run(
    folder: Annotated[
        Path, typer.Argument(help="Folder to write: images/, instances.json, contact_sheet.png.")
    ],
    image_count: Annotated[int, typer.Option(max=10_000_000, help="Number of pictures.")],
    seed: Annotated[
        int, typer.Option(help="Random seed. The same seed gives the same pictures.")
    ] = 0,
    class_count: Annotated[int, typer.Option(help="Number of classes, 1 to 6144.")] = 32,
    size: Annotated[int, typer.Option(help="Side of the square pictures, pixels.")] = 112,
    workers: Annotated[
        int, typer.Option(min=0, max=256, help="Processes that draw. 0: draw in this process.")
    ] = 0,
) -> None:
    """Writes pictures with exact masks in COCO format.

    A box alone does not show which of its pixels are its object's.

    Example: halfmask synth world/train --image-count 3000 --seed 0
    """
    with Display(quiet=True) as progress:
        world = halfmask.synth(
            folder,
            image_count=image_count,
            seed=seed,
            class_count=class_count,
            size=size,
            workers=workers,
            progress=progress,
        )
    drawn = f"{plural(image_count, 'picture')}, {plural(class_count, 'class', 'es')}, seed {seed}"
    say(
        f"{world.path}: {drawn}, {world.seconds:.1f} s ({image_count / world.seconds:.0f} images/s)"
    )
    say(f"{world.sheet}: the first of them with their masks")
