"""Time and memory of steps: side by side in one process, or a step alone in a process
of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from halfmask.errors import InputError

Step = Callable[[], object]
MIB = 2**20
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def alternate(
    steps: Mapping[str, Step], rounds: int, device: torch.device | None = None
) -> dict[str, list[float]]:
    """Seconds of each step in each round, after one round that is not counted.

    The steps take turns, so that a machine that slows down slows all of them. Time is
    the CPU's own where there is no GPU: other work on a shared machine does not count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name in list(steps)[:: 1 if number % 2 else -1]:
            spent = seconds_of(steps[name], device)
            if number:
                seconds[name].append(spent)
    return seconds


def seconds_of(step: Step, device: torch.device | None = None) -> float:
    """Of one step: the CPU's own time, or the clock's on a GPU."""
    on_gpu = device is not None and device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    if on_gpu:
        torch.cuda.synchronize(device)
    begin = clock()
    step()
    if on_gpu:
        torch.cuda.synchronize(device)
    return clock() - begin


def allocations_of(step: Step, device: torch.device | None = None) -> tuple[int, int]:
    """The most bytes of tensors that a step holds beyond what was there before it, and
    its largest single tensor (0 on a GPU).
    """
    if device is not None and device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before, 0
    os.environ.setdefault(
        "KINETO_LOG_LEVEL", "99"
    )  # the profiler writes to stderr that it found no GPU
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step()
    results: Any = record.profiler.kineto_results
    events = sorted((e.start_ns(), e.nbytes()) for e in results.events() if e.name() == "[memory]")
    held = most = 0
    for _, size in events:
        held += size
        most = max(most, held)
    return most, max((size for _, size in events), default=0)


def process_peak_of(step: Step) -> int:
    """By how many bytes a step makes the process grow at most, whoever allocates. Asks
    for a process in which no larger step ran.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        CLEAR.write_text("5", encoding="ascii")  # resets the high-water mark
        before = _status("VmRSS")
        step()
        return _status("VmHWM") - before
    except OSError:  # no Linux: the mark of the whole life has to do
        unit = 1 if sys.platform == "darwin" else 1024
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        step()
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit


def in_fresh_process(function: str, **arguments: Any) -> Any:
    """What a function returns that is called in a process of its own, with as many
    threads as here.

    Args:
        function: "module:name" below `benchmarks`.
        arguments: its keyword arguments, JSON values, as its result is.
    Raises:
        InputError: the process failed; says how it ended.
    """
    call = json.dumps(
        {"function": function, "threads": torch.get_num_threads(), "arguments": arguments}
    )
    done = subprocess.run(
        [sys.executable, "-m", __name__, call], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [
            "no message; was it killed for its memory?"
        ]
        raise InputError(
            f"bench: the process of {function} ended with {done.returncode}: {last[0]}"
        )
    return json.loads(done.stdout.splitlines()[-1])


def _status(key: str) -> int:
    found = re.search(rf"{key}:\s+(\d+) kB", STATUS.read_text(encoding="ascii"))
    if found is None:
        raise OSError(f"no {key} in {STATUS}")
    return int(found.group(1)) * 1024


def _main(call: str) -> None:
    wanted = json.loads(call)
    torch.set_num_threads(wanted["threads"])
    module, name = wanted["function"].split(":")
    result = getattr(importlib.import_module(f"benchmarks.{module}"), name)(**wanted["arguments"])
    print(json.dumps(result))


if __name__ == "__main__":
    _main(sys.argv[1])
