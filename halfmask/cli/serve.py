"""`halfmask serve`: a page on which people try a model out."""

from __future__ import annotations

from typing import Annotated

import typer

from halfmask.cli.options import HERE, Device, Host, Port, Token, serve_page

UPLOAD_BYTES = 1 << 25
"""Of a photograph."""


def run(
    model: Annotated[
        str, typer.Argument(help="Checkpoint, run directory or shipped name (box-segmenter).")
    ],
    detector: Annotated[
        str | None, typer.Option(help="A model that finds the boxes which MODEL fills.")
    ] = None,
    host: Host = HERE,
    port: Port = None,
    token: Token = False,
    device: Device = None,
) -> None:
    """Serves a try-out page: drop a photograph, see what the model finds, draw a box,
    get its mask, download it.

    Photographs stay in memory and are forgotten when the server ends.

    Example: halfmask serve box-segmenter
    """
    from halfmask.web.segmenting import Segmenter
    from halfmask.web.server import require_web

    require_web()
    from halfmask.web.tryout import tryout_app

    segmenter = Segmenter(model, detector, device)
    segmenter.predictor()  # a wrong name is said now, not on the page
    serve_page(tryout_app(segmenter), segmenter, host, port, token, UPLOAD_BYTES)
