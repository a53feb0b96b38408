"""Opens a COCO file for a verb, with a progress bar where a large one has to be indexed first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from halfmask.coco.annotations import Annotations
    from halfmask.coco.index.file import CocoIndex
    from halfmask.coco.scan_lists import Progress

WORTH_A_LINE = 64 << 20
"""Bytes from which on a log that is no terminal says that an index is made."""


def open_file(path: Path) -> Annotations:
    """A COCO file: in memory, or through its index where it is large (`open_annotations`)."""
    from halfmask.coco.index.place import open_annotations

    with _bar(path) as progress:
        return open_annotations(path, progress)


def make_index(path: Path, anew: bool) -> CocoIndex:
    """The index of a file of any size, see `open_index`."""
    from halfmask.coco.index.place import open_index

    with _bar(path) as progress:
        return open_index(path, progress, anew)


@contextmanager
def _bar(path: Path) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"indexing {path.name}", total=None, visible=False)
        said = False

        def progress(done: int, total: int) -> None:
            nonlocal said
            if not said and not console.is_terminal and total > WORTH_A_LINE:
                console.print(
                    f"indexing {path} ({total / 2**20:.0f} MiB), once",
                    highlight=False,
                    soft_wrap=True,
                )
            said = True
            bar.update(task, completed=done, total=total, visible=True)

        yield progress
