"""`halfmask.serve`: serves a page on which people try a model out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from halfmask.inference.runtime.names import Computing, Precision, Runtime
from halfmask.models.box_segmenter.looks import Effort
from halfmask.web.segmenting import Segmenter
from halfmask.web.tryout_app import tryout_server


def serve(
    model: str | Path,
    *,
    detector: str | None = None,
    classes: str | Sequence[str] | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    token: bool = False,
    device: str | None = None,
    effort: Effort | None = None,
    runtime: Runtime = "torch",
    precision: Precision | None = None,
    max_size: int | None = None,
) -> None:
    """Serves the try-out page of a model until Ctrl-C; logs its address.

    Photographs stay in memory and are gone when the server ends.

    Args:
        model: as in `halfmask.load`.
        detector: what finds the boxes that `model` fills, as in `halfmask.load`.
        classes: as in `halfmask.load`.
        host: the address to bind; one that other machines reach requires a token.
        port: the port, 0 for any free one; None takes the first free one from 8000 on.
        token: whether this machine needs the token, too.
        device: as in `halfmask.load`.
        effort: as in `halfmask.load`.
        runtime: as in `halfmask.load`.
        precision: as in `halfmask.load`.
        max_size: as in `halfmask.load`.
    Raises:
        InputError: there is no such model, or the address cannot be used.
    """
    computing = Computing(runtime, precision, max_size)
    segmenter = Segmenter(
        str(model), detector, device, classes=classes, computing=computing, effort=effort
    )
    segmenter.predictor()  # reports a wrong name before the page opens
    server = tryout_server(segmenter, host=host, port=port, token=token)
    segmenter.warm_up()
    try:
        server.run()
    finally:
        segmenter.close()
