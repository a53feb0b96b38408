"""The short form of `python -m tests.reliability.kill`: commands killed at random moments leave nothing
half, and go on.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks, pidfd_open: Linux")
def test_eight_kills() -> None:
    command = [sys.executable, "-m", "tests.reliability.kill", "--kills", "8", "--seed", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seed 3" in done.stdout
