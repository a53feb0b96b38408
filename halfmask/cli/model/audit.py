"""`halfmask audit`: lists the masks of people that look wrong."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

import halfmask
from halfmask.cli.shared.options import CrowdMasksOption, ReadAsOption
from halfmask.cli.shared.reading import show_report
from halfmask.progress import Display
from halfmask.terminal import PlainConsole, PlainTable, say
from halfmask.text import listed, plural, with_counts

if TYPE_CHECKING:
    from halfmask.labelling.audit.result import Audit

SHOWN = 20
"""Masks on the screen; --json and --html have more."""
NAMES = 10


def run(
    data: Annotated[
        Path,
        typer.Argument(
            help="COCO file, or a data set in another format that `convert` reads.", metavar="DATA"
        ),
    ],
    images: Annotated[
        Path | None, typer.Option(help="Folder of the photographs. Default: where DATA says.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="Model whose masks are compared with those of DATA.")
    ] = "box-segmenter",
    json: Annotated[Path | None, typer.Option(help="Write the report as JSON.")] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with pictures of the first 100 masks.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="List so many masks at most. Default: all.", min=1)
    ] = None,
    effort: Annotated[
        Literal["fast", "balanced", "best"] | None,
        typer.Option(
            help="How often a box segmenter looks at each box, as in complete. Default: fast."
        ),
    ] = None,
    crowd_masks: CrowdMasksOption = False,
    read_as: ReadAsOption = None,
    workers: Annotated[int, typer.Option(help="Threads that decode photographs.", min=0)] = 2,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, … Default: a GPU if there is one.")
    ] = None,
) -> None:
    """Lists the masks that people drew, the most doubtful first.

    A model draws each mask anew. A mask is doubtful where a model that is sure of its
    own disagrees, where it does not fit its box or fits another, has holes, repeats
    another mask, or fits the photograph better after a move. Nothing is changed.

    Exit code 1: a mask is probably wrong (a score of at least 0.5), or something cannot
    be read.

    Example: halfmask audit instances.json --images photos --html audit.html
    """
    # fmt: off
    with Display(quiet=True) as progress:
        done = halfmask.audit(
            data, images=images, model=model, json=json, html=html, limit=limit, effort=effort,
            crowd_masks=crowd_masks, read_as=read_as, workers=workers, device=device,
            progress=progress,
        )
    # fmt: on
    _show(done, images, html)
    show_report(done.reading)
    if not done.ok:
        raise typer.Exit(1)


def _show(done: Audit, images: Path | None, html: Path | None) -> None:
    say(
        f"{plural(done.looked_at, 'mask')} compared with those of {done.model}: "
        f"{done.doubtful:,} probably wrong"
    )
    _show_masks(done)
    if done.left_out:
        say(f"not compared: {', '.join(with_counts(done.left_out))}")
    for line in done.unread:
        say(f"problem: {line}", err=True)
    if done.unusable:
        text = f"problem: without a usable box, image or class: {listed(done.unusable, NAMES)}"
        say(text, err=True)
    if html is not None:
        say(f"page: {html}")
    if "filled" not in done.left_out:  # else the page shows the filled ones alone
        where = [] if images is None else ["--images", str(images)]
        say(f"Next: {shlex.join(['halfmask', 'review', done.data, *where])}")


def _show_masks(done: Audit) -> None:
    table = PlainTable("", "score", "annotation", "class", "why", box=None, pad_edge=False)
    for mask in done.masks[:SHOWN]:
        table.add_row(
            str(mask.rank),
            f"{mask.score:.2f}",
            str(mask.annotation_id),
            mask.category,
            mask.reasons[0],
        )
    PlainConsole().print(table)
    left = len(done.masks) - SHOWN
    if left > 0:
        say(f"{left:,} further masks: --json lists all, --html shows the first 100")
