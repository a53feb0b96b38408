"""Messages between a page and its decoders: a line of JSON, bytes, and perhaps a file."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

_LENGTHS: Final = struct.Struct(">IQ")
MOST_HEADER: Final = 1 << 16
"""Bytes of a message's JSON."""

Header = dict[str, Any]
Payload = bytes | bytearray | memoryview


class LostError(Exception):
    """The other side is gone, or sent something else than a message."""


def send(
    sock: socket.socket, header: Header, payload: Payload = b"", *, files: Sequence[int] = ()
) -> None:
    """Sends a message.

    Args:
        sock: a connected Unix socket.
        header: JSON, at most `MOST_HEADER` bytes.
        payload: any number of bytes.
        files: at most two descriptors; the other side gets its own.
    Raises:
        LostError: the other side is gone.
    """
    text = json.dumps(header).encode()
    prefix = _LENGTHS.pack(len(text), len(payload))
    try:
        if files:
            socket.send_fds(sock, [prefix], list(files))
        else:
            sock.sendall(prefix)
        sock.sendall(text)
        sock.sendall(payload)
    except TimeoutError:
        raise
    except OSError as error:
        raise LostError from error


def receive(sock: socket.socket) -> tuple[Header, int, list[int]]:
    """Receives a message's header, the length of its payload, and its files.

    Raises:
        LostError: the other side is gone, or sent something else.
        TimeoutError: nothing came in the socket's time.
    """
    files: list[int] = []
    try:
        prefix, files, _, _ = socket.recv_fds(sock, _LENGTHS.size, 2)
        prefix += receive_bytes(sock, _LENGTHS.size - len(prefix)) if prefix else b""
        if len(prefix) < _LENGTHS.size:
            raise LostError
        length, size = _LENGTHS.unpack(prefix)
        if length > MOST_HEADER:
            raise LostError
        return json.loads(receive_bytes(sock, length)), size, files
    except BaseException as error:
        for file in files:
            with suppress(OSError):
                os.close(file)
        if isinstance(error, OSError) and not isinstance(error, TimeoutError):
            raise LostError from error
        raise


def receive_bytes(sock: socket.socket, size: int) -> bytearray:
    """Receives a payload, which is in memory once.

    Raises:
        LostError: the other side is gone.
        TimeoutError: it did not come in the socket's time.
    """
    found = bytearray(size)
    view, done = memoryview(found), 0
    while done < size:
        try:
            count = sock.recv_into(view[done:])
        except TimeoutError:
            raise
        except OSError as error:
            raise LostError from error
        if not count:
            raise LostError
        done += count
    return found
