"""Reads a detector's boxes from a file in COCO's results format."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from halfmask.coco.annotations import Annotations
from halfmask.coco.records import Box, brief, clip_box, fault_of_box, is_id
from halfmask.coco.supervision import all_finite, is_box
from halfmask.errors import InputError
from halfmask.files.json_lines import parse_json

KEYS = ("image_id", "category_id", "bbox", "score")
_EXPECTED = (
    'expected COCO results, a list of {"image_id", "category_id", "bbox": [x, y, width, height], '
    '"score"}'
)


@dataclass(frozen=True)
class FoundBoxes:
    """The detections of one image, best first; equal scores keep the order of the file.

    Attributes:
        boxes: xyxy, pixels, clipped to the image.
        category_ids: ids of the annotation file, one per box.
        scores: any finite numbers, one per box.
    """

    boxes: list[Box] = field(default_factory=list)
    category_ids: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Results:
    """The detections of a file.

    Attributes:
        name: name of the file in messages.
        outside: entries left out because their box lies outside the image.
    """

    name: str
    outside: int
    _of_image: dict[int, FoundBoxes]

    def of_image(self, image_id: int) -> FoundBoxes:
        """Returns the detections of an image; empty if the file has none."""
        return self._of_image.get(image_id, FoundBoxes())


def read_results(path: str | Path, file: Annotations, limit: int) -> Results:
    """Reads and checks detections.

    Args:
        path: a JSON list of COCO results. Other keys, for example `segmentation`, are
            ignored.
        file: the annotations whose image and category ids the entries use.
        limit: most detections kept per image, by score over all classes together.
    Raises:
        InputError: the file cannot be read or is not a list of results; an entry lacks
            a key, names an image or class that `file` does not have, or has a malformed
            box or score; or no box lies on its image.
    """
    entries = _parse(Path(path))
    found: dict[int, list[tuple[float, int, Box]]] = {}
    outside = 0
    for index, entry in enumerate(entries):
        where = f"{path}: entry {index}"
        _check_entry(entry, where, file)
        box = clip_box(entry["bbox"], file.size_of(entry["image_id"]))
        if box is None:
            outside += 1
            continue
        found.setdefault(entry["image_id"], []).append(
            (float(entry["score"]), entry["category_id"], box)
        )
    if entries and outside == len(entries):
        raise InputError(
            f"{path}: none of the {outside} boxes lies on its image; expected [x, y, width, "
            f"height] in pixels of {file.name}'s images"
        )
    best = {image_id: _best(rows, limit) for image_id, rows in found.items()}
    return Results(str(path), outside, best)


def _best(rows: list[tuple[float, int, Box]], limit: int) -> FoundBoxes:
    kept = sorted(rows, key=lambda row: -row[0])[:limit]
    return FoundBoxes([row[2] for row in kept], [row[1] for row in kept], [row[0] for row in kept])


def _parse(path: Path) -> list[Any]:
    document = parse_json(path, _EXPECTED, [])
    if isinstance(document, list):
        return document
    hint = ""
    if isinstance(document, dict) and "annotations" in document:
        hint = "; looks like an annotation file: give the list that the detector wrote"
    raise InputError(f"{path}: {_EXPECTED}, found {type(document).__name__}{hint}")


def _check_entry(entry: Any, where: str, file: Annotations) -> None:
    if not isinstance(entry, dict):
        raise InputError(f"{where}: expected an object, found {brief(entry)}; {_EXPECTED}")
    missing = [key for key in KEYS if key not in entry]
    if missing:
        raise InputError(
            f"{where}: lacks {' and '.join(missing)}; add what is missing; {_EXPECTED}"
        )
    image_id, category_id, bbox = entry["image_id"], entry["category_id"], entry["bbox"]
    if not is_id(image_id) or image_id not in file:
        raise InputError(
            f"{where}: image_id {brief(image_id)} is not a usable image of {file.name}; give the "
            "file of the images that the detector saw, or remove detections on other images"
        )
    if not is_id(category_id) or category_id not in file.label_of:
        raise InputError(
            f"{where}: category_id {brief(category_id)} is not a class of {file.name}; convert "
            "the detector's class numbers to this file's category ids"
        )
    if not all_finite([entry["score"]]):
        raise InputError(f"{where}: score is {brief(entry['score'])}; expected a finite number")
    if not is_box(bbox) or min(bbox[2:]) < 0:
        fault = fault_of_box(bbox, file.size_of(image_id))[1]
        raise InputError(
            f"{where}: {fault}; fix or remove the entry (a box is [x, y, width, height], not "
            "corners)"
        )
