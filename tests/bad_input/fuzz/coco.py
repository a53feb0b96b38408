"""Mutates COCO-mini's instances file thousands of times, and runs every verb on it.

A case survives where each verb succeeds or raises an InputError, within 5 seconds and
without a leap in memory. A failure is saved with its seed and traceback.

Example: python -m tests.bad_input.fuzz.coco --cases 20000 --seed 1 --out fuzz --resume
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from tests.bad_input.fuzz.mutations import mutate
from tests.bad_input.fuzz.verbs import VERBS, outcome

SECONDS = 5
LEAP = 256 << 10
"""KiB by which the peak of memory may rise in one case."""
IMAGES, OBJECTS = 12, 4
SIDE = 48
"""Pixels of the two photographs that exist."""


class TooSlow(BaseException):
    """Not an Exception, so that no handler swallows it."""


def seed_document(source: Path, photographs: Path) -> bytes:
    """A dozen images of an instances file as JSON, at most four annotations of each;
    writes photographs of the first two.
    """
    whole = json.loads(source.read_text())
    images = whole["images"][:IMAGES]
    rows: list[dict[str, Any]] = []
    for image in images:
        rows += [a for a in whole["annotations"] if a["image_id"] == image["id"]][:OBJECTS]
    rows += [
        a
        for a in whole["annotations"]
        if a["iscrowd"] and a["image_id"] in {i["id"] for i in images}
    ][:1]
    for image in images[:2]:
        image["width"] = image["height"] = SIDE
        Image.new("RGB", (SIDE, SIDE), "gray").save(photographs / image["file_name"])
    cut = {"images": images, "annotations": rows, "categories": whole["categories"][:20]}
    return json.dumps(cut).encode()


def run_case(text: bytes, photographs: Path, work: Path, seconds: int = SECONDS) -> dict[str, str]:
    """What each verb said; a crash passes. 0 seconds: no limit."""
    data = work / "case.json"
    data.write_bytes(text)
    said = {}
    for verb in VERBS:
        signal.alarm(seconds)
        try:
            said[verb] = outcome(verb, data, photographs, work)
        except BaseException as error:
            error.add_note(f"verb: {verb}")
            raise
        finally:
            signal.alarm(0)
    return said


def fuzz(source: Path, out: Path, cases: int, seed: int, resume: bool = False) -> dict[str, Any]:
    """Runs the cases; the figures, which also lie in out/state.json."""
    photographs, work, failures = (out / name for name in ("photographs", "work", "failures"))
    for folder in (photographs, work, failures):
        folder.mkdir(parents=True, exist_ok=True)
    state = out / "state.json"
    text = seed_document(source, photographs)
    done: dict[str, Any] = {
        "seed": seed,
        "cases": 0,
        "read": 0,
        "refused": 0,
        "crashes": 0,
        "slowest": [0.0, 0],
    }
    if resume and state.exists():
        done = json.loads(state.read_text())
    run_case(text, photographs, work, seconds=0)  # imports are no growth
    done["rss_mib_first"] = done.get("rss_mib_first") or _rss()
    previous = signal.signal(signal.SIGALRM, _too_slow)
    try:
        for _ in _counted(done, cases, state):
            _try(text, photographs, work, failures, done)
    finally:
        signal.signal(signal.SIGALRM, previous)
    return done


def _counted(done: dict[str, Any], cases: int, state: Path) -> Iterator[int]:
    for case in range(done["cases"], cases):
        yield case
        done["cases"] = case + 1
        if done["cases"] % 100 == 0 or done["cases"] == cases:
            done["rss_mib_last"] = _rss()
            part = state.with_suffix(".part")
            part.write_text(json.dumps(done))
            part.replace(state)
            print(json.dumps(done), flush=True)


def _try(text: bytes, photographs: Path, work: Path, failures: Path, done: dict[str, Any]) -> None:
    case = done["cases"]
    mutated = mutate(text, random.Random(f"{done['seed']}:{case}"))
    start, peak = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        said = run_case(mutated, photographs, work)
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak > LEAP:
            raise MemoryError("the peak of memory leapt")
        done["refused" if any(s.startswith("refused") for s in said.values()) else "read"] += 1
    except KeyboardInterrupt:
        raise
    except BaseException:
        done["crashes"] += 1
        name = f"{done['seed']}-{case}"
        (failures / f"{name}.json").write_bytes(mutated)
        (failures / f"{name}.txt").write_text(traceback.format_exc(), errors="backslashreplace")
    done["slowest"] = max(done["slowest"], [round(time.perf_counter() - start, 3), case])


def _too_slow(*_: object) -> None:
    raise TooSlow(f"more than {SECONDS} s")


def _rss() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared = Path(os.environ.get("HALFMASK_SHARED", "../shared"))
    parser.add_argument(
        "--source", type=Path, default=shared / "data/coco-mini/instances_train.json"
    )
    parser.add_argument("--out", type=Path, default=Path("fuzz"))
    parser.add_argument("--cases", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    given = parser.parse_args()
    done = fuzz(given.source, given.out, given.cases, given.seed, given.resume)
    raise SystemExit(1 if done["crashes"] else 0)


if __name__ == "__main__":
    main()
