"""`python -m benchmarks.scale.annotations_probe WHAT FILE …`: one measure of `bench
annotations`, printed as a line of JSON.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.child import MIB, limit_memory, memory_of_mapping, peak_memory

MODULE = "benchmarks.scale.annotations_probe"


def index(path: Path) -> dict[str, Any]:
    """Makes the index; libraries are loaded before, as the peer's are."""
    import pyarrow.json  # noqa: F401

    from halfmask.coco.index.place import index_path, open_index

    start, used = time.perf_counter(), time.process_time()
    open_index(path, anew=True)
    seconds, cpu = time.perf_counter() - start, time.process_time() - used
    return {
        "seconds": seconds,
        "cpu": cpu,
        "peak": peak_memory(),
        "size": index_path(path).stat().st_size / MIB,
    }


def opened(path: Path, reads: str) -> dict[str, Any]:
    """Opens it, as training does, and reads the annotations of random images."""
    from halfmask.coco.index.place import open_annotations

    start, used = time.perf_counter(), time.process_time()
    file = open_annotations(path)
    seconds, peak = time.perf_counter() - start, peak_memory()
    cpu = time.process_time() - used
    ids = random.Random(0).choices(file.image_ids, k=int(reads))
    found = _reads(file.annotations_of, ids)
    return {"seconds": seconds, "cpu": cpu, "peak": peak, **found, "own": _own_memory()}


def verb(path: Path, *words: str) -> dict[str, Any]:
    """Runs `halfmask WORDS` in a process of its own and removes what it writes.

    Args:
        words: FILE is the path, OUT a file in a folder of this measure beside it.
    Raises:
        RuntimeError: it failed.
    """
    folder = path.parent / f"{path.stem}.out"
    folder.mkdir()
    places = {"FILE": str(path), "OUT": str(folder / "out")}
    command = [sys.executable, "-m", "halfmask", *(places.get(word, word) for word in words)]
    environment = os.environ | {"TMPDIR": str(folder)}
    start = time.perf_counter()
    try:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        written = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    finally:
        shutil.rmtree(folder)
    if os.waitstatus_to_exitcode(status) not in (0, 1):  # 1: doctor found something
        raise RuntimeError(f"{' '.join(words)} ended with {os.waitstatus_to_exitcode(status)}")
    return {
        "seconds": seconds,
        "cpu": used.ru_utime + used.ru_stime,
        "peak": used.ru_maxrss / 1024,
        "written": written / MIB,
    }


def peer(path: Path, reads: str) -> dict[str, Any]:
    """The same with pycocotools."""
    import contextlib
    import io

    from pycocotools.coco import COCO

    limit_memory()
    start, used = time.perf_counter(), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        file = COCO(str(path))
    seconds, peak = time.perf_counter() - start, peak_memory()
    cpu = time.process_time() - used
    ids = random.Random(0).choices(file.getImgIds(), k=int(reads))
    found = _reads(lambda image_id: file.loadAnns(file.getAnnIds(imgIds=image_id)), ids)
    return {"seconds": seconds, "cpu": cpu, "peak": peak, **found, "own": _own_memory()}


def worker(path: Path) -> dict[str, Any]:
    """Reads every column of the index, says so, and waits."""
    import numpy as np

    from halfmask.coco.index.place import open_index

    columns = [
        column
        for part in open_index(path).parts
        for column in (part.starts, *part.annotation.values())
    ]
    found = {"bytes": sum(int(column.view(np.uint8).sum()) for column in columns)}
    print(json.dumps(found), flush=True)
    sys.stdin.read()
    return found


def shared(path: Path, workers: str) -> dict[str, Any]:
    """Several workers at once: what their mappings of the index hold together."""
    from halfmask.coco.index.place import index_path

    command = [sys.executable, "-m", MODULE, "worker", str(path)]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(int(workers))
    ]
    try:
        for process in running:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise RuntimeError("a worker failed")
        held = [memory_of_mapping(process.pid, index_path(path)) for process in running]
    finally:
        for process in running:
            process.communicate(b"")
    size = index_path(path).stat().st_size / MIB
    return {key.lower(): sum(one[key] for one in held) for key in held[0]} | {"size": size}


def _reads(read: Any, ids: list[int]) -> dict[str, float]:
    """Median and worst of a hundred, milliseconds an image."""
    took = []
    for image_id in ids:
        start = time.perf_counter()
        read(image_id)
        took.append(1000 * (time.perf_counter() - start))
    return {"read": statistics.median(took), "slow": sorted(took)[int(0.99 * len(took))]}


def _own_memory() -> float:
    """MiB of this process that no file backs, so that no other process can share them."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return peak_memory()


PROBES: dict[str, Any] = {
    "index": index,
    "open": opened,
    "verb": verb,
    "peer": peer,
    "worker": worker,
    "shared": shared,
}

if __name__ == "__main__":
    print(json.dumps(PROBES[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])))
