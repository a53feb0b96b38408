"""What a run learns from, noted when it begins: a resumed run must learn from the same."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from halfmask._version import __version__
from halfmask.data.dataset import CocoInstances
from halfmask.errors import InputError
from halfmask.files.atomic import locks, write_json
from halfmask.files.prints import FilePrint, has_changed, prints_of
from halfmask.recipes.recipe import Recipe, expand
from halfmask.training.data import TrainingData
from halfmask.training.loop.callback import RESUME_FILE

logger = logging.getLogger("halfmask")

INPUTS = "inputs.json"
"""File of a run's folder: the prints of annotations and photographs, and versions."""
Noted = dict[str, Any]


def note_inputs(recipe: Recipe, data: TrainingData, out: Path) -> None:
    """Writes what a run learns from into its folder."""
    found = {
        "versions": _versions(),
        "annotations": prints_of(_annotation_files(recipe)),
        "photographs": prints_of(_photographs(data)),
    }
    write_json(out / INPUTS, found)


def check_inputs(recipe: Recipe, data: TrainingData, out: Path, *, accept_changes: bool) -> bool:
    """Checks that a run which goes on learns from what it began with.

    Data that moved to another folder are compared by the names of their files.

    Returns:
        Whether the inputs must be noted: the run is new, or changes are accepted.
    Raises:
        InputError: something changed, and that is not accepted.
    """
    if not (out / RESUME_FILE).is_file() or not (out / INPUTS).is_file():
        return True
    changes = list(_changes(_read(out / INPUTS), recipe, data))
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


def _read(path: Path) -> Noted:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        kinds = {key: type(found[key]) for key in ("versions", "annotations", "photographs")}
        assert set(kinds.values()) == {dict}
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise InputError(
            f"{path}: damaged; delete it if you know that the data are the same"
        ) from error
    return dict(found)


def _changes(noted: Noted, recipe: Recipe, data: TrainingData) -> Iterator[str]:
    """Says what differs."""
    for name, version in _versions().items():
        if noted["versions"].get(name) != version:
            yield f"{name} became {version}, it was {noted['versions'].get(name)}"
    files = {"annotations": _annotation_files(recipe), "photographs": list(_photographs(data))}
    for what, paths in files.items():
        known: list[FilePrint] = list(noted[what].values())
        if len(known) != len(set(paths)):
            yield f"the {what} became {len(set(paths))} files, they were {len(known)}"
            continue
        unique = dict.fromkeys(paths)
        changed = [p for p, was in zip(unique, known, strict=True) if has_changed(p, was)]
        if changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            yield f"the {what} {changed[0]}{more} changed"


def _versions() -> Noted:
    return {"halfmask": __version__, "torch": torch.__version__}


def _annotation_files(recipe: Recipe) -> list[Path]:
    sections = [recipe.data, *(stage.data for stage in recipe.stages if stage.data is not None)]
    names = [name for data in sections for name in (data.annotations, data.validation) if name]
    return list(dict.fromkeys(expand(name) for name in names))


def _photographs(data: TrainingData) -> Iterator[Path]:
    parts: list[CocoInstances] = [data.main.training, *(p.training for p in data.own.values())]
    parts += [] if data.development is None else [data.development]
    for part in parts:
        for image_id in part.image_ids:
            yield part.path_of(image_id)
