"""`halfmask split`: simulates partial supervision."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import halfmask


def run(
    data: Annotated[Path, typer.Argument(help="COCO file.", metavar="DATA.json")],
    masked: Annotated[
        str,
        typer.Option(
            help="Classes whose masks stay: voc, nonvoc, random:TRIAL:COUNT or names a,b,c."
        ),
    ],
    out: Annotated[Path, typer.Option(help="File to write; not the input itself.")],
) -> None:
    """Keeps the masks of the named classes and removes all others.

    The areas that were measured on removed masks go too. Crowds stay.

    Example: halfmask split instances_train.json --masked voc --out voc_masks.json
    """
    done = halfmask.split(data, masked=masked, out=out)
    print(
        f"{done.out}: masks of {done.masked} of {done.classes} classes kept, "
        f"{done.kept} masks stay, {done.removed} removed"
    )
