"""The short form of `python -m tests.reliability.bitflips`."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*words: str) -> str:
    command = [sys.executable, "-m", *words]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_no_flipped_bit_is_silent() -> None:
    pytest.importorskip("onnxruntime", reason="exports: needs the extra `export`")
    assert "seed 1" in run("tests.reliability.bitflips", "--flips", "150", "--seed", "1")
