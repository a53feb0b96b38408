"""Asks OSV (osv.dev) for known vulnerabilities of the installed packages, with pip-audit.

pip-audit gets its own environment. Exit code 1: vulnerabilities are known. Without a
network it prints that and ends with 0: no package with an acceptable licence contains the
advisories (safety-db is CC BY-NC-SA, and its last free release is from 2021).

Example: python tools/audit.py .venv-audit
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

HOST = "api.osv.dev"
TOOL = "pip-audit==2.10.1"
SECONDS = 600


class NotAuditedError(Exception):
    """The reason why nothing was audited."""


def reachable(host: str = HOST, seconds: float = 5.0) -> bool:
    """Returns whether a host answers."""
    try:
        socket.create_connection((host, 443), seconds).close()
    except OSError:
        return False
    return True


def installed(folder: Path) -> Path:
    """Returns pip-audit's program in the environment `folder`, which is created if missing."""
    program = folder / "bin" / "pip-audit"
    if not program.exists():
        run([sys.executable, "-m", "venv", str(folder)])
        run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", TOOL])
    return program


def run(command: list[str], fine: tuple[int, ...] = (0,)) -> str:
    """Returns the output of a program.

    Raises:
        NotAuditedError: it cannot be run, takes too long, or ends with a code that is
            not in `fine`.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotAuditedError(f"{command[0]}: {error}") from error
    if done.returncode not in fine:
        last = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise NotAuditedError(f"{Path(command[0]).name} ended with {done.returncode}: {last}")
    return done.stdout


def known(program: Path, packages: Path) -> tuple[int, list[str]]:
    """Returns the number of audited packages, and a line for each vulnerability."""
    options = "-s osv -f json --progress-spinner off --skip-editable --path"
    command = [str(program), *options.split(), str(packages)]
    try:
        found: dict[str, Any] = json.loads(run(command, fine=(0, 1)))
        rows = found["dependencies"]
    except (ValueError, KeyError, TypeError) as error:
        raise NotAuditedError(f"pip-audit's answer cannot be read: {error}") from error
    lines = [
        f"{row['name']} {row['version']}: {fault['id']}, fixed in "
        f"{', '.join(fault['fix_versions']) or 'no release yet'}"
        for row in rows
        for fault in row.get("vulns", [])
    ]
    return sum("vulns" in row for row in rows), lines


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="environment for pip-audit")
    folder = parser.parse_args().folder
    try:
        if not reachable():
            raise NotAuditedError(f"{HOST} cannot be reached")
        count, lines = known(installed(folder), Path(sysconfig.get_path("purelib")))
    except NotAuditedError as reason:
        sys.stdout.write(f"not audited: {reason}\n")
        return 0
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.write(f"{count} packages audited, {len(lines)} known vulnerabilities\n")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
