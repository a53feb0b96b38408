"""`halfmask review`: a page on which people review filled masks, worst first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import halfmask
from halfmask.cli.serve import LOCAL_HOST, Device, Host, Port, Token
from halfmask.cli.shared.options import EffortOption, PrecisionOption, RuntimeOption
from halfmask.cli.shared.reading import fail_if_unread
from halfmask.terminal import say


def run(
    data: Annotated[
        Path,
        typer.Argument(
            help="File or folder that `complete` wrote; halfmask never changes it.", metavar="FILE"
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
    precision: PrecisionOption = "float32",
) -> None:
    """Serves a page on which people review filled masks, lowest score first.

    They accept, reject or redraw a mask, or segment it again with another box.

    Every decision is on the disk before the page shows the next mask. If the review is
    stopped or killed, the same command resumes it. Several people can review at once.
    The page's Save button, or --export, writes the reviewed file; annotations without a
    decision keep their bytes.

    Example: halfmask review masks.json --images photos
    """
    # fmt: off
    done = halfmask.review(
        data, model, images=images, out=out, journal=journal, export=export, host=host,
        port=port, token=token, device=device, effort=effort, runtime=runtime,
        precision=precision,
    )
    # fmt: on
    _print_end(data, done.out, done.written)
    fail_if_unread(done.reading)


def _print_end(file: Path, out: Path, written: dict[str, int] | None) -> None:
    if written is None:
        say(
            f"\nto write the reviewed file: the page's Save button, or halfmask review {file} "
            f"--export --out {out}"
        )
        return
    counts = ", ".join(f"{count} {state}" for state, count in written.items())
    say(f"{out}: {counts or 'no decisions yet'}")
