"""What `complete` writes: the document with its filled masks, or the same bytes, so
that a reader never meets half of them.
"""

from __future__ import annotations

import glob
import shutil
from pathlib import Path
from typing import Any

from halfmask._version import __version__
from halfmask.files.atomic import path_beside
from halfmask.inference.complete.filling import FilledMask
from halfmask.inference.complete.plan import Plan, Record


def completed(
    document: Record, work: Plan, masks: dict[int, FilledMask], model: str, date: str
) -> dict[str, Any]:
    """A document of its own; what is not filled is shared with the one that was read."""
    rows = list(document["annotations"])
    for position, filling in masks.items():
        note: dict[str, Any] = {"model": model, "score": filling["score"], "state": "filled"}
        old = rows[position]
        if "agreement" in filling:
            note["agreement"] = filling["agreement"]
        if position in work.broken:
            note["replaced"] = old["segmentation"]
        elif isinstance(old.get("halfmask"), dict) and "replaced" in old["halfmask"]:
            note["replaced"] = old["halfmask"]["replaced"]
        rows[position] = old | {
            "segmentation": filling["segmentation"],
            "area": filling["area"],
            "halfmask": note,
        }
    return document | {"annotations": rows, "info": _info(document.get("info"), model, date)}


def _info(info: object, model: str, date: str) -> dict[str, Any]:
    """The file's `info` with model, version and date; what earlier fillings said moves
    to `earlier`.
    """
    kept = info if isinstance(info, dict) else {} if info is None else {"info": info}
    note: dict[str, Any] = {"model": model, "version": __version__, "date": date}
    before = kept.get("halfmask")
    if isinstance(before, dict):
        last = {key: value for key, value in before.items() if key != "earlier"}
        earlier = before.get("earlier")
        history = [
            *(earlier if isinstance(earlier, list) else []),
            *([] if last == note else [last]),
        ]
        if history:
            note["earlier"] = history
    return {**kept, "halfmask": note}


def sweep(target: Path) -> None:
    """Removes what a run that was killed while it wrote left beside the output. Only
    with the journal's lock in hand.
    """
    for leftover in target.parent.glob(glob.escape(f".{target.name}.") + "*.part"):
        leftover.unlink(missing_ok=True)


def copy_file(source: Path, target: Path) -> None:
    """The same bytes; a reader never meets half of them."""
    with path_beside(target) as beside:
        shutil.copyfile(source, beside)
