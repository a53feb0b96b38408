"""`python -m benchmarks.scale.annotations_probe WHAT FILE …`: one measure of `bench
annotations`, printed as a line of JSON.
"""

from __future__ import annotations

import json
import random
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

    start = time.perf_counter()
    file = open_annotations(path)
    seconds, peak = time.perf_counter() - start, peak_memory()
    ids = random.Random(0).choices(file.image_ids, k=int(reads))
    return {
        "seconds": seconds,
        "peak": peak,
        **_reads(file.annotations_of, ids),
        "own": _own_memory(),
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
    "peer": peer,
    "worker": worker,
    "shared": shared,
}

if __name__ == "__main__":
    print(json.dumps(PROBES[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])))
