"""Measures in a process of its own, whose memory nothing else has touched."""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from halfmask.errors import InputError

MOST_MEMORY = 8 << 30
"""Bytes of address space that a child may take: a peer that needs more is stopped, not
the machine.
"""
MIB = 1 << 20


def in_child(module: str, *arguments: object) -> dict[str, Any] | None:
    """What `python -m module arguments` prints as its last line, a JSON object; None
    where it ran out of its memory.

    Raises:
        InputError: it failed otherwise; says how.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        measured: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return measured
    if (
        "MemoryError" in done.stderr
        or "bad_alloc" in done.stderr
        or "memory allocation" in done.stderr
    ):
        return None
    last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
    raise InputError(f"bench: {' '.join(command[2:5])} failed: {last[0]}")


def seconds_of_verb(words: list[str], home: str | None = None) -> float:
    """Runs `halfmask WORDS` on one thread; returns its processor seconds.

    Args:
        home: another checkout, whose code runs; None: this one.
    Raises:
        InputError: it failed.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if home is not None:
        environment["PYTHONPATH"] = home
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "halfmask", *words],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=home,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise InputError(f"halfmask {' '.join(words)} failed: {last}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def need_pycocotools() -> None:
    """
    Raises:
        InputError: the library to compare with is not installed.
    """
    if importlib.util.find_spec("pycocotools") is None:
        raise InputError(
            "bench: compares with pycocotools, which is not installed; pip install 'halfmask[dev]'"
        )


def limit_memory() -> None:
    """For a child: no more than MOST_MEMORY."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))


def peak_memory() -> float:
    """MiB that this process held at most."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory_of_mapping(pid: int, file: Path) -> dict[str, float]:
    """Rss, Pss (shared pages divided among those that share them) and Private of a
    process's mapping of a file, MiB.
    """
    sums = {"Rss": 0.0, "Pss": 0.0, "Private": 0.0}
    inside = False
    for line in Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8").splitlines():
        name, *rest = line.split()
        if not name.endswith(":"):
            inside = line.endswith(str(file.resolve()))
        elif inside:
            key = name.rstrip(":").split("_")[0]
            if key in sums:
                sums[key] += int(rest[0]) / 1024
    return sums


def command(name: str, overrides: tuple[str, ...]) -> str:
    """Returns the command line that repeats the measurement."""
    return " ".join(
        [f"python -m benchmarks {name}", *(f"--set {override}" for override in overrides)]
    )


def sizes(overrides: tuple[str, ...], defaults: dict[str, int]) -> dict[str, int]:
    """The defaults, changed by `key=value`.

    Raises:
        InputError: an unknown key, or no whole number.
    """
    out = dict(defaults)
    for override in overrides:
        key, _, value = override.partition("=")
        if key not in out or not value.isdigit() or int(value) == 0:
            raise InputError(
                f"--set {override}: expected one of "
                f"{', '.join(f'{k}={v}' for k, v in defaults.items())}"
            )
        out[key] = int(value)
    return out
