"""Coverage-guided fuzzing of the mask decoders with atheris (pip install
'halfmask[fuzz]'; Linux and macOS).

Each decoder of targets.py runs in a process of its own: an assertion, any
exception, more than five seconds or more than 2 GiB end it, and the input that did it
is kept. tests/bad_input/test_fuzz_masks.py does the same without atheris.

Example: python -m tests.bad_input.fuzz.masks --seconds 60 --out fuzz-masks
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path

NAMES = ("coco-text", "coco-nearly", "coco-plain", "polygon", "brush", "cvat", "yolo")
SECONDS = 5
MEBIBYTES = 2048
STARTING = 120
"""Seconds that a process may take to begin and to end, besides."""
LONGEST = 400
"""Bytes of an input."""


def fuzz_one(name: str, options: list[str]) -> None:
    """Runs one decoder under libFuzzer, which ends the process itself."""
    import atheris

    with atheris.instrument_imports(
        include=["halfmask.coco", "halfmask.formats", "tests.bad_input.fuzz.targets"]
    ):
        from tests.bad_input.fuzz.targets import TARGETS

    def timed(data: bytes) -> None:
        begin = time.monotonic()
        TARGETS[name](data)
        assert time.monotonic() - begin < SECONDS, "too slow"

    atheris.Setup([sys.argv[0], *options], timed)
    atheris.Fuzz()


def run(name: str, seconds: int, seed: int, out: Path) -> dict[str, object]:
    """One decoder in a process of its own; its figures."""
    corpus = out / name
    corpus.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        f"-seed={seed}",
        "-timeout=100000",  # its alarm now and then kills the process instead; watched here
        f"-rss_limit_mb={MEBIBYTES}",
        f"-max_len={LONGEST}",
        f"-artifact_prefix={out / name}-",
        "-print_final_stats=1",
        "-verbosity=0",
        str(corpus),
    ]
    begin = time.monotonic()
    itself = ["-m", "tests.bad_input.fuzz.masks"]
    command = [sys.executable, "-X", "faulthandler", *itself, "--one", name, *options]
    hang = seconds + STARTING + 10 * SECONDS
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False, timeout=hang
    )
    text = done.stdout + done.stderr
    figures = dict(re.findall(r"stat::(\w+):\s+(\d+)", text))
    if done.returncode:
        (out / f"{name}.txt").write_text(f"{text}\nexit code {done.returncode}\n")
    return {
        "decoder": name,
        "ok": done.returncode == 0,
        "inputs": int(figures.get("number_of_executed_units", 0)),
        "corpus": len(list(corpus.iterdir())),
        "mebibytes": int(figures.get("peak_rss_mb", 0)),
        "seconds": round(time.monotonic() - begin),
    }


def main() -> int:
    if sys.argv[1:2] == ["--one"]:
        fuzz_one(sys.argv[2], sys.argv[3:])
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("decoder", nargs="*", help=f"of {', '.join(NAMES)}; all by default")
    parser.add_argument("--seconds", type=int, default=60, help="for each decoder")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("fuzz-masks"))
    given = parser.parse_args()
    rows = []
    for name in given.decoder or NAMES:
        rows.append(run(name, given.seconds, given.seed, given.out))
        print(json.dumps(rows[-1]), flush=True)
    return 0 if all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
