"""Looks for faults in a COCO file, annotation by annotation. Changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from halfmask.coco.problems import Finding, Problem, ProblemKind
from halfmask.coco.records import clip_box, overhang
from halfmask.coco.supervision import MaskState, all_finite, is_crowd, judge
from halfmask.masks.rle import box_of, overlap

if TYPE_CHECKING:
    from halfmask.coco.file import CocoFile

STICKS_OUT = 1.0
"""Pixels by which a box may reach beyond its image unreported: exporters round."""
FEWEST_BOXES = 4
"""Boxes from which on a whole file can be suspected to hold corners (x1, y1, x2, y2)."""
DISAGREES = 3.0
"""Pixels by which a side of the box may differ from the mask's own box unreported."""
TINY_AREA = 30.0
THIN_SIDE = 4.0


def check(file: CocoFile, step: Callable[[], object] = lambda: None) -> list[Problem]:
    """All findings that need no photographs, those of reading the file among them, in
    the order of ProblemKind and then of the file.

    Args:
        file: what to look at.
        step: called after each image, for a progress bar.
    """
    found = [
        *file.structure,
        *_clashes(file),
        *_alike_names(file),
        *_corner_boxes(file),
        *_empties(file),
    ]
    for image in file.images:
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
        step()
    order = {kind: position for position, kind in enumerate(ProblemKind)}
    return sorted(found, key=lambda problem: order[problem.kind])


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
        yield ProblemKind.NO_AREA, "no area, or none that is a number"
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
            "its polygon repeats its box: a placeholder, or an object that fills its box",
        )
    if state != MaskState.MASK:
        return  # what halfmask drew is judged in review, by its score
    yield from _disagreement(annotation["bbox"], segmentation, size)
    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], str):
        yield ProblemKind.NON_OVERLAPPING_MASK, "its mask is a compressed RLE"


def _disagreement(bbox: list[float], segmentation: Any, size: tuple[int, int]) -> Iterator[Finding]:
    own = box_of(segmentation, size)
    assert own is not None, "a mask without pixels is broken"
    # Both clipped: what a box does beyond the image is reported apart.
    height, width = size
    box = (
        max(bbox[0], 0),
        max(bbox[1], 0),
        min(bbox[0] + bbox[2], width),
        min(bbox[1] + bbox[3], height),
    )
    worst = max(abs(a - b) for a, b in zip(own, box, strict=True))
    if worst > DISAGREES:
        yield ProblemKind.BOX_DISAGREES, f"a side of its box is {worst:.1f} pixels from its mask's"


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
                message = f"annotation {number}: same class and box as annotation {boxes[key]} of image {image['id']}"
                yield Problem(ProblemKind.DUPLICATE_ANNOTATION, (boxes[key], number), message)
            boxes.setdefault(key, number)
    for category in file.categories:
        number, name = category["id"], category["name"]
        if name in names:
            message = f"category {number}: has the name of category {names[name]}, {name!r}"
            yield Problem(ProblemKind.DUPLICATE_CATEGORY_NAME, (names[name], number), message)
        names.setdefault(name, number)


def _alike_names(file: CocoFile) -> Iterator[Problem]:
    """Names that a person would read as one; equal ones are reported as clashes."""
    firsts: dict[str, dict[str, Any]] = {}
    for category in file.categories:
        number, name = category["id"], category["name"]
        first = firsts.setdefault(" ".join(name.split()).casefold(), category)
        if first["name"] != name:
            message = f"category {number}: {name!r} differs only in case or blanks from category {first['id']}, {first['name']!r}"
            yield Problem(ProblemKind.ALIKE_CATEGORY_NAMES, (first["id"], number), message)


def _corner_boxes(file: CocoFile) -> Iterator[Problem]:
    """Boxes written as corners: most stick out of their image when read as COCO says,
    none does when read as x1, y1, x2, y2.
    """
    boxes = sticking = 0
    for image in file.images:
        height, width = file.size_of(image["id"])
        for annotation in file.annotations_of(image["id"]):
            x, y, right, bottom = annotation["bbox"]
            if (
                right <= x
                or bottom <= y
                or overhang([x, y, right - x, bottom - y], (height, width)) > STICKS_OUT
            ):
                return
            boxes += 1
            sticking += overhang(annotation["bbox"], (height, width)) > STICKS_OUT
    if boxes >= FEWEST_BOXES and 2 * sticking > boxes:
        message = (
            f"{file.name}: {sticking} of {boxes} boxes stick out of their image when read as "
            "x, y, width, height, none when read as "
            "x1, y1, x2, y2: write width = x2 − x1 and height = y2 − y1 in place of the last "
            "two numbers"
        )
        yield Problem(ProblemKind.BOXES_XYXY, (), message)


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
"""IoU of two masks above which they are reported."""
SAME_BOX = 0.95
"""IoU of two boxes above which they are reported where a mask is missing. Boxes are no
proof: a child on a chair shares its box.
"""
_WORTH_A_LOOK = 0.4  # masks so alike that they pass SAME_MASK have boxes far more alike than this


def near_duplicates(file: CocoFile, image_id: int) -> Iterator[Problem]:
    """One finding for each pair of an image; crowds and exact copies (same class and
    box) are left out.
    """
    size = file.size_of(image_id)
    both = zip(file.annotations_of(image_id), file.states_of(image_id), strict=True)
    rows = [(annotation, state) for annotation, state in both if state != MaskState.CROWD]
    for i, j in _alike([annotation["bbox"] for annotation, _ in rows], size):
        (first, first_state), (second, second_state) = rows[i], rows[j]
        if first["bbox"] == second["bbox"] and first["category_id"] == second["category_id"]:
            continue
        masked = first_state == second_state == MaskState.MASK
        what, limit = ("masks", SAME_MASK) if masked else ("boxes", SAME_BOX)
        value = (
            overlap(first["segmentation"], second["segmentation"], size)
            if masked
            else _iou(first, second, size)
        )
        if value > limit:
            labels = (
                f"{file.name_of(first['category_id'])} and {file.name_of(second['category_id'])}"
            )
            message = f"annotations {first['id']} and {second['id']} ({labels}): their {what} have IoU {value:.2f}"
            yield Problem(ProblemKind.NEAR_DUPLICATE, (first["id"], second["id"]), message)


def _alike(bboxes: list[Any], size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Pairs of rows whose boxes overlap enough to be worth a look."""
    if len(bboxes) < 2:
        return
    boxes = np.array([clip_box(bbox, size) for bbox in bboxes], dtype=np.float64)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    for i, box in enumerate(boxes):
        sides = np.minimum(box[2:], boxes[i + 1 :, 2:]) - np.maximum(box[:2], boxes[i + 1 :, :2])
        both = np.prod(np.clip(sides, 0, None), axis=1)
        alike = both > _WORTH_A_LOOK * (areas[i] + areas[i + 1 :] - both)
        for j in np.flatnonzero(alike).tolist():
            yield i, i + 1 + j


def _iou(first: dict[str, Any], second: dict[str, Any], size: tuple[int, int]) -> float:
    a, b = clip_box(first["bbox"], size), clip_box(second["bbox"], size)
    assert a is not None, "its box was checked"
    assert b is not None, "its box was checked"
    both = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


Pairs = list[tuple[str, Any]]


def duplicate_keys(path: Path) -> list[Problem]:
    """One finding for each object in which a key stands twice, in file order.

    Args:
        path: a file that `CocoFile.read` has read. It is read once more; what is in
            memory is its text, not its objects.
    """
    found: list[Problem] = []

    def look(pairs: Pairs) -> None:
        if len({key for key, _ in pairs}) < len(pairs):
            found.append(_problem(pairs))

    json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=look)
    return found


def _problem(pairs: Pairs) -> Problem:
    keys = [key for key, _ in pairs]
    twice = next(key for k, key in enumerate(keys) if key in keys[:k])
    values = dict(pairs)
    number = values.get("id")
    kind = (
        "annotation"
        if "image_id" in values
        else "image"
        if "file_name" in values
        else "object with id"
    )
    where = (
        f"{kind} {number}"
        if type(number) is int
        else f"an object with the keys {', '.join(sorted(set(keys))[:4])}"
    )
    times = keys.count(twice)
    message = f"{where}: the key {twice!r} stands {times} times, the last value counts: {str(values[twice])[:40]}"
    return Problem(ProblemKind.DUPLICATE_KEY, (number,) if type(number) is int else (), message)
