"""`halfmask review`: a page on which people look at filled masks, worst first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from halfmask.cli.options import HERE, Device, Host, Port, Token, serve_page

REQUEST_BYTES = 1 << 23
"""A drawn mask of the largest photograph is some megabytes of run lengths."""


def run(
    file: Annotated[
        Path, typer.Argument(help="COCO file that `complete` filled; it is never written to.")
    ],
    model: Annotated[
        str, typer.Argument(help="Draws the mask of a box that a reviewer drags.")
    ] = "box-segmenter",
    images: Annotated[Path | None, typer.Option(help="Folder of its photographs.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The reviewed file. Default: FILE's name with .reviewed.json, beside it."
        ),
    ] = None,
    journal: Annotated[
        Path | None,
        typer.Option(
            help="Where decisions are noted at once. Default: FILE.review.jsonl, beside it."
        ),
    ] = None,
    export: Annotated[
        bool,
        typer.Option("--export", help="Only write the reviewed file from what was decided so far."),
    ] = False,
    host: Host = HERE,
    port: Port = None,
    token: Token = False,
    device: Device = None,
) -> None:
    """Serves a page that shows filled masks, those with the lowest score first: accept,
    reject, redraw, segment again with another box.

    Every decision is on the disk before the page goes on; stopped or killed, the same
    command goes on where it was. Several people can review at once. The page's Save
    button, or --export, writes the reviewed file: what was not decided on keeps its
    bytes.

    Example: halfmask review masks.json --images photos
    """
    from halfmask.errors import InputError
    from halfmask.web.review.review import Places, Review
    from halfmask.web.segmenting import Segmenter
    from halfmask.web.server import require_web

    if images is None and not export:
        raise InputError("--images: name the folder of the photographs")
    if images is not None and not images.is_dir():
        raise InputError(f"{images}: no such folder of images")
    out = out or file.with_name(f"{file.stem}.reviewed.json")
    journal = journal or file.with_name(f"{file.name}.review.jsonl")
    if export:
        if not journal.is_file():
            raise InputError(
                f"{journal}: no such journal: nothing was reviewed yet; leave out --export"
            )
    else:
        require_web()
    review = Review(
        Places(file, images or file.parent, journal, out), Segmenter(model, device=device)
    )
    try:
        if export:
            print(f"{out}: {_counts(review.export().counts)}")
            return
        from halfmask.web.review.app import review_app

        print(
            f"{file}: {len(review.index.queue)} masks to review; decisions go to {journal}",
            flush=True,
        )
        serve_page(review_app(review), review.segmenter, host, port, token, REQUEST_BYTES)
        print(
            f"\nwrite the reviewed file: the page's Save button, or halfmask review {file} "
            f"--export --out {out}"
        )
    finally:
        review.close()


def _counts(counts: dict[str, int]) -> str:
    return (
        ", ".join(f"{number} {state}" for state, number in counts.items()) or "nothing was decided"
    )
