"""Asks OSV (osv.dev) for known vulnerabilities of what is installed here, with
pip-audit in an environment of its own.

Exit code 1 where some are known. Without a network nothing can be asked: then it says
so and ends with 0, since no tool carries the advisories in a package of an acceptable
licence (safety-db does: CC BY-NC-SA, and its last free release is of 2021).

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
    """Why nothing was asked."""


def reachable(host: str = HOST, seconds: float = 5.0) -> bool:
    """Whether a host answers."""
    try:
        socket.create_connection((host, 443), seconds).close()
    except OSError:
        return False
    return True


def installed(folder: Path) -> Path:
    """pip-audit's program in an environment in `folder`, which is made where it is not there."""
    program = folder / "bin" / "pip-audit"
    if not program.exists():
        run([sys.executable, "-m", "venv", str(folder)])
        run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", TOOL])
    return program


def run(command: list[str], fine: tuple[int, ...] = (0,)) -> str:
    """What a program prints.

    Raises:
        NotAuditedError: it cannot be run, takes too long, or ends with another code
            than a fine one.
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
    """How many packages OSV was asked about, and a line for each vulnerability."""
    options = [
        "--path",
        str(packages),
        "-s",
        "osv",
        "-f",
        "json",
        "--progress-spinner",
        "off",
        "--skip-editable",
    ]
    try:
        found: dict[str, Any] = json.loads(run([str(program), *options], fine=(0, 1)))
        rows = found["dependencies"]
    except (ValueError, KeyError, TypeError) as error:
        raise NotAuditedError(f"pip-audit's answer cannot be read: {error}") from error
    lines = [
        f"{row['name']} {row['version']}: {fault['id']}, mended in "
        f"{', '.join(fault['fix_versions']) or 'no release yet'}"
        for row in rows
        for fault in row.get("vulns", [])
    ]
    return sum("vulns" in row for row in rows), lines


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of the environment that pip-audit gets")
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
