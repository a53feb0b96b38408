"""`halfmask index`: a memory-mapped index beside a large COCO file."""

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
            help="COCO instances file of any size, or a data set in another format that `convert` "
            "reads.",
            metavar="DATA",
        ),
    ],
    folder: Annotated[
        Path | None,
        typer.Option(
            envvar="HALFMASK_INDEX_FOLDER",
            help="Folder for the index. Default: beside the file. train and evaluate look in the "
            "folder that the variable names.",
        ),
    ] = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="Write the index again, even if it is current.")
    ] = False,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the photographs, for formats without image sizes."),
    ] = None,
    crowd_masks: CrowdMasksOption = False,
    read_as: ReadAsOption = None,
) -> None:
    """Writes the index through which `train` and `evaluate` read a large file.

    An index opens at once, and all workers share one copy. `train` and `evaluate` write
    it themselves for a file of more than 256 MiB, and again when the file has changed.
    A smaller file is read through its index if it has one. The JSON file does not
    change and is still needed.

    Example: halfmask index instances.json
    """
    # fmt: off
    with Display(quiet=True) as progress:
        made = halfmask.index(
            data, folder=folder, anew=anew, images=images, crowd_masks=crowd_masks,
            read_as=read_as, progress=progress,
        )
    # fmt: on
    if Path(made.data) != data:
        say(f"read as COCO: {made.data}")
    say(f"{made.path}: {made.images} images, {made.boxes} boxes, {made.masks} masks")
    for kind, count in made.left_out.items():
        say(f"left out: {count} {kind.replace('_', ' ')}")
    say(f"{made.bytes / 2**20:.1f} MiB, {made.seconds:.1f} s")
    fail_if_unread(made.reading)
