"""`halfmask split`: simulates partial supervision."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def run(
    data: Annotated[Path, typer.Argument(help="COCO file.", metavar="DATA.json")],
    masked: Annotated[
        str,
        typer.Option(
            help="Classes whose masks stay: voc, nonvoc, random:TRIAL:COUNT or names a,b,c.",
            metavar="SPEC",
        ),
    ],
    out: Annotated[Path, typer.Option(help="File to write; never the input.", metavar="F")],
) -> None:
    """Keeps the masks of the named classes and removes all others, with the area that
    was measured on them. Crowds stay.

    Example: halfmask split instances_train.json --masked voc --out voc_masks.json
    """
    from halfmask.coco.categories import resolve_masked
    from halfmask.coco.edit import strip_masks
    from halfmask.coco.file import CocoFile
    from halfmask.errors import InputError
    from halfmask.files.atomic import write_json

    if out.exists() and data.exists() and out.samefile(data):
        raise InputError(
            f"{out}: this is the input; expected another file for --out, since the removed "
            "masks would be lost"
        )
    file = CocoFile.read(data)
    keep = resolve_masked(masked, file.categories, file.name)
    stripped = CocoFile.from_document(strip_masks(file.document, keep), str(out))
    before, after = file.mask_counts(), stripped.mask_counts()
    write_json(out, stripped.document)
    print(
        f"{out}: masks of {len(keep)} of {len(file.categories)} classes kept, "
        f"{sum(after.values())} masks stay, {sum(before.values()) - sum(after.values())} removed"
    )
