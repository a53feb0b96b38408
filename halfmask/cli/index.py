"""`halfmask index`: a memory-mapped index beside a large COCO file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def run(
    data: Annotated[
        Path, typer.Argument(help="COCO instances file of any size.", metavar="DATA.json")
    ],
    folder: Annotated[
        Path | None,
        typer.Option(
            envvar="HALFMASK_INDEX_FOLDER",
            help="Put it here, not beside the file. train and evaluate look where the variable "
            "says.",
        ),
    ] = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="Make it even where one is there that fits.")
    ] = False,
) -> None:
    """Makes the index that `train` and `evaluate` read a large file through: opened at
    once, one copy for all workers.

    They make it themselves for a file of more than 256 MiB, and again when the file has
    changed; a smaller file is read through an index once it has one. The JSON file
    stays as it is, and is still needed.

    Example: halfmask index instances.json
    """
    import os
    import time

    from halfmask.coco.index.place import FOLDER_VARIABLE, index_path
    from halfmask.coco.open import make_index

    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        os.environ[FOLDER_VARIABLE] = str(folder)
    start = time.perf_counter()
    index = make_index(data, anew)
    counts = index.mask_counts()
    print(
        f"{index_path(data)}: {len(index.images)} images, {index.objects} boxes, "
        f"{sum(counts.values())} masks"
    )
    for kind, count in index.facts["left_out"].items():
        print(f"left out: {count} {kind.replace('_', ' ')}")
    print(f"{index_path(data).stat().st_size / 2**20:.1f} MiB, {time.perf_counter() - start:.1f} s")
