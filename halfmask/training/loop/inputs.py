"""What a run learns from, noted when it begins: a resumed run must learn from the same."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from halfmask._version import __version__
from halfmask.errors import InputError
from halfmask.files.atomic import locks, write_json
from halfmask.files.prints import FilePrint, has_changed, prints_of
from halfmask.text import listed, plural
from halfmask.training.loop.callback import RESUME_FILE

logger = logging.getLogger("halfmask")

INPUTS = "inputs.json"
"""File of a run's folder: the prints of annotations and photographs, and versions."""
Noted = dict[str, Any]
Files = Mapping[str, Iterable[Path]]
"""annotations, photographs → the files, in an order that does not change."""


def note_inputs(files: Files, out: Path) -> None:
    """Writes what a run learns from into its folder."""
    found = {"versions": _versions()} | {what: prints_of(paths) for what, paths in files.items()}
    write_json(out / INPUTS, found)


def check_inputs(files: Files, out: Path, *, accept_changes: bool) -> bool:
    """Checks that a run which goes on learns from what it began with.

    Files are compared in their order, so that data may have moved to another folder.

    Returns:
        Whether the inputs must be noted: the run is new, or changes are accepted.
    Raises:
        InputError: something changed, and that is not accepted.
    """
    if not (out / RESUME_FILE).is_file() or not (out / INPUTS).is_file():
        return True
    changes = list(_changes(_read(out / INPUTS, files), files))
    if changes and not accept_changes:
        raise InputError(
            f"{out}: since the run began, {'; '.join(changes[:3])}. Restore that, or go on with "
            "--accept-changes"
        )
    for change in changes:
        logger.warning("%s: since the run began, %s; accepted", out, change)
    return bool(changes)


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """Holds a run's folder, which is made if need be, for this process.

    Raises:
        InputError: another process trains there.
    """
    if os.name == "nt":  # folders cannot be locked
        yield
        return
    new = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        folder = os.open(out, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"{out}: {error.strerror or error}") from error
    try:
        if not locks(folder):
            new = False
            raise InputError(f"{out}: another training runs in this folder; wait, or name another")
        yield
    finally:
        os.close(folder)
        if new and out.is_dir() and not any(out.iterdir()):
            out.rmdir()


def _read(path: Path, files: Files) -> Noted:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        assert all(type(found[key]) is dict for key in ("versions", *files))
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise InputError(
            f"{path}: damaged; delete it if you know that the data are the same"
        ) from error
    return dict(found)


def _changes(noted: Noted, files: Files) -> Iterator[str]:
    """Says what differs."""
    for name, version in _versions().items():
        before = noted["versions"].get(name)
        if before != version:
            yield f"{name} became {version}, it was {before}"
    for what, paths in files.items():
        known: list[FilePrint] = list(noted[what].values())
        unique = list(dict.fromkeys(paths))
        if len(known) != len(unique):
            yield f"the {what} became {plural(len(unique), 'file')}, from {len(known)}"
            continue
        changed = [p for p, was in zip(unique, known, strict=True) if has_changed(p, was)]
        if changed:
            yield f"the {what} changed: {listed(changed, 1)}"


def _versions() -> Noted:
    return {"halfmask": __version__, "torch": torch.__version__}
