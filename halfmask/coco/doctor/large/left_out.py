"""The annotations of a large file that cannot be used, each with its reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from halfmask.coco.doctor.large.rows import DoctorRows, Unusable
from halfmask.coco.index.images import IndexImages
from halfmask.coco.problems import Problem, ProblemKind
from halfmask.coco.reading.forms import standard_record
from halfmask.coco.records import fault_of_annotation, is_id
from halfmask.coco.scan.keys import read_bytes

Placed = tuple[int, Problem]
"""Position in the list of annotations, and a finding."""


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """What is left out of a file.

    Attributes:
        found: a finding for each annotation, in file order.
        merged: positions of those that repeat an earlier one in every value.
        image_ids: of the images that they name.
        category_ids: of the classes that they name, one for each.
    """

    found: list[Problem]
    merged: list[int]
    image_ids: set[int] = field(default_factory=set)
    category_ids: list[int] = field(default_factory=list)


def left_out(
    path: Path,
    rows: DoctorRows,
    images: IndexImages,
    *,
    known: set[int],
    orphans: list[Placed],
    dropped: list[int],
) -> LeftOut:
    """Returns what of the annotations cannot be used.

    Args:
        path: the COCO file.
        rows: what has read its annotations.
        images: the usable images.
        known: ids of its categories.
        orphans: findings about annotations of an unknown category.
        dropped: positions of usable annotations that repeat an earlier one.
    """
    merged: list[int] = []
    kept = list(_once(path, rows.unusable, merged))
    gone = np.sort(np.array([*dropped, *merged], dtype=np.int64))
    found = [*orphans]
    for one in kept:
        found.append((one.place, _problem(path, one, images, known=known)))
    named = [(one.image, one.category) for one in kept]
    for place, image, category, fault in rows.faults:
        # The position is that among the annotations that are read once.
        own = place - int(np.searchsorted(gone, place))
        text = f"item {own}" + fault.removeprefix(f"item {place}")
        found.append((place, Problem(ProblemKind.ANNOTATION_RECORD, (), text)))
        named.append((image, category))
    found.sort(key=lambda placed: placed[0])
    return LeftOut(
        found=[problem for _, problem in found],
        merged=merged,
        image_ids={image for image, _ in named if is_id(image)},
        category_ids=[category for _, category in named if is_id(category)],
    )


def _once(path: Path, unusable: list[Unusable], merged: list[int]) -> Iterator[Unusable]:
    """Yields those that do not repeat an earlier one; `merged` receives the others."""
    seen: dict[tuple[Any, int], Unusable] = {}
    for one in unusable:
        if one.image is None or is_id(one.image):
            first = seen.setdefault((one.image, one.number), one)
            if first is not one and _record(path, first) == _record(path, one):
                merged.append(one.place)
                continue
        yield one


def _record(path: Path, one: Unusable) -> dict[str, Any]:
    """Reads an annotation, with the ids that the file means."""
    found: dict[str, Any] = json.loads(read_bytes(path, one.start, one.end))
    ids = {"id": one.number, "image_id": one.image, "category_id": one.category}
    return found | {key: value for key, value in ids.items() if key in found}


def _problem(path: Path, one: Unusable, images: IndexImages, *, known: set[int]) -> Problem:
    record = _record(path, one)
    row = int(images.find(np.array([one.image], dtype=np.int64))[0]) if is_id(one.image) else -1
    size = None
    if row >= 0:
        size = int(images.table["height"][row]), int(images.table["width"][row])
        record = standard_record(record, size).record
    is_known = is_id(one.category) and one.category in known
    kind, text = fault_of_annotation(record, size, is_known)
    return Problem(kind, (one.number,), f"annotation {one.number}: {text}")
