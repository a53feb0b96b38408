"""`halfmask serve`: a page on which people try a model out."""

from __future__ import annotations

from typing import Annotated

import typer

import halfmask
from halfmask.cli.options import LOCAL_HOST, Device, Host, Port, Token


def run(
    model: Annotated[
        str, typer.Argument(help="Checkpoint, run directory or shipped name (box-segmenter).")
    ],
    detector: Annotated[
        str | None, typer.Option(help="A model that finds the boxes which MODEL fills.")
    ] = None,
    host: Host = LOCAL_HOST,
    port: Port = None,
    token: Token = False,
    device: Device = None,
) -> None:
    """Serves a page to try a model out: drop a photograph, see the objects that the
    model finds, draw a box, get its mask, download it.

    Photographs stay in memory and are gone when the server ends.

    Example: halfmask serve box-segmenter
    """
    halfmask.serve(model, detector=detector, host=host, port=port, token=token, device=device)
