"""Starts the processes of `halfmask train devices=N` on this host, and watches them.

torchrun is not used. It prints a table and a traceback for each process that fails,
ends with exit code 1 after a signal, and kills processes that need more than a fixed
time to finish their step and save.
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

import torch

from halfmask.errors import InputError

GRACE = 15.0
"""Seconds that the other processes have to report and end after one has failed."""
LAUNCHER = "HALFMASK_LAUNCHER"
"""Environment variable of the processes: the process id of their launcher."""


def launch(arguments: Sequence[str], processes: int, resume_command: str) -> int:
    """Runs `halfmask` with the same arguments in several processes, as torchrun would.

    Signals are passed on to all of them. If one fails, the others end within `GRACE`.

    Args:
        arguments: of `halfmask`.
        resume_command: command that resumes the run, for messages.
    Returns:
        The exit code: 0, 130 after a signal, or that of the first failed process.
    Raises:
        InputError: more processes than GPUs, or a process was killed.
    """
    _check_devices(processes)
    port = free_port()
    # The flag of this command is not among the verb's arguments.
    arguments = [*arguments, *["--debug"] * ("--debug" in sys.argv)]
    members = [_start(arguments, rank, processes=processes, port=port) for rank in range(processes)]
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
    # Before the first step there is nothing to save, and the signal itself ends a
    # process.
    if received and all(code in (130, -received[0]) for _, code in codes):
        return 130 if codes else 0
    return _verdict(codes, resume_command)


def _check_devices(processes: int) -> None:
    if torch.cuda.is_available() and torch.cuda.device_count() < processes:
        raise InputError(
            f"devices={processes}: this host has {torch.cuda.device_count()} GPUs, and each "
            "process needs one; set devices to their number, or CUDA_VISIBLE_DEVICES= to train "
            "on the CPU"
        )


def _start(
    arguments: Sequence[str], rank: int, *, processes: int, port: int
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
    # Silences DDP's warning that all parameters have gradients.
    environment.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    # By default gloo resolves the name of the host, which need not be an address of it.
    environment.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    # In an own session: a terminal's Ctrl-C reaches only the launcher, which forwards
    # it.
    return subprocess.Popen(
        [sys.executable, "-m", "halfmask", *arguments], env=environment, start_new_session=True
    )


def _watch(members: Sequence[subprocess.Popen[bytes]]) -> list[tuple[int, int]]:
    """Waits for the processes; returns (rank, exit code) of failed ones, killed ones first."""
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
            f"process {rank} was ended by {signal.Signals(-code).name}, which ended the training "
            "(SIGKILL may mean that the memory was full: try fewer devices or data.workers, or a "
            f"smaller batch_size); resume from the last save with: {resume_command}"
        )
    return code


def free_port() -> int:
    """Returns a free TCP port of this host."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def end_with_launcher() -> None:
    """Sends SIGTERM to this process when the `launch` that started it ends. Linux only."""
    parent = os.environ.get(LAUNCHER)
    if parent is None or sys.platform != "linux":
        return
    wanted = 1  # PR_SET_PDEATHSIG
    ctypes.CDLL(None).prctl(wanted, int(signal.SIGTERM))
    if os.getppid() != int(parent):  # it has ended already
        raise KeyboardInterrupt
