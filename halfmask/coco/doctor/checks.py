"""Finds faults in a COCO file. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from halfmask.coco.doctor.classes import check_classes, empty
from halfmask.coco.file import CocoFile
from halfmask.coco.problems import Finding, Problem, ProblemKind, in_order
from halfmask.coco.reading.conventions import STICKS_OUT
from halfmask.coco.records import Box, Record, clip_box, overhang
from halfmask.coco.scan.keys import keys_of
from halfmask.coco.supervision import MaskState, all_finite, is_crowd, judge
from halfmask.files.regular import read_regular
from halfmask.masks.rle import box_iou, box_of, overlap
from halfmask.progress import Progress

DISAGREES = 3.0
"""Pixels by which a side of a box may differ from its mask without a report."""
TINY_AREA = 30.0
THIN_SIDE = 4.0
TEXTS = {
    ProblemKind.BOX_STICKS_OUT: "its box reaches {:.1f} pixels beyond the image of {} × {}",
    ProblemKind.NO_AREA: "no area, or an area that is not a number",
    ProblemKind.TINY: "{:.1f} square pixels",
    ProblemKind.THIN: "box of {:g} × {:g} pixels",
    ProblemKind.BOX_DISAGREES: "a side of its box is {:.1f} pixels off its mask",
    ProblemKind.NON_OVERLAPPING_MASK: "its mask is a compressed RLE",
}
"""Messages about an annotation that are made of numbers."""


def check(file: CocoFile, progress: Progress | None = None) -> list[Problem]:
    """Returns all findings that need no photographs, also those of reading the file.

    They are in the order of ProblemKind, and within a kind in the order of the file.

    Args:
        file: the annotations.
        progress: called after each image.
    """
    found = [
        *file.structure,
        *file.readings,
        *file.suspected,
        *_clashes(file),
        *check_classes(file.categories, file.used_categories()),
        *_empties(file),
    ]
    for done, image in enumerate(file.images, 1):
        size = file.size_of(image["id"])
        for annotation, state in zip(
            file.annotations_of(image["id"]), file.states_of(image["id"]), strict=True
        ):
            number = annotation["id"]
            findings = findings_of(annotation, state, size)
            found += [
                Problem(kind, (number,), f"annotation {number}: {text}") for kind, text in findings
            ]
        found += near_duplicates(file, image["id"])
        if progress is not None:
            progress("checking annotations", done, len(file.images))
    return in_order(found)


def findings_of(
    annotation: dict[str, Any], state: MaskState, size: tuple[int, int]
) -> Iterator[Finding]:
    """Yields what is wrong with an annotation by itself, one finding of a kind.

    Args:
        annotation: with a usable box, as COCO writes it.
        state: of its mask.
        size: (H, W) of its image.
    """
    bbox = annotation["bbox"]
    if annotation.get("iscrowd") not in (None, 0, 1):
        yield ProblemKind.ODD_ISCROWD, f"iscrowd is {str(annotation['iscrowd'])[:40]!r}"
    beyond = overhang(bbox, size)
    if beyond > STICKS_OUT:
        yield _with_numbers(ProblemKind.BOX_STICKS_OUT, beyond, size[1], size[0])
    area = annotation.get("area")
    if area is None or not all_finite([area]):
        yield _with_numbers(ProblemKind.NO_AREA)
        area = bbox[2] * bbox[3]
    if state == MaskState.CROWD:
        return
    yield from _of_mask(annotation, state, size)
    if area < TINY_AREA:
        yield _with_numbers(ProblemKind.TINY, area)
    if min(bbox[2], bbox[3]) < THIN_SIDE:
        yield _with_numbers(ProblemKind.THIN, bbox[2], bbox[3])


def _with_numbers(kind: ProblemKind, *numbers: float) -> Finding:
    return kind, TEXTS[kind].format(*numbers)


def _of_mask(
    annotation: dict[str, Any], state: MaskState, size: tuple[int, int]
) -> Iterator[Finding]:
    if state == MaskState.MISSING:
        return
    if state == MaskState.BROKEN:
        yield ProblemKind.BROKEN_MASK, judge(annotation, size).reason
        return
    segmentation = annotation["segmentation"]
    if state == MaskState.SUSPECT:
        yield (
            ProblemKind.SUSPECT_MASK,
            "its polygon repeats its box: a placeholder, or a rectangular object",
        )
    if state != MaskState.MASK:
        return  # masks from halfmask are judged in review, by their score
    yield from _disagreement(annotation["bbox"], segmentation, size)
    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], str):
        yield _with_numbers(ProblemKind.NON_OVERLAPPING_MASK)


def _disagreement(bbox: list[float], segmentation: Any, size: tuple[int, int]) -> Iterator[Finding]:
    own = box_of(segmentation, size)
    assert own is not None, "a mask without pixels is broken"
    # Both are clipped: a box beyond its image is another finding.
    height, width = size
    box = (
        max(bbox[0], 0),
        max(bbox[1], 0),
        min(bbox[0] + bbox[2], width),
        min(bbox[1] + bbox[3], height),
    )
    worst = max(abs(a - b) for a, b in zip(own, box, strict=True))
    if worst > DISAGREES:
        yield _with_numbers(ProblemKind.BOX_DISAGREES, worst)


def _clashes(file: CocoFile) -> Iterator[Problem]:
    seen: set[int] = set()
    for image in file.images:
        boxes: dict[tuple[Any, ...], int] = {}
        for annotation in file.annotations_of(image["id"]):
            number = annotation["id"]
            if number in seen:
                yield same_id(number)
            seen.add(number)
            key = (annotation["category_id"], is_crowd(annotation), *annotation["bbox"])
            if key in boxes:
                yield same_class_and_box(boxes[key], number, image["id"])
            boxes.setdefault(key, number)


def same_id(number: int) -> Problem:
    """Returns the finding about an annotation that has the id of an earlier one."""
    message = f"annotation {number}: another annotation has this id"
    return Problem(ProblemKind.DUPLICATE_ANNOTATION_ID, (number,), message)


def same_class_and_box(first: int, number: int, image_id: int) -> Problem:
    """Returns the finding about an annotation that copies the first one of its image."""
    message = f"annotation {number}: same class and box as annotation {first} of image {image_id}"
    return Problem(ProblemKind.DUPLICATE_ANNOTATION, (first, number), message)


def _empties(file: CocoFile) -> Iterator[Problem]:
    for image in file.images:
        if not file.annotations_of(image["id"]):
            yield empty(ProblemKind.IMAGE_EMPTY, image["id"])


SAME_MASK = 0.7
"""IoU above which two masks are reported."""
SAME_BOX = 0.95
"""IoU above which two boxes are reported if a mask is missing.

The limit is high since boxes prove little: a child on a chair shares its box.
"""
CANDIDATE = 0.4
"""IoU of two boxes from which their masks are compared.

Masks that pass SAME_MASK have boxes of a far higher IoU.
"""


def near_duplicates(file: CocoFile, image_id: int) -> Iterator[Problem]:
    """Finds pairs of annotations of one image that seem to be the same object.

    Crowds and exact copies (same class and box) are left out.
    """
    size = file.size_of(image_id)
    both = zip(file.annotations_of(image_id), file.states_of(image_id), strict=True)
    rows = [(annotation, state) for annotation, state in both if state != MaskState.CROWD]
    boxes = [_clipped(annotation, size) for annotation, _ in rows]
    for i, j in _alike(boxes):
        (first, first_state), (second, second_state) = rows[i], rows[j]
        if first["bbox"] == second["bbox"] and first["category_id"] == second["category_id"]:
            continue
        masked = first_state == second_state == MaskState.MASK
        what, limit = ("masks", SAME_MASK) if masked else ("boxes", SAME_BOX)
        value = (
            overlap(first["segmentation"], second["segmentation"], size)
            if masked
            else box_iou(boxes[i], boxes[j])
        )
        if value > limit:
            names = [file.name_of(row["category_id"]) for row in (first, second)]
            yield near_duplicate((first["id"], second["id"]), names, what, value=value)


def near_duplicate(
    ids: tuple[int, int], names: Iterable[str], what: str, *, value: float
) -> Problem:
    """Returns the finding about two annotations that seem to be the same object.

    Args:
        ids: of both.
        names: of their classes.
        what: what was compared: masks or boxes.
        value: their IoU.
    """
    message = (
        f"annotations {ids[0]} and {ids[1]} ({' and '.join(names)}): their {what} have IoU "
        f"{value:.2f}"
    )
    return Problem(ProblemKind.NEAR_DUPLICATE, ids, message)


def _alike(rows: list[Box]) -> Iterator[tuple[int, int]]:
    """Yields the pairs of boxes that overlap by more than CANDIDATE."""
    if len(rows) < 2:
        return
    boxes = np.array(rows, dtype=np.float64)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    for i, box in enumerate(boxes):
        sides = np.minimum(box[2:], boxes[i + 1 :, 2:]) - np.maximum(box[:2], boxes[i + 1 :, :2])
        both = np.prod(np.clip(sides, 0, None), axis=1)
        alike = both > CANDIDATE * (areas[i] + areas[i + 1 :] - both)
        for j in np.flatnonzero(alike).tolist():
            yield i, i + 1 + j


def _clipped(annotation: Record, size: tuple[int, int]) -> Box:
    box = clip_box(annotation["bbox"], size)
    assert box is not None, "its box was checked"
    return box


def duplicate_keys(path: Path) -> list[Problem]:
    """Finds JSON objects with a repeated key, in file order.

    Args:
        path: a file that `CocoFile.read` accepts. It is read again; memory holds its
            text, not its objects.
    """
    found: list[Problem] = []
    keys_of(read_regular(path).decode("utf-8-sig"), found)
    return found
