"""Writes the index of a large COCO file in one pass over the JSON."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np

from halfmask.coco.index.batches import record_batches
from halfmask.coco.index.format import CHECK, SPOOLED, Array, Source, checksum, metadata, schema
from halfmask.coco.index.images import read_span
from halfmask.coco.index.rows import AnnotationRows
from halfmask.coco.index.spool import Spool
from halfmask.coco.problems import ProblemKind
from halfmask.progress import Progress

_SPAN = ["offset", "length"]


def write_index(
    path: Path, target: Path, source: Source, *, progress: Progress | None = None
) -> None:
    """Writes the index of `path` to `target`, in memory that does not grow with it.

    Args:
        path: a COCO instances file of any size.
        target: the Arrow file. Temporary files lie in a folder beside it.
        source: identifies the content of `path`.
        progress: reports MiB read.
    Raises:
        InputError: `path` is no COCO file (see `scan_lists`).
        OSError: `target` cannot be written.
    """
    folder = target.with_name(f"{target.name}.d")
    try:
        folder.mkdir()
        spool = Spool(path, folder, AnnotationRows)
        spool.read(progress)
        _write(spool, folder, target, source=source)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(spool: Spool, folder: Path, target: Path, *, source: Source) -> None:
    """Sorts the parts and writes one record batch for each."""
    import pyarrow as pa

    rows = spool.rows
    assert isinstance(rows, AnnotationRows)
    known = {c["id"] for c in spool.categories}
    dropped = _repeated(spool, rows)
    left_out = spool.left_out + rows.left_out
    left_out[ProblemKind.ORPHAN] += sum(n for c, n in rows.seen.items() if c not in known)
    facts = {
        "left_out": left_out + Counter(),  # without zeros
        "categories": spool.categories,
        "not_strict": bool(spool.constants),
        **rows.findings(known),
    }
    category_ids = np.array([c["id"] for c in spool.categories], dtype=np.int64)
    with target.open("wb") as file:
        head = schema().with_metadata(metadata(source, facts))
        with pa.ipc.new_file(pa.PythonFile(file), head) as writer:
            for batch in record_batches(
                spool.images,
                category_ids,
                folder,
                images_a_part=spool.images_a_part,
                dropped=dropped,
            ):
                writer.write_batch(batch, custom_metadata={CHECK: checksum(batch)})


def _repeated(spool: Spool, read: AnnotationRows) -> Array:
    """Returns the offsets of annotations that repeat an earlier one of their image."""
    found: list[int] = []
    for k in range(0 if read.rising else spool.parts):
        rows = spool.part(k, SPOOLED)
        rows = rows[np.lexsort((rows["offset"], rows["id"], rows["image"]))]
        same = (rows["id"][1:] == rows["id"][:-1]) & (rows["image"][1:] == rows["image"][:-1])
        first = 0
        for at in (np.flatnonzero(same) + 1).tolist():
            first = first if at >= 2 and same[at - 2] else at - 1
            one, other = (read_span(spool.path, *rows[k][_SPAN]) for k in (first, at))
            found += [int(rows["offset"][at])] if one == other else []
    if found:
        spool.ids.merged["annotation"] = len(found)
    return np.array(found, dtype=np.uint64)
