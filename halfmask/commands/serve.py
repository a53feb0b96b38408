"""`halfmask serve`: a page on which people try a model out."""

from __future__ import annotations

from typing import Annotated

import typer

UPLOAD_BYTES = 1 << 25
"""Of a photograph."""


def run(
    model: Annotated[str, typer.Argument(help="Checkpoint, run directory or shipped name (box-segmenter).")],
    detector: Annotated[str | None, typer.Option(help="A model that finds the boxes which MODEL fills.")] = None,
    host: Annotated[
        str, typer.Option(help="Address to serve at; another than this machine's own asks for a token.")
    ] = ("127.0.0.1"),
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="0: any free one. Default: the first free from 8000 on.")
    ] = None,
    token: Annotated[bool, typer.Option("--token", help="Ask for a token on this machine, too.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, … Default: a GPU where there is one.")] = None,
) -> None:
    """Serves a try-out page: drop a photograph, see what the model finds, draw a box, get its mask, download it.

    Photographs stay in memory and are forgotten when the server ends.

    Example: halfmask serve box-segmenter
    """
    from halfmask.web.segmenting import Segmenter
    from halfmask.web.server import bind, require_web, serve

    require_web()
    from halfmask.web.security import access_for
    from halfmask.web.tryout_app import tryout_app

    segmenter = Segmenter(model, detector, device)
    segmenter.predictor()  # a wrong name is said now, not on the page
    place = bind(host, port)
    access = access_for(host, place.getsockname()[1], UPLOAD_BYTES, token)
    segmenter.warm_up()
    serve(tryout_app(segmenter), access, place, lambda address: print(f"open {address}  (Ctrl-C ends)", flush=True))
