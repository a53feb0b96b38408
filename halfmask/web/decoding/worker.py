"""The process that decodes photographs: bounded in memory and time, and ended at will.

    python -m halfmask.web.decoding.worker SOCKET BYTES SECONDS

It answers one request at a time over a socket that it inherits, and ends with the
process at the other side.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import IO

import numpy as np
from PIL import Image

from halfmask.coco.photographs.orientation import Frame
from halfmask.errors import InputError
from halfmask.web.decoding import wire
from halfmask.web.decoding.levels import read_part, write_levels
from halfmask.web.photographs import Source, encoded, orientation_of, picture_part, shown

Answer = tuple[wire.Header, wire.Payload]


def limit_memory(most_bytes: int) -> None:
    """Bounds the process's own memory, where the system can do that."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, most_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def size(source: Source, where: str, asked: wire.Header) -> Answer:
    found = orientation_of(source, where, asked["most_pixels"])
    facts = {"turn": found.turn, "stored": found.stored, "loads_turned": found.loads_turned}
    return facts, b""


def show(source: Source, where: str, asked: wire.Header) -> Answer:
    result = shown(source, where, Frame(asked["frame"]))
    return {"media_type": result.media_type}, result.data


def pixels(source: Source, where: str, asked: wire.Header) -> Answer:
    found = np.asarray(_part(source, where, asked))
    return {"shape": found.shape}, found.reshape(-1).data


def picture(source: Source, where: str, asked: wire.Header) -> Answer:
    result = encoded(_part(source, where, asked))
    return {"media_type": result.media_type}, result.data


def levels(source: Source, where: str, asked: wire.Header) -> Answer:
    whole = picture_part(source, where, frame=Frame(asked["frame"]))
    try:
        write_levels(whole, asked["output"])
    except OSError:
        return {"disk_full": True}, b""
    return {}, b""


def tile(source: Source, _: str, asked: wire.Header) -> Answer:
    assert not isinstance(source, bytes)
    whole, window, wanted = (tuple(asked[key]) for key in ("whole", "window", "size"))
    result = encoded(read_part(source, whole, window=window, size=wanted))
    return {"media_type": result.media_type}, result.data


def _part(source: Source, where: str, asked: wire.Header) -> Image.Image:
    frame, window, size = (asked[key] for key in ("frame", "window", "size"))
    return picture_part(
        source,
        where,
        frame=Frame(frame),
        window=None if window is None else tuple(window),
        size=None if size is None else tuple(size),
    )


TASKS: dict[str, Callable[[Source, str, wire.Header], Answer]] = {
    task.__name__: task for task in (size, show, pixels, picture, levels, tile)
}


def answer_to(asked: wire.Header, source: Source) -> Answer:
    """Returns the answer to a request; an InputError becomes its text."""
    where = asked["where"]
    try:
        return TASKS[asked["task"]](source, where, asked)
    except InputError as error:
        if isinstance(error.__cause__, MemoryError):
            return {"too_large": True}, b""
        return {"error": str(error)}, b""
    except MemoryError:
        return {"too_large": True}, b""


def answer_requests(sock: socket.socket, seconds: int) -> None:
    """Answers requests until the other side is gone."""
    while True:
        asked, size, files = wire.receive(sock)
        file: IO[bytes] | None = os.fdopen(files[0], "rb") if files else None
        if files[1:]:
            asked["output"] = os.fdopen(files[1], "wb")
        source = file or bytes(wire.receive_bytes(sock, size))
        # The page ends a request that takes too long; if it is gone, nobody would.
        signal.alarm(seconds)
        header, payload = answer_to(asked, source)
        signal.alarm(0)
        del source
        for opened in (file, asked.pop("output", None)):
            if opened is not None:
                opened.close()
        wire.send(sock, header, payload)
        del payload


def main() -> None:
    handle, most_bytes, seconds = (int(text) for text in sys.argv[1:])
    limit_memory(most_bytes)
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    with suppress(wire.LostError):
        answer_requests(socket.socket(fileno=handle), seconds)


if __name__ == "__main__":
    main()
