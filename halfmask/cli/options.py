"""What `review` and `serve` have in common on the command line: where a page is served
and to whom.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fastapi import FastAPI

    from halfmask.web.segmenting import Segmenter

HERE = "127.0.0.1"
Host = Annotated[
    str, typer.Option(help="Address to serve at; another than this machine's own asks for a token.")
]
Port = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="0: any free one. Default: the first free from 8000 on."),
]
Token = Annotated[bool, typer.Option("--token", help="Ask for a token on this machine, too.")]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, … Default: a GPU where there is one.")
]


def serve_page(
    app: FastAPI, segmenter: Segmenter, host: str, port: int | None, token: bool, most_bytes: int
) -> None:
    """Serves a page until Ctrl-C; says where.

    Args:
        segmenter: its model, which is loaded meanwhile.
        most_bytes: of a request's body.
    Raises:
        InputError: it cannot be served there.
    """
    from halfmask.web.security import access_for
    from halfmask.web.server import bind, serve

    place = bind(host, port)
    segmenter.warm_up()
    access = access_for(host, place.getsockname()[1], most_bytes, token)
    serve(app, access, place, lambda address: print(f"open {address}  (Ctrl-C ends)", flush=True))
