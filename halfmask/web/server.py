"""Serves a page until it is interrupted or stopped."""

from __future__ import annotations

import logging
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import uvicorn

from halfmask.errors import InputError
from halfmask.web.connections import PatientProtocol, backlog, few_log_lines
from halfmask.web.security import Guard, access_for

if TYPE_CHECKING:
    from fastapi import FastAPI

LOOPBACK = "127.0.0.1"
TRIED_PORTS = 20
HEADER_BYTES = 1 << 16

logger = logging.getLogger(__name__)


class PageServer:
    """A page behind its guard, on a port of this machine.

    `run` serves in this thread until Ctrl-C. `start` and `stop`, or a `with` block,
    serve in a thread of the server's own.

    Args:
        app: the page's application.
        host: the address to bind.
        port: the port, 0 for any free one; None takes the first free one from 8000 on.
        most_bytes: the largest body of a request.
        token: whether visitors from this machine need a token, too; all others always
            need one.
        uploads: paths whose body is a file.
    Attributes:
        address: what to open in a browser, with the token if there is one.
    Raises:
        InputError: the address or the port cannot be used.
    """

    def __init__(
        self,
        app: FastAPI,
        *,
        host: str = LOOPBACK,
        port: int | None = None,
        most_bytes: int = 1 << 23,
        token: bool = False,
        uploads: frozenset[str] = frozenset(),
    ) -> None:
        self._socket = bind(host, port)
        access = access_for(
            host, self._socket.getsockname()[1], most_bytes, demand_token=token, uploads=uploads
        )
        self.address = access.address
        self._server = uvicorn.Server(
            uvicorn.Config(
                Guard(app, access),
                # dictConfig would close the handlers of the whole process, and absl's
                # handler closes stderr with itself.
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ws="none",
                http=PatientProtocol,
                backlog=backlog(),
                h11_max_incomplete_event_size=HEADER_BYTES,
                timeout_graceful_shutdown=3,
            )
        )
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def run(self) -> None:
        """Serves until Ctrl-C; logs the address first."""
        logger.info("open %s  (Ctrl-C ends)", self.address)
        with suppress(KeyboardInterrupt):  # uvicorn raises it again after its shutdown
            self._serve()

    def start(self) -> None:
        """Returns as soon as the page answers."""
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.01)

    def stop(self) -> None:
        """Returns when the last request is answered."""
        self._server.should_exit = True
        self._thread.join()

    def __enter__(self) -> PageServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _serve(self) -> None:
        with few_log_lines():
            self._server.run(sockets=[self._socket])


def bind(host: str, port: int | None, first: int = 8000) -> socket.socket:
    """Returns a socket that is bound to an address.

    Args:
        port: the port, 0 for any free one; None takes the first free one from `first`
            on.
    Raises:
        InputError: this machine has no such address, or the port is in use.
    """
    tried = range(first, first + TRIED_PORTS) if port is None else [port]
    try:
        family = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]
    except OSError as error:
        raise InputError(f"--host {host}: {error.strerror or error}") from error
    for number in tried:
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((host, number))
        except OSError as error:
            bound.close()
            fault = error
        else:
            return bound
    raise InputError(
        f"cannot serve at {host}, port {tried[0]}: {fault.strerror or fault}; choose another --port"
    )
