"""Draws on all machines of a Ray cluster.

The caller keeps the journal and writes the file.

A worker is an actor that holds the model. It gets a batch of the plan, reads the
photographs itself and returns records. The result of a batch does not depend on who
draws it or when: several machines of one kind give the same bytes as one of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import socket
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from importlib.util import find_spec
from typing import Any

import torch

from halfmask._version import __version__
from halfmask.errors import InputError
from halfmask.inference.complete.draw import FilledBatch, MaskDrawer
from halfmask.inference.complete.photographs import photographs_of
from halfmask.inference.complete.plan import Piece

logger = logging.getLogger(__name__)

WAITING = 2
"""Batches that a worker has at a time, so that the next is there when one is done."""
RETRIES = 3
"""How often a batch is drawn again after its worker was lost, before it counts as the cause."""


def check_ray() -> None:
    """Makes sure that Ray is installed.

    Raises:
        InputError: it is not.
    """
    if find_spec("ray") is None:
        raise InputError(
            "--ray needs Ray, which is not installed: pip install 'halfmask[ray]', on every "
            "machine of the cluster"
        )


def drawn_on_ray(
    drawer: MaskDrawer, batches: list[list[Piece]], rest: Iterable[int], *, address: str
) -> Generator[tuple[int, FilledBatch]]:
    """Draws the batches of these numbers, in the order in which workers finish.

    Close the generator to end the workers.

    Args:
        address: a cluster's (`ray://HOST:10001`, `HOST:6379`), `auto` or `local`.
    Raises:
        InputError: no Ray, no such cluster, another halfmask or PyTorch there, or a
            batch whose workers end again and again.
    """
    check_ray()
    import ray

    queue = deque(rest)
    with _connected(address), _errors_explained():
        drawer = dataclasses.replace(drawer, reader=drawer.reader.resolved())
        # Held until the end: Ray frees what nobody names, and a new worker in the place
        # of a lost one gets the model from here.
        shared = ray.put(drawer)
        workers = _workers(shared, drawer, len(queue))
        asked: dict[Any, tuple[Any, int | None]] = {w.hello.remote(): (w, None) for w in workers}
        try:
            while queue or any(number is not None for _, number in asked.values()):
                ready, _ = ray.wait(list(asked), num_returns=1)
                worker, number = asked.pop(ready[0])
                answer = ray.get(ready[0])
                if number is None:
                    _welcome(*answer)
                else:
                    yield number, answer
                # A new worker gets its fill, one that finished a batch gets the next.
                for _ in range(WAITING if number is None else 1):
                    if queue:
                        number = queue.popleft()
                        asked[worker.draw.remote(batches[number])] = worker, number
        finally:
            for worker in workers:
                ray.kill(worker)
            del shared


class Worker:
    """Runs in an actor.

    Args:
        drawer: draws, with the models.
        threads: PyTorch's; another number could change the last digits.
    """

    def __init__(self, drawer: MaskDrawer, threads: int) -> None:
        torch.set_num_threads(threads)
        self._drawer = drawer

    def hello(self) -> tuple[list[str], str, int]:
        """Returns the versions that decide the bytes, the machine's name, and the process."""
        return _versions(), socket.gethostname(), os.getpid()

    def draw(self, pieces: list[Piece]) -> FilledBatch:
        """Reads the photographs of a batch here and draws its masks."""
        return self._drawer.draw(pieces, photographs_of(self._drawer.reader, pieces))


def _workers(shared: Any, drawer: MaskDrawer, batches: int) -> list[Any]:
    """As many actors as the cluster has room for; those without room now start later.

    Args:
        shared: Ray's reference to the drawer, so that it travels to each machine once.
    """
    import ray

    threads = torch.get_num_threads()
    cluster = ray.cluster_resources()
    on_gpu = drawer.predictor.device.type == "cuda"
    room = cluster.get("GPU", 0) if on_gpu else cluster.get("CPU", 0) // threads
    if room < 1:
        wanted = (
            "a GPU" if on_gpu else f"{threads} CPUs for a worker (OMP_NUM_THREADS sets how many)"
        )
        raise InputError(
            f"--ray: the cluster has {cluster.get('CPU', 0):g} CPUs and "
            f"{cluster.get('GPU', 0):g} GPUs, expected {wanted}"
        )
    needs = {"num_gpus": 1} if on_gpu else {"num_cpus": threads}
    actor: Any = ray.remote(max_restarts=-1, max_task_retries=RETRIES, **needs)(Worker)
    return [actor.remote(shared, threads) for _ in range(min(int(room), batches))]


@contextlib.contextmanager
def _connected(address: str) -> Iterator[None]:
    """Connects to Ray within the block; an earlier connection stays."""
    import ray

    if ray.is_initialized():
        yield
        return
    _check_answers(address)
    # A cluster that begins here sends no usage statistics.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        where = None if address == "auto" else address
        ray.init(address=where, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _no_answer(address, reason) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Asks first, since Ray waits minutes for a cluster that is not there."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise _no_answer(address, error) from error


def _no_answer(address: str, reason: object) -> InputError:
    return InputError(
        f"--ray {address}: no cluster answers there ({reason}); `ray status` on that machine "
        "says what runs"
    )


@contextlib.contextmanager
def _errors_explained() -> Iterator[None]:
    """Turns Ray's errors into ones that say what to do."""
    import ray

    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise InputError(str(error.cause)) from error
        raise
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"--ray: workers were lost {RETRIES + 1} times over one batch ({reason}); finished "
            "batches are saved, and the same command continues from there. Does each worker have "
            "enough memory, and does every machine have this version of halfmask?"
        ) from error


def _versions() -> list[str]:
    return [__version__, torch.__version__]


def _welcome(theirs: list[str], host: str, process: int) -> None:
    logger.info("a worker on %s, process %d", host, process)
    if theirs != _versions():
        raise InputError(
            f"--ray: {host} has halfmask {theirs[0]} and torch {theirs[1]}, this machine "
            f"{__version__} and {torch.__version__}: "
            "install the same on every machine, or masks would differ"
        )
