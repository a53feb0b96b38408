"""`halfmask tighten`: replaces loose boxes by those of their masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import halfmask
from halfmask.terminal import PlainConsole, PlainTable, say
from halfmask.text import listed, plural

if TYPE_CHECKING:
    from halfmask.coco.tightness import Tightening

SHOWN = 10
"""How many classes or ids a report names before it counts the rest."""


def run(
    data: Annotated[Path, typer.Argument(help="COCO file.")],
    out: Annotated[
        Path | None,
        typer.Option(help="File to write; not the input itself. Without it, only the report."),
    ] = None,
    filled: Annotated[
        bool, typer.Option("--filled", help="Filled masks that nobody has reviewed count too.")
    ] = False,
    json: Annotated[Path | None, typer.Option(help="Write the report as JSON.")] = None,
) -> None:
    """Replaces loose boxes by those of their masks.

    A box is loose if a side is more than a pixel from its mask's. Masks of the file
    count, and masks that a reviewer accepted or drew. The old box is kept below
    halfmask.box; nothing else changes. Exit code 1: some annotations have no usable
    box, image or class.

    Example: halfmask tighten masks.json --out tight.json
    """
    done = halfmask.tighten(data, out=out, filled=filled, json=json)
    _show(done)
    if done.unusable:
        raise typer.Exit(1)


def _show(done: Tightening) -> None:
    iou = "" if done.mean_iou is None else f", mean IoU with their masks' boxes {done.mean_iou:.2f}"
    say(f"{done.loose} of {done.boxes} boxes with a mask are loose{iou}")
    loose = sorted((c for c in done.classes if c["loose"]), key=lambda c: -c["loose"])
    if loose:
        table = PlainTable("class", "boxes", "loose", "mean IoU of the loose")
        for c in loose[:SHOWN]:
            table.add_row(c["name"], str(c["boxes"]), str(c["loose"]), f"{c['mean_iou']:.2f}")
        PlainConsole().print(table)
        if len(loose) > SHOWN:
            say(f"and {plural(len(loose) - SHOWN, 'class', 'es')} with fewer: --json lists all")
        say(f"loosest first: annotations {listed([one['id'] for one in done.worst], SHOWN)}")
    if done.left_out:
        states = (f"{count} {state}" for state, count in sorted(done.left_out.items()))
        say(f"left alone: {', '.join(states)}")
    if done.unusable:
        say(f"without a usable box, image or class: {listed(done.unusable, SHOWN)}", err=True)
    say("nothing was written: --out F writes the file" if done.out is None else done.out)
