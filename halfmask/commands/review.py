"""`halfmask review`: a page on which people look at filled masks, worst first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def run(
    file: Annotated[Path, typer.Argument(help="COCO file that `complete` filled; it is never written to.")],
    model: Annotated[str, typer.Argument(help="Draws the mask of a box that a reviewer drags.")] = "box-segmenter",
    images: Annotated[Path | None, typer.Option(help="Folder of its photographs.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The reviewed file. Default: FILE's name with .reviewed.json, beside it.")
    ] = None,
    journal: Annotated[
        Path | None, typer.Option(help="Where decisions are noted at once. Default: FILE.review.jsonl, beside it.")
    ] = None,
    export: Annotated[
        bool, typer.Option("--export", help="Only write the reviewed file from what was decided so far.")
    ] = False,
    host: Annotated[
        str, typer.Option(help="Address to serve at; another than this machine's own asks for a token.")
    ] = ("127.0.0.1"),
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="0: any free one. Default: the first free from 8000 on.")
    ] = None,
    token: Annotated[bool, typer.Option("--token", help="Ask for a token on this machine, too.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, … Default: a GPU where there is one.")] = None,
) -> None:
    """Serves a page that shows filled masks, those with the lowest score first: accept, reject, redraw, segment again with another box.

    Every decision is on the disk before the page goes on; stopped or killed, the same command goes on where it was. Several people can
    review at once. The page's Save button, or --export, writes the reviewed file: what was not decided on keeps its bytes.

    Example: halfmask review masks.json --images photos
    """
    from halfmask.errors import InputError
    from halfmask.web.review import Places, Review
    from halfmask.web.segmenting import Segmenter
    from halfmask.web.server import bind, require_web, serve

    if images is None and not export:
        raise InputError("--images: name the folder of the photographs")
    if images is not None and not images.is_dir():
        raise InputError(f"{images}: no such folder of images")
    out = out or file.with_name(f"{file.stem}.reviewed.json")
    journal = journal or file.with_name(f"{file.name}.review.jsonl")
    if export:
        if not journal.is_file():
            raise InputError(f"{journal}: no such journal: nothing was reviewed yet; leave out --export")
    else:
        require_web()
    review = Review(Places(file, images or file.parent, journal, out), Segmenter(model, device=device))
    try:
        if export:
            print(f"{out}: {_counts(review.export().counts)}")
            return
        from halfmask.web.review_app import review_app
        from halfmask.web.security import access_for

        place = bind(host, port)
        access = access_for(host, place.getsockname()[1], REQUEST_BYTES, token)
        review.segmenter.warm_up()
        print(f"{file}: {len(review.index.queue)} masks to review; decisions go to {journal}")
        serve(review_app(review), access, place, lambda address: print(f"open {address}  (Ctrl-C ends)", flush=True))
        print(f"\nwrite the reviewed file: the page's Save button, or halfmask review {file} --export --out {out}")
    finally:
        review.close()


REQUEST_BYTES = 1 << 23
"""A drawn mask of the largest photograph is some megabytes of run lengths."""


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {state}" for state, number in counts.items()) or "nothing was decided"
