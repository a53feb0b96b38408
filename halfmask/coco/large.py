"""A large COCO file beside its index: what the index does not hold, and copies of the file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from halfmask.coco.index.file import CocoIndex
from halfmask.coco.index.place import INDEX_ABOVE, is_indexed, open_index
from halfmask.coco.index.store import Part
from halfmask.coco.problems import Problem, ProblemKind
from halfmask.coco.records import Document
from halfmask.coco.scan.lists import scan_lists
from halfmask.coco.scan.rest import Span, document_without
from halfmask.errors import InputError
from halfmask.files.atomic import new_file
from halfmask.progress import Progress

_IN_MEMORY = {ProblemKind.IDS_AS_TEXT, ProblemKind.IDS_ARE_NAMES, ProblemKind.MERGED_RECORDS}
"""Findings about files whose records must all be known before one of them is written."""
_LISTS = ("images", "annotations")


@dataclass(frozen=True, kw_only=True)
class LargeFile:
    """A COCO file that is read through its index; see `CocoFile` for the members.

    Attributes:
        path: the file.
        index: its images and annotations.
        document: the other values of the file, its two long lists empty.
        structure, readings, suspected: its findings, as of `CocoFile`.
    """

    path: Path
    index: CocoIndex
    document: Document
    structure: Sequence[Problem]
    readings: Sequence[Problem]
    suspected: Sequence[Problem]

    def write(
        self, out: str | Path, change: Callable[[Any], Any], progress: Progress | None = None
    ) -> tuple[int, int]:
        """Writes the file again, as `write_json` writes its document.

        Args:
            out: the new file.
            change: returns what is written for an item of `annotations`.
            progress: reports MiB read.
        Returns:
            The numbers of images and annotations.
        Raises:
            InputError: `out` cannot be written.
        """
        counts = dict.fromkeys(_LISTS, 0)
        with new_file(out) as file:
            for number, (key, value) in enumerate(self.document.items()):
                file.write(f"{', ' if number else '{'}{json.dumps(key)}: ")
                if key not in _LISTS:
                    file.write(json.dumps(value))
                    continue
                items = self._items(key, progress if key == "annotations" else None)
                changed = items if key == "images" else map(change, items)
                counts[key] = _write_list(file, changed)
            file.write("}")
        return counts["images"], counts["annotations"]

    def _items(self, key: str, progress: Progress | None) -> Iterator[Any]:
        for batch in scan_lists(self.path, lambda name: name == key, progress=progress):
            yield from batch.items


def open_large(
    path: Path, name: str | None = None, progress: Progress | None = None
) -> LargeFile | None:
    """Opens a file that is too large for memory; None for any other.

    None also for a file whose ids are text or names, or that repeats records: all of
    them must be known before one is written.

    Args:
        path: a COCO file.
        name: of the file in messages; None: the path.
        progress: reports MiB read.
    Raises:
        InputError: no COCO file, or the index cannot be written.
    """
    if not is_indexed(path):
        return None
    try:
        index = open_index(path, progress)
    except InputError:
        # A smaller file fits into memory, whatever lies where its index should be.
        if path.stat().st_size > INDEX_ABOVE:
            raise
        return None
    index.name = name or str(path)
    if any(problem.kind in _IN_MEMORY for problem in index.readings):
        return None
    document = document_without(path, list(_spans(index.parts)))
    document |= {key: [] for key in _LISTS}
    facts = index.facts
    if not (facts["left_out"] or facts["not_strict"] or index.readings or index.suspected):
        found: dict[str, list[Problem]] = {"structure": [], "readings": [], "suspected": []}
    else:
        # A third of a second that commands on smaller files never need.
        from halfmask.coco.doctor.large.examine import examine

        examined = examine(path, index.name, progress)
        found = {
            "structure": examined.structure,
            "readings": examined.readings,
            "suspected": examined.suspected,
        }
    return LargeFile(path=path, index=index, document=document, **found)


def _spans(parts: Sequence[Part]) -> Iterator[Span]:
    """Yields where the images and the annotations of an index lie in the file."""
    for columns in ([part.image for part in parts], [part.annotation for part in parts]):
        some = [one for one in columns if len(one["offset"])]
        if some:
            first = min(int(one["offset"].min()) for one in some)
            last = max(int((one["offset"] + one["length"]).max()) for one in some)
            yield first, last


def _write_list(file: IO[str], items: Iterator[Any]) -> int:
    count, separator = 0, "["
    for item in items:
        file.write(separator + json.dumps(item))
        count, separator = count + 1, ", "
    file.write("]" if count else "[]")
    return count
