"""The short form of `python -m tests.reliability.load`."""

import subprocess
import sys
from pathlib import Path

import pytest

from .load import PARTS, STATED_BYTES

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory from /proc")
def test_twenty_clients_with_the_largest_pictures() -> None:
    command = [sys.executable, "-m", "tests.reliability.load", "--minutes", "0.33"]
    done = subprocess.run(
        [*command, "--clients", "20", "--stalling", "6"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("held")


def test_the_documentation_states_the_sum_and_its_parts() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    for part, size in PARTS.items():
        assert f"| {part} | {size >> 20:,} |" in text, part
    assert f"| together | {STATED_BYTES >> 20:,} |" in text
