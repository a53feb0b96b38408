"""Runs `halfmask` verbs in processes of their own, for benchmarks that train."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import torch

from halfmask.errors import InputError

Halfmask = Callable[[list[str]], None]
"""Runs a `halfmask` command line."""


def run_halfmask(arguments: list[str]) -> None:
    """Runs one verb in a process of its own.

    Raises:
        InputError: it failed; what it printed stands above.
        KeyboardInterrupt: it was interrupted.
    """
    # The page states the number of threads of this process.
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    code = subprocess.run(
        [sys.executable, "-m", "halfmask", *arguments], env=environment, check=False
    ).returncode
    if code == 130:
        raise KeyboardInterrupt
    if code:
        raise InputError(
            f"bench: `halfmask {' '.join(arguments)}` ended with exit code {code}, see above"
        )
