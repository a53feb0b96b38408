"""Writes the reviewed file: decided annotations change, all other bytes stay."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from halfmask.errors import InputError
from halfmask.files.atomic import lock, written_beside
from halfmask.files.held import open_in_place
from halfmask.masks.crops import decode
from halfmask.masks.outline import outlines
from halfmask.web.review.decisions import Decision, Decisions
from halfmask.web.review.index import ReviewIndex
from halfmask.web.review.source import SourceFile

BLOCK = 1 << 20


class OutputLock:
    """Keeps other reviews from saving to the same file.

    Args:
        out: the reviewed file.
    Raises:
        InputError: another review saves there, or the folder cannot be written.
    """

    def __init__(self, out: Path) -> None:
        self._path = out.with_name(f".{out.name}.lock")
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            self._file = open_in_place(self._path)
        except OSError as error:
            raise InputError(f"{out}: cannot be written: {error.strerror or error}") from error
        with suppress(OSError):  # a file system without locks
            if not lock(self._file):
                self._file.close()
                raise InputError(
                    f"{out}: another review saves to this file; stop it, or name another --out"
                )

    def close(self) -> None:
        """Lets others save there."""
        with suppress(OSError):
            self._path.unlink()
        self._file.close()


def export_review(
    source: SourceFile, index: ReviewIndex, decisions: Decisions, *, out: Path
) -> dict[str, int]:
    """Writes the reviewed file, a block at a time.

    A decided annotation gets `halfmask.state`, `by` and `when`, and its new mask if it
    has one. All other bytes are those of `source`.

    Returns:
        State → number of annotations that changed to it.
    Raises:
        InputError: `out` cannot be written, or `source` was changed.
    """
    counts: Counter[str] = Counter()
    with written_beside(out) as target, source.reopened() as file:
        for position, decision in decisions.decided():
            start, end = index.spans[position].tolist()
            _copy(file, target, start - file.tell())
            annotation = json.loads(file.read(end - start))
            size = index.sizes[index.images[position]].tolist()
            target.write(
                json.dumps(decided_annotation(annotation, decision, (size[0], size[1]))).encode()
            )
            counts[decision.state] += 1
        shutil.copyfileobj(file, target, BLOCK)
    return dict(counts)


def decided_annotation(
    annotation: dict[str, Any], decision: Decision, image_size: tuple[int, int]
) -> dict[str, Any]:
    """Returns an annotation with a decision.

    A new mask has the format of the old one, polygons or RLE.

    Args:
        image_size: (H, W).
    """
    note = annotation.get("halfmask")
    note = {**(note if isinstance(note, dict) else {}), "state": decision.state}
    note |= {"by": decision.by, "when": decision.when} if decision.by else {}
    changed: dict[str, Any] = {}
    if decision.mask is not None:
        own = dict(decision.mask)
        changed = {"segmentation": own.pop("segmentation"), "area": own.pop("area")}
        if isinstance(annotation.get("segmentation"), list):
            changed["segmentation"] = _polygons(changed["segmentation"], image_size)
        note |= own
    return annotation | changed | {"halfmask": note}


def _polygons(rle: dict[str, Any], image_size: tuple[int, int]) -> list[list[float]]:
    bitmap, offset = decode(rle, image_size)
    return outlines(bitmap.numpy(), offset)


def _copy(source: IO[bytes], target: IO[bytes], count: int) -> None:
    while count > 0:
        block = source.read(min(count, BLOCK))
        if not block:
            raise InputError("the input was cut short during the export; export again")
        target.write(block)
        count -= len(block)
