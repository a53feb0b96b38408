"""`halfmask train devices=N` without torchrun or srun: starts N processes on this host
and watches over them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from halfmask.errors import InputError

GRACE = 15.0
"""Seconds that the others have to end by themselves, once one has failed: they notice,
and say what they have to say.
"""
LAUNCHER = "HALFMASK_LAUNCHER"
"""Environment variable of the processes: the launcher's process id."""


def launch(arguments: Sequence[str], processes: int, resume_command: str) -> int:
    """Runs `halfmask` with the same arguments in several processes, which find each
    other as under torchrun.

    A signal is passed on to all of them. When one fails the others are ended, in
    bounded time.

    Args:
        arguments: of `halfmask`.
        resume_command: how to go on, for messages.
    Returns:
        The exit code: 0, 130 after a signal, or the first failed process's.
    Raises:
        InputError: more processes than GPUs, or a process was killed.
    """
    _check_devices(processes)
    port = _free_port()
    members = [_start(arguments, rank, processes, port) for rank in range(processes)]

    received: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        received.append(number)
        for member in members:
            if member.poll() is None:
                member.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        codes = _watch(members)
    finally:
        for member in members:
            if member.poll() is None:
                member.kill()
                member.wait()
        for number, handler in before.items():
            signal.signal(number, handler)
    if received and all(code in (130, -received[0]) for _, code in codes):
        return (
            130 if codes else 0
        )  # before the first step there is nothing to save: the signal simply ends a process
    return _verdict(codes, resume_command)


def _check_devices(processes: int) -> None:
    import torch

    if torch.cuda.is_available() and torch.cuda.device_count() < processes:
        raise InputError(
            f"devices={processes}: this host has {torch.cuda.device_count()} GPUs: one process "
            "a GPU; set devices to their number, or "
            "CUDA_VISIBLE_DEVICES= to train on the CPU"
        )


def _start(
    arguments: Sequence[str], rank: int, processes: int, port: int
) -> subprocess.Popen[bytes]:
    names = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": processes,
        "LOCAL_WORLD_SIZE": processes,
        "GROUP_RANK": 0,
    }
    environment = dict(os.environ)
    environment |= {name: str(value) for name, value in names.items()}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    environment |= {"TORCHELASTIC_RUN_ID": f"halfmask-{os.getpid()}", LAUNCHER: str(os.getpid())}
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    # That DDP looked for parameters without gradient and found none is nothing to tell
    # of.
    environment.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    # Else gloo looks for the address of the host's name, which need not be one of its
    # own.
    environment.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    # Of a session of their own: a terminal's Ctrl-C comes to the launcher, which passes
    # it on once.
    return subprocess.Popen(
        [sys.executable, "-m", "halfmask", *arguments], env=environment, start_new_session=True
    )


def _watch(members: Sequence[subprocess.Popen[bytes]]) -> list[tuple[int, int]]:
    """(rank, exit code) of those that failed, in the order in which they did so, killed
    ones first; empty: all went well.
    """
    failed: dict[int, int] = {}
    deadline = None
    while any(member.poll() is None for member in members):
        for rank, member in enumerate(members):
            if member.poll():
                failed.setdefault(rank, member.returncode)
        if failed and deadline is None:
            deadline = time.monotonic() + GRACE
        if deadline is not None and time.monotonic() > deadline and set(failed.values()) != {130}:
            return sorted(failed.items(), key=lambda item: item[1] >= 0)
        time.sleep(0.05)
    for rank, member in enumerate(members):
        if member.returncode:
            failed.setdefault(rank, member.returncode)
    return sorted(failed.items(), key=lambda item: item[1] >= 0)


def _verdict(failed: list[tuple[int, int]], resume_command: str) -> int:
    if not failed:
        return 0
    rank, code = failed[0]
    if code < 0:
        raise InputError(
            f"process {rank} was ended by {signal.Signals(-code).name}, and so the training "
            "(SIGKILL may mean that the memory was full: "
            "fewer devices or data.workers, a smaller batch_size); go on from the last resume "
            f"point with: {resume_command}"
        )
    return code


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def end_with_launcher() -> None:
    """Lets a process that `launch` started stop as by SIGTERM when its launcher is
    gone, however that came. Linux only.
    """
    parent = os.environ.get(LAUNCHER)
    if parent is None or sys.platform != "linux":
        return
    wanted = 1  # PR_SET_PDEATHSIG
    ctypes.CDLL(None).prctl(wanted, int(signal.SIGTERM))
    if os.getppid() != int(parent):  # it went before that
        sys.exit(130)
