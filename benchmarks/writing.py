"""How benchmarks reach the docs: a table between two markers, with its command,
hardware, commit and date.
"""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import torch
import torchvision

from halfmask._version import __version__
from halfmask.errors import InputError
from halfmask.files.atomic import write_text


def provenance() -> dict[str, Any]:
    """Hardware, commit, date and versions, as the contract of `bench --json` names
    them; commit is null outside a git checkout.
    """
    return {
        "hardware": _hardware(),
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {
            "halfmask": __version__,
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
    }


def replace_table(page: Path, name: str, table: str, command: str, source: dict[str, Any]) -> None:
    """Puts the table between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->` of a
    Markdown page.

    Raises:
        InputError: the page cannot be read or has no such pair of markers.
    """
    begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{page}: cannot be read ({error}); name a page with {begin} and {end}"
        ) from error
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise InputError(
            f"{page}: expected one {begin} and, after it, one {end} to put the table between"
        )
    versions = ", ".join(f"{key} {value}" for key, value in source["versions"].items())
    commit = source["commit"] or "unknown"
    note = f"Written by `{command}` on {source['hardware']}, commit {commit}, {source['date']}"
    note = f"<small>{note}; {versions}.</small>"
    before, after = text[: text.index(begin)], text[text.index(end) :]
    write_text(page, f"{before}{begin}\n{table}\n\n{note}\n{after}")


def _hardware() -> str:
    if torch.cuda.is_available():
        return f"one {torch.cuda.get_device_name(0)}"
    return f"{torch.get_num_threads()} of {os.cpu_count()} CPU cores ({_processor()})"


def _processor() -> str:
    try:
        found = re.search(
            r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8")
        )
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def _commit() -> str | None:
    """The commit of the checkout that the package lies in, marked if the tree differs from it."""
    folder = Path(__file__).parent
    try:
        command = [
            "git",
            "-C",
            str(folder),
            "describe",
            "--always",
            "--dirty",
            "--abbrev=10",
            "--exclude=*",
        ]
        return (
            subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
            or None
        )
    except (OSError, subprocess.CalledProcessError):
        return None
