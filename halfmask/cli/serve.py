"""`halfmask serve`: a page on which people try a model out."""

from __future__ import annotations

from typing import Annotated

import typer

import halfmask
from halfmask.cli.shared.options import (
    ClassesOption,
    DetectorOption,
    EffortOption,
    MaxSizeOption,
    PrecisionOption,
    RuntimeOption,
)

LOCAL_HOST = "127.0.0.1"
Host = Annotated[
    str,
    typer.Option(help="Address of the page. If other machines can reach it, they need a token."),
]
Port = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=65535,
        help="Port of the page. 0: any free port. Default: the first free one from 8000.",
    ),
]
Token = Annotated[bool, typer.Option("--token", help="Require the token on this machine, too.")]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, … Default: a GPU if there is one.")
]
"""The options that `review` has too."""


def run(
    model: Annotated[
        str, typer.Argument(help="Checkpoint, run directory or shipped name (box-segmenter).")
    ],
    detector: DetectorOption = None,
    classes: ClassesOption = None,
    host: Host = LOCAL_HOST,
    port: Port = None,
    token: Token = False,
    device: Device = None,
    effort: EffortOption = None,
    runtime: RuntimeOption = "torch",
    precision: PrecisionOption = None,
    max_size: MaxSizeOption = None,
) -> None:
    """Serves a page on which people try a model out.

    They drop a photograph, see the objects that the model finds, draw boxes, and
    download the masks. Photographs stay in memory and are gone when the server ends.

    Example: halfmask serve box-segmenter
    """
    # fmt: off
    halfmask.serve(
        model, detector=detector, classes=classes, host=host, port=port, token=token,
        device=device, effort=effort, runtime=runtime, precision=precision,
        max_size=max_size,
    )
    # fmt: on
