"""Runs a page until it is interrupted."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from halfmask.errors import InputError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from halfmask.web.security import Access

TRIED_PORTS = 20
HEADER_BYTES = 1 << 16


def require_web() -> None:
    """Says how to get what the pages need.

    Raises:
        InputError: FastAPI or uvicorn is not installed.
    """
    if importlib.util.find_spec("fastapi") is None or importlib.util.find_spec("uvicorn") is None:
        raise InputError('the pages need FastAPI and uvicorn: pip install "halfmask[web]"')


def bind(host: str, port: int | None, first: int = 8000) -> socket.socket:
    """A socket that listens at an address.

    Args:
        port: the port, 0 for any free one; None takes the first free one from `first`
            on.
    Raises:
        InputError: no such address here, or the port is taken.
    """
    tried = range(first, first + TRIED_PORTS) if port is None else [port]
    try:
        family = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]
    except OSError as error:
        raise InputError(f"--host {host}: {error.strerror or error}") from error
    for number in tried:
        place = socket.socket(family, socket.SOCK_STREAM)
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            place.bind((host, number))
        except OSError as error:
            place.close()
            fault = error
        else:
            return place
    raise InputError(
        f"cannot serve at {host}, port {tried[0]}: {fault.strerror or fault}; choose another --port"
    )


def serve(app: FastAPI, access: Access, place: socket.socket, ready: Callable[[str], None]) -> None:
    """Serves a page on a bound socket until Ctrl-C.

    Args:
        ready: called with the address to open.
    """
    import uvicorn

    from halfmask.web.security import Guard

    config = uvicorn.Config(
        Guard(app, access),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_graceful_shutdown=3,
    )
    ready(access.address)
    with suppress(
        KeyboardInterrupt
    ):  # uvicorn raises it again once it has shut down: the way it is meant to end
        uvicorn.Server(config).run(sockets=[place])


def return_freed_memory() -> None:
    """Asks glibc for it; other C libraries are left as they are."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
