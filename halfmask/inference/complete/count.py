"""Counts what `complete` fills of a large file, without reading it into memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from halfmask.coco.images import missing_photographs
from halfmask.coco.index.decode import Decoded, decode_records
from halfmask.coco.index.file import CocoIndex
from halfmask.coco.index.format import MASK_STATES, Array
from halfmask.coco.index.place import is_indexed, open_index
from halfmask.coco.index.store import Part
from halfmask.coco.problems import ProblemKind
from halfmask.coco.reading.ids import whole_number
from halfmask.coco.scan.batch import ListBatch
from halfmask.coco.scan.lists import scan_lists
from halfmask.coco.supervision import MaskState
from halfmask.errors import InputError
from halfmask.formats.source import DataSource
from halfmask.inference.complete.plan import FATES_TO_FILL, FillingPlan, Redo, annotation_name
from halfmask.progress import Progress


def indexed_source(opened: DataSource, progress: Progress | None = None) -> CocoIndex | None:
    """Returns the index of a data set that is too large for memory; else None.

    None also if the file repeats annotations, which are counted once in memory.

    Raises:
        InputError: no COCO file, or the index cannot be written.
    """
    if not is_indexed(opened.annotations):
        return None
    index = open_index(opened.annotations, progress)
    index.name = str(opened.original)
    if any(problem.kind == ProblemKind.MERGED_RECORDS for problem in index.readings):
        return None
    opened.note_findings(index)
    return index


def count_work(
    index: CocoIndex, path: Path, redo: Redo, *, progress: Progress | None = None
) -> FillingPlan:
    """Returns the plan of a file as `plan` does, with all counts but no batches.

    Args:
        index: of the file, with all its images.
        path: the COCO file.
        redo: what is drawn again.
        progress: reports MiB read, if annotations without a usable box are looked for.
    """
    out = FillingPlan()
    ids = [int(category["id"]) for category in index.categories]
    for part in index.parts:
        fates = _fates(part, redo)
        number = part.annotation["id"]
        for fate in np.unique(fates).tolist():
            chosen = fates == fate
            out.counts[fate] += int(chosen.sum())
            if fate in ("suspect", "broken"):
                listed = out.suspects if fate == "suspect" else out.broken
                listed += number[chosen].tolist()
        filled = np.isin(fates, FATES_TO_FILL)
        out.counted_images += len(_images(part, filled))
        labels = part.annotation["label"][filled]
        found, times = np.unique(labels, return_counts=True)
        for label, count in zip(found.tolist(), times.tolist(), strict=True):
            out.to_fill[ids[label - 1]] += count
    left_out = dict(index.facts["left_out"])
    left_out.pop(str(ProblemKind.IMAGE_RECORD), None)
    if sum(left_out.values()):
        out.unusable = list(_unusable(index, path, progress))
        out.counts["unusable"] = len(out.unusable)
    return out


def check_count(index: CocoIndex, work: FillingPlan, *, redo: Redo, folder: Path) -> None:
    """Raises InputError for a file without boxes or a folder without its photographs."""
    if not sum(len(part.annotation["id"]) for part in index.parts):
        found = (
            f"{len(work.unusable)} annotations, none usable (halfmask doctor says why)"
            if work.unusable
            else "no annotation"
        )
        raise InputError(f"{index.name}: no box to fill a mask into: {found}")
    total, first = 0, ""
    for part in index.parts:
        filled = np.isin(_fates(part, redo), FATES_TO_FILL)
        records = [{"file_name": str(part.file_name[k])} for k in _images(part, filled)]
        if len(missing_photographs(folder, records)) < len(records):
            return
        first = first or next((record["file_name"] for record in records), "")
        total += len(records)
    if total:
        raise InputError(
            f"{folder}: none of the {total} photographs that {index.name} needs is here, "
            f"such as {first or '(no file_name)'}"
        )


def _images(part: Part, chosen: Array) -> list[int]:
    """Returns the images of a part that have a chosen annotation."""
    rows = np.repeat(np.arange(len(part.starts) - 1), np.diff(part.starts))
    images: list[int] = np.unique(rows[chosen]).tolist()
    return images


def _fates(part: Part, redo: Redo) -> Array:
    """Returns for each annotation of a part what happens to it, as `plan` counts it."""
    states, accepted = (part.annotation[f"state_{use}"] for use in ("annotated", "accepted"))
    names = np.array([str(state) for state in MASK_STATES], dtype=object)
    fates = names[states]
    filled, rejected = (_is(states, s) for s in (MaskState.FILLED, MaskState.REJECTED))
    fates[_is(states, MaskState.MASK)] = "kept"
    fates[_is(states, MaskState.BROKEN)] = "replaced" if redo.broken else "broken"
    fates[filled] = "refilled" if redo.filled else "earlier"
    fates[filled & ~_is(accepted, MaskState.FILLED)] = "kept"
    fates[rejected] = "refilled" if redo.filled else "rejected"
    return fates.astype(str)


def _is(states: Array, state: MaskState) -> Array:
    equal: Array = states == MASK_STATES.index(state)
    return equal


def _unusable(index: CocoIndex, path: Path, progress: Progress | None) -> Iterator[str]:
    """Yields the names of the annotations that are not in the index, in file order."""
    parts = [part.annotation["offset"].astype(np.int64) for part in index.parts]
    known = np.sort(np.concatenate([*parts, [np.iinfo(np.int64).max]]))
    batches = scan_lists(
        path, lambda key: key == "annotations", progress=progress, decode=decode_records
    )
    for batch in batches:
        starts = _starts(batch)
        absent = known[np.searchsorted(known, starts)] != starts
        for row in np.flatnonzero(absent).tolist():
            decoded: Decoded | None = batch.decoded
            item: Any = batch.items[row] if decoded is None else decoded.item(row)
            number = whole_number(item.get("id")) if isinstance(item, dict) else None
            named = item if number is None else item | {"id": number}
            yield annotation_name(named, batch.first + row)


def _starts(batch: ListBatch) -> Array:
    if batch.decoded is None:
        return np.array([start for start, _ in batch.spans], dtype=np.int64)
    starts: Array = batch.decoded.spans[:, 0] + batch.start
    return starts
