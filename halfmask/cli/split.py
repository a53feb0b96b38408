"""`halfmask split`: simulates partial supervision."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import halfmask
from halfmask.cli.shared.options import CrowdMasksOption, ReadAsOption
from halfmask.cli.shared.reading import fail_if_unread
from halfmask.progress import Display
from halfmask.terminal import say


def run(
    data: Annotated[
        Path,
        typer.Argument(
            help="COCO file, or a data set in another format that `convert` reads.", metavar="DATA"
        ),
    ],
    masked: Annotated[
        str,
        typer.Option(
            help="Classes whose masks stay: voc, nonvoc, random:TRIAL:COUNT or names a,b,c."
        ),
    ],
    out: Annotated[Path, typer.Option(help="COCO file to write; not the input itself.")],
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the photographs, for formats without image sizes."),
    ] = None,
    crowd_masks: CrowdMasksOption = False,
    read_as: ReadAsOption = None,
) -> None:
    """Keeps the masks of the named classes and removes all others.

    The areas that were measured on removed masks go too. Crowds stay.

    Example: halfmask split instances_train.json --masked voc --out voc_masks.json
    """
    with Display(quiet=True) as progress:
        done = halfmask.split(
            data,
            masked=masked,
            out=out,
            images=images,
            crowd_masks=crowd_masks,
            read_as=read_as,
            progress=progress,
        )
    say(
        f"{done.out}: masks of {done.masked} of {done.classes} classes kept, "
        f"{done.kept} masks stay, {done.removed} removed"
    )
    fail_if_unread(done.reading)
