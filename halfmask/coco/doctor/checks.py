"""Finds faults in a COCO file. Changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from halfmask.coco.file import CocoFile
from halfmask.coco.problems import Finding, Problem, ProblemKind, in_order
from halfmask.coco.reading.conventions import STICKS_OUT
from halfmask.coco.records import Box, Record, clip_box, overhang
from halfmask.coco.supervision import MaskState, all_finite, is_crowd, judge
from halfmask.files.regular import read_regular
from halfmask.masks.rle import box_iou, box_of, overlap
from halfmask.progress import Progress

DISAGREES = 3.0
"""Pixels by which a side of a box may differ from its mask without a report."""
TINY_AREA = 30.0
THIN_SIDE = 4.0


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
        *_alike_names(file),
        *_empties(file),
    ]
    for done, image in enumerate(file.images, 1):
        size = file.size_of(image["id"])
        for annotation, state in zip(
            file.annotations_of(image["id"]), file.states_of(image["id"]), strict=True
        ):
            number = annotation["id"]
            findings = _of_annotation(annotation, state, size)
            found += [
                Problem(kind, (number,), f"annotation {number}: {text}") for kind, text in findings
            ]
        found += near_duplicates(file, image["id"])
        if progress is not None:
            progress("checking annotations", done, len(file.images))
    return in_order(found)


def _of_annotation(
    annotation: dict[str, Any], state: MaskState, size: tuple[int, int]
) -> Iterator[Finding]:
    bbox = annotation["bbox"]
    if annotation.get("iscrowd") not in (None, 0, 1):
        yield ProblemKind.ODD_ISCROWD, f"iscrowd is {str(annotation['iscrowd'])[:40]!r}"
    beyond = overhang(bbox, size)
    if beyond > STICKS_OUT:
        yield (
            ProblemKind.BOX_STICKS_OUT,
            f"its box reaches {beyond:.1f} pixels beyond the image of {size[1]} × {size[0]}",
        )
    area = annotation.get("area")
    if area is None or not all_finite([area]):
        yield ProblemKind.NO_AREA, "no area, or an area that is not a number"
        area = bbox[2] * bbox[3]
    if state == MaskState.CROWD:
        return
    yield from _of_mask(annotation, state, size)
    if area < TINY_AREA:
        yield ProblemKind.TINY, f"{area:.1f} square pixels"
    if min(bbox[2], bbox[3]) < THIN_SIDE:
        yield ProblemKind.THIN, f"box of {bbox[2]:g} × {bbox[3]:g} pixels"


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
        yield ProblemKind.NON_OVERLAPPING_MASK, "its mask is a compressed RLE"


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
        yield ProblemKind.BOX_DISAGREES, f"a side of its box is {worst:.1f} pixels off its mask"


def _clashes(file: CocoFile) -> Iterator[Problem]:
    seen: set[int] = set()
    names: dict[str, int] = {}
    for image in file.images:
        boxes: dict[tuple[Any, ...], int] = {}
        for annotation in file.annotations_of(image["id"]):
            number = annotation["id"]
            if number in seen:
                message = f"annotation {number}: another annotation has this id"
                yield Problem(ProblemKind.DUPLICATE_ANNOTATION_ID, (number,), message)
            seen.add(number)
            key = (annotation["category_id"], is_crowd(annotation), *annotation["bbox"])
            if key in boxes:
                message = (
                    f"annotation {number}: same class and box as annotation {boxes[key]} of image "
                    f"{image['id']}"
                )
                yield Problem(ProblemKind.DUPLICATE_ANNOTATION, (boxes[key], number), message)
            boxes.setdefault(key, number)
    for category in file.categories:
        number, name = category["id"], category["name"]
        if name in names:
            message = f"category {number}: has the same name as category {names[name]}, {name!r}"
            yield Problem(ProblemKind.DUPLICATE_CATEGORY_NAME, (names[name], number), message)
        names.setdefault(name, number)


def _alike_names(file: CocoFile) -> Iterator[Problem]:
    """Finds names that a person reads as equal; identical names are clashes."""
    firsts: dict[str, dict[str, Any]] = {}
    for category in file.categories:
        number, name = category["id"], category["name"]
        first = firsts.setdefault(" ".join(name.split()).casefold(), category)
        if first["name"] != name:
            message = (
                f"category {number}: {name!r} differs only in case or spaces from category "
                f"{first['id']}, {first['name']!r}"
            )
            yield Problem(ProblemKind.ALIKE_CATEGORY_NAMES, (first["id"], number), message)


def _empties(file: CocoFile) -> Iterator[Problem]:
    used = {a["category_id"] for image in file.images for a in file.annotations_of(image["id"])}
    for image in file.images:
        if not file.annotations_of(image["id"]):
            yield Problem(
                ProblemKind.IMAGE_EMPTY,
                (image["id"],),
                f"image {image['id']}: no usable annotation",
            )
    for category in file.categories:
        if category["id"] not in used:
            message = f"category {category['id']} ({category['name']}): no usable annotation"
            yield Problem(ProblemKind.CATEGORY_EMPTY, (category["id"],), message)


SAME_MASK = 0.7
"""IoU above which two masks are reported."""
SAME_BOX = 0.95
"""IoU above which two boxes are reported if a mask is missing.

The limit is high since boxes prove little: a child on a chair shares its box.
"""
_CANDIDATE = 0.4  # masks that pass SAME_MASK have boxes of a far higher IoU


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
            message = (
                f"annotations {first['id']} and {second['id']} ({' and '.join(names)}): their "
                f"{what} have IoU {value:.2f}"
            )
            yield Problem(ProblemKind.NEAR_DUPLICATE, (first["id"], second["id"]), message)


def _alike(rows: list[Box]) -> Iterator[tuple[int, int]]:
    """Yields the pairs of boxes that overlap by more than _CANDIDATE."""
    if len(rows) < 2:
        return
    boxes = np.array(rows, dtype=np.float64)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    for i, box in enumerate(boxes):
        sides = np.minimum(box[2:], boxes[i + 1 :, 2:]) - np.maximum(box[:2], boxes[i + 1 :, :2])
        both = np.prod(np.clip(sides, 0, None), axis=1)
        alike = both > _CANDIDATE * (areas[i] + areas[i + 1 :] - both)
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

    def look(pairs: list[tuple[str, Any]]) -> None:
        if len({key for key, _ in pairs}) < len(pairs):
            found.append(_repeated_key(pairs))

    json.loads(read_regular(path).decode("utf-8-sig"), object_pairs_hook=look)
    return found


def _repeated_key(pairs: list[tuple[str, Any]]) -> Problem:
    keys = [key for key, _ in pairs]
    twice = next(key for k, key in enumerate(keys) if key in keys[:k])
    values = dict(pairs)
    number = values.get("id")
    where = f"an object with the keys {', '.join(sorted(set(keys))[:4])}"
    if type(number) is int:
        kind = "image" if "file_name" in values else "object with id"
        where = f"{'annotation' if 'image_id' in values else kind} {number}"
    message = (
        f"{where}: the key {twice!r} occurs {keys.count(twice)} times, the last value counts: "
        f"{str(values[twice])[:40]}"
    )
    return Problem(ProblemKind.DUPLICATE_KEY, (number,) if type(number) is int else (), message)
