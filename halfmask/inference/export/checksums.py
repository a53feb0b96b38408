"""The checksums of an export: a file that changed on its way is found before its use.

They find damage, not an attacker: whoever changes a file can change its checksum too.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from halfmask.errors import InputError
from halfmask.files.regular import read_regular

REPORT = "model.json"
_SEAL = ',\n "sha256": "'
"""Begins the last line of model.json, which holds the checksum of all before it."""


def digest_of(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(read_regular(path)).hexdigest()


def sealed(report: dict[str, Any]) -> str:
    """Returns the text of model.json: the report, and a last line with its checksum.

    Args:
        report: what model.json says; not empty.
    """
    head = json.dumps(report, indent=1).removesuffix("\n}")
    return head + _seal(head.encode())


def check_export(folder: str | Path) -> dict[str, Any]:
    """Compares the files of an export with the checksums in its model.json.

    Args:
        folder: that `export` wrote.
    Returns:
        What model.json holds.
    Raises:
        InputError: a file is missing, changed or not of this export, or model.json is
            damaged, or of an export without checksums.
    """
    folder = Path(folder)
    report = _report_of(folder / REPORT)
    files: dict[str, str] = report["files"]
    faults = [f"{name} is not of this export" for name in sorted(_graphs(folder) - files.keys())]
    for name, expected in files.items():
        try:
            found = digest_of(folder / name)
        except OSError as error:
            faults.append(f"{name} cannot be read ({error.strerror or error})")
            continue
        if found != expected:
            faults.append(f"{name} is damaged or of another export")
    if faults:
        raise InputError(f"{folder}: {'; '.join(faults)}: copy the folder again, or export again")
    return report


def _report_of(path: Path) -> dict[str, Any]:
    try:
        data = read_regular(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    head = data.rpartition(_SEAL.encode())[0]
    if not head or data != head + _seal(head).encode():
        raise InputError(
            f"{path}: damaged, or of an export without checksums: copy the folder again, or "
            "export again"
        )
    report: dict[str, Any] = json.loads(data)
    return report


def _seal(head: bytes) -> str:
    return f'{_SEAL}{hashlib.sha256(head).hexdigest()}"\n}}'


def _graphs(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.onnx")}
