"""`halfmask review`: a page on which people review and edit annotations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import halfmask
from halfmask.cli.serve import LOCAL_HOST, Device, Host, Port, Token
from halfmask.cli.shared.options import EffortOption, MaxSizeOption, PrecisionOption, RuntimeOption
from halfmask.cli.shared.reading import fail_if_unread
from halfmask.terminal import say

if TYPE_CHECKING:
    from halfmask.web.review.serve import Reviewed


def run(
    data: Annotated[
        Path,
        typer.Argument(
            help="What `complete` wrote, or another data set; halfmask never changes it.",
            metavar="FILE",
        ),
    ],
    model: Annotated[
        str, typer.Argument(help="Model that draws a mask when a reviewer drags a box.")
    ] = "box-segmenter",
    images: Annotated[
        Path | None, typer.Option(help="Folder of the photographs. Default: where FILE says.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Reviewed COCO file to write. Default: beside FILE, its name with "
            ".reviewed.json; in a folder, halfmask.reviewed.json."
        ),
    ] = None,
    journal: Annotated[
        Path | None, typer.Option(help="File for the decisions. Default: FILE.review.jsonl.")
    ] = None,
    export: Annotated[
        bool,
        typer.Option(
            "--export", help="Write the reviewed file from the decisions so far; serve no page."
        ),
    ] = False,
    host: Host = LOCAL_HOST,
    port: Port = None,
    token: Token = False,
    device: Device = None,
    effort: EffortOption = None,
    runtime: RuntimeOption = "torch",
    precision: PrecisionOption = None,
    max_size: MaxSizeOption = None,
) -> None:
    """Serves a page on which people review filled masks, lowest score first.

    They accept, reject or redraw a mask, segment it again with another box, set its
    class or box, delete it, or add what is missing. In a file without filled masks they
    review those that people drew, the ones that the model doubts first.

    Every action is on the disk before the page shows it, and can be undone. If the
    review is stopped or killed, the same command resumes it. Several people can review
    at once. The page's Save button, or --export, writes the reviewed file; annotations
    that nobody changed keep their bytes.

    Example: halfmask review masks.json --images photos
    """
    # fmt: off
    done = halfmask.review(
        data, model, images=images, out=out, journal=journal, export=export, host=host,
        port=port, token=token, device=device, effort=effort, runtime=runtime,
        precision=precision, max_size=max_size,
    )
    # fmt: on
    _print_end(data, done)
    fail_if_unread(done.reading)


def _print_end(file: Path, done: Reviewed) -> None:
    _print_written(file, done)
    people = done.people
    if people.looked_at:
        say(f"people's masks: {people.looked_at:,} looked at, {people.wrong:,} wrong")


def _print_written(file: Path, done: Reviewed) -> None:
    if done.written is None or done.edits is None:
        say(
            f"\nto write the reviewed file: the page's Save button, or halfmask review {file} "
            f"--export --out {done.out}"
        )
        return
    counts = [f"{count} {state}" for state, count in done.written.items()]
    counts += [f"{n} {key.replace('_', ' ')}" for key, n in done.edits.items() if n]
    say(f"{done.out}: {', '.join(counts) or 'no decisions yet'}")
