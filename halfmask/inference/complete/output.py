"""Writes the completed file: the document with its filled masks, or the same bytes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from halfmask._version import __version__
from halfmask.files.atomic import write_json, written_beside
from halfmask.files.folders import sweep_parts
from halfmask.inference.complete.filling import FilledMask
from halfmask.inference.complete.plan import FillingPlan, Record

OF_ADDED = ("added", "detector", "detector_score")
"""Keys of `halfmask` that say that a detector added the object; they stay."""


def write_completed(
    target: Path,
    document: Record,
    work: FillingPlan,
    *,
    masks: dict[int, FilledMask],
    note: dict[str, Any],
) -> None:
    """Writes a document with masks at some positions of its annotations.

    Args:
        target: the file.
        document: the input.
        work: what was to be filled.
        masks: position → mask.
        note: the model, the date and the photographs' folder, for `info.halfmask`.
    Raises:
        InputError: the file cannot be written.
    """
    rows = list(document["annotations"])
    for position, filling in masks.items():
        rows[position] = _filled(
            rows[position], filling, note["model"], broken=position in work.replaced
        )
    info = _info(document.get("info"), note)
    write_json(target, document | {"annotations": rows, "info": info})


def copy_file(source: Path, target: Path) -> None:
    """Copies a file; a reader never sees half of it.

    Raises:
        InputError: the file cannot be written.
    """
    with source.open("rb") as file, written_beside(target) as copy:
        shutil.copyfileobj(file, copy)


def sweep(target: Path) -> None:
    """Removes what killed runs left beside the output; the caller holds the journal's lock."""
    sweep_parts(target.parent, target.name)


def _filled(old: Record, filling: FilledMask, model: str, *, broken: bool) -> Record:
    note: dict[str, Any] = {"model": model, "score": filling["score"], "state": "filled"}
    if "agreement" in filling:
        note["agreement"] = filling["agreement"]
    if broken or _is_a_persons(old):
        note["replaced"] = old["segmentation"]
    elif isinstance(old.get("halfmask"), dict) and "replaced" in old["halfmask"]:
        note["replaced"] = old["halfmask"]["replaced"]
    before = old.get("halfmask")
    if isinstance(before, dict):
        note |= {key: before[key] for key in OF_ADDED if key in before}
    mask = {"segmentation": filling["segmentation"], "area": filling["area"]}
    return old | mask | {"halfmask": note}


def _is_a_persons(old: Record) -> bool:
    """Whether a person drew the mask that a reviewer rejected: no model is named."""
    note = old.get("halfmask")
    return isinstance(note, dict) and note.get("state") == "rejected" and "model" not in note


def _info(info: object, note: dict[str, Any]) -> dict[str, Any]:
    """The file's `info` with a note; earlier notes move to `earlier`."""
    kept = info if isinstance(info, dict) else {} if info is None else {"info": info}
    note = {"model": note["model"], "version": __version__, **note}
    before = kept.get("halfmask")
    if isinstance(before, dict):
        last = {key: before[key] for key in before.keys() - {"earlier", "images", "source"}}
        earlier = before.get("earlier")
        history = list(earlier) if isinstance(earlier, list) else []
        new = {key: note[key] for key in note.keys() - {"images"}}
        history += [] if last in ({}, new) else [last]
        if history:
            note["earlier"] = history
        if "source" in before:
            note["source"] = before["source"]
    return {**kept, "halfmask": note}
