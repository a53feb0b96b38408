"""Photographs are decoded in processes of their own, a few at a time.

A hostile file costs such a process at most its memory and its time; then it is ended,
and a new one takes its place. What it used goes back to the system with it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from queue import LifoQueue
from typing import IO, Any
from weakref import finalize

import halfmask
from halfmask.errors import InputError
from halfmask.web.budget import Budget, until_sent
from halfmask.web.decoding import wire

DECODERS = 2
"""Photographs that are decoded at the same time."""
DECODER_BYTES = 768 << 20
"""Memory of such a process; a photograph of 40 million pixels takes 70 to 650 MB of it."""
LIBRARY_BYTES = 64 << 20
"""What its libraries take beside that; the system shares them among processes."""
WAITING = 40
"""Requests that may wait for a decoder: all that the server has threads for."""
DECODE_SECONDS = 60
"""After this time a decoder is ended."""
RESULT_BYTES = 1 << 28
"""Bytes of all pixels and pictures that decoders returned, until they are sent."""
_GRACE = 5
_SHARED = Path(halfmask.__file__).parents[1]


class DecodingProcess:
    """One process; starts when first asked, and again after it was ended."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def ask(
        self, asked: wire.Header, source: bytes | bytearray | IO[bytes], output: IO[bytes] | None
    ) -> wire.Header:
        """Sends a request; returns the answer's header, with the payload's length.

        Raises:
            LostError, TimeoutError: there is no answer; the process must be ended.
        """
        sock = self._connected()
        sock.settimeout(DECODE_SECONDS)
        if isinstance(source, bytes | bytearray):
            wire.send(sock, asked, source)
        else:
            files = [source] if output is None else [source, output]
            wire.send(sock, asked, files=[file.fileno() for file in files])
        header, size, _ = wire.receive(sock)
        return header | {"size": size}

    def payload(self, size: int) -> bytearray:
        assert self._sock is not None
        return wire.receive_bytes(self._sock, size)

    def end(self) -> None:
        """Ends the process at once; may be called twice."""
        process, sock, self._process, self._sock = self._process, self._sock, None, None
        if sock is not None:
            sock.close()
        if process is not None:
            process.kill()
            process.wait()

    def _connected(self) -> socket.socket:
        if self._sock is not None:
            return self._sock
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "halfmask.web.decoding.worker", str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(self._most_bytes), str(DECODE_SECONDS + _GRACE)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for the page alone
            )
        self._sock = ours
        return ours


class Decoders:
    """Decoding processes that all requests share.

    Args:
        most_bytes: memory of each.
        count: how many.
    """

    def __init__(self, most_bytes: int = DECODER_BYTES, count: int = DECODERS) -> None:
        self.most_bytes = most_bytes
        self.members = [DecodingProcess(most_bytes) for _ in range(count)]
        self._free: LifoQueue[DecodingProcess] = LifoQueue()
        for member in self.members:
            self._free.put(member)
        self._turns = Budget(count, waiting=WAITING)
        self._results = Budget(RESULT_BYTES, waiting=WAITING)
        self._at_exit = finalize(self, _end_all, self.members)

    def close(self) -> None:
        """Ends the processes; a later request starts them again."""
        _end_all(self.members)

    def ask(
        self,
        task: str,
        source: bytes | bytearray | IO[bytes],
        where: str,
        *,
        output: IO[bytes] | None = None,
        **more: Any,
    ) -> tuple[wire.Header, bytearray]:
        """Asks a decoder; its answer counts as memory until the request is answered.

        Args:
            task: name of a function of the worker.
            source: the photograph's file.
            where: its name, for errors.
            output: a file that the task writes to.
            more: the task's arguments.
        Returns:
            The answer's header and payload.
        Raises:
            InputError: the photograph cannot be read, or takes too much memory or time.
            BusyError: too many requests wait, or the memory is used by others.
        """
        with self._turns.room(1), self._one(where) as decoder:
            header = decoder.ask({"task": task, "where": where, **more}, source, output)
            if "error" in header:
                raise InputError(header["error"])
            if "too_large" in header:
                raise InputError(
                    f"{where}: takes more than {self.most_bytes >> 20} MB of memory to decode; "
                    "make it smaller, or save it with 8 bits a channel"
                )
            until_sent(self._results.room(header["size"]))
            return header, decoder.payload(header["size"])

    def keep_room(self, amount: int) -> None:
        """Counts bytes that a request makes of a photograph here, until it is answered.

        Raises:
            BusyError: the memory is used by others.
        """
        until_sent(self._results.room(amount))

    @contextmanager
    def _one(self, where: str) -> Iterator[DecodingProcess]:
        """Gives a block a decoder; one that fails is ended."""
        decoder = self._free.get()
        try:
            yield decoder
        except InputError:
            raise
        except wire.LostError:
            decoder.end()
            raise InputError(
                f"{where}: expected a photograph, its decoder broke down; save the photograph again"
            ) from None
        except TimeoutError:
            decoder.end()
            raise InputError(
                f"{where}: expected a photograph, it takes more than {DECODE_SECONDS} s to "
                "decode; save it again"
            ) from None
        except BaseException:
            decoder.end()  # it may hold an answer that nobody reads
            raise
        finally:
            self._free.put(decoder)


def _end_all(members: list[DecodingProcess]) -> None:
    for member in members:
        with suppress(OSError):
            member.end()


@cache
def decoders(most_bytes: int = DECODER_BYTES) -> Decoders:
    """Returns the decoders of this process, which all its pages share."""
    return Decoders(most_bytes)


def _environment() -> dict[str, str]:
    """The worker finds this halfmask, uses one thread, and keeps no freed memory."""
    paths = [str(_SHARED), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_THRESHOLD_": str(1 << 20),
        "MALLOC_TRIM_THRESHOLD_": str(1 << 20),
    }
