"""The options that `review` and `serve` share."""

from __future__ import annotations

from typing import Annotated

import typer

LOCAL_HOST = "127.0.0.1"
Host = Annotated[
    str, typer.Option(help="Address to serve at; one that other machines reach requires a token.")
]
Port = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="0: any free port. Default: the first free one from 8000."),
]
Token = Annotated[bool, typer.Option("--token", help="Require a token from this machine, too.")]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, … Default: a GPU if there is one.")
]
