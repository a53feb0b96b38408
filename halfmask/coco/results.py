"""The boxes that a detector found, from a file in COCO's results format."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from halfmask.coco.annotations import Annotations
from halfmask.coco.records import Box, clip_box, fault_of_box, is_id
from halfmask.coco.supervision import all_finite
from halfmask.errors import InputError

KEYS = ("image_id", "category_id", "bbox", "score")
_EXPECTED = 'expected COCO results, a list of {"image_id", "category_id", "bbox": [x, y, width, height], "score"}'


@dataclass(frozen=True)
class FoundBoxes:
    """What was found on one image, best first; of equal scores the one that stands
    first in the file.

    Attributes:
        boxes: xyxy, pixels, clipped to the image.
        category_ids: the annotation file's, one a box.
        scores: any finite numbers, one a box.
    """

    boxes: list[Box] = field(default_factory=list)
    category_ids: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Results:
    """The detections of a file.

    Attributes:
        name: what messages call the file.
        outside: entries left out because nothing of their box lies on the image.
    """

    name: str
    outside: int
    _of_image: dict[int, FoundBoxes]

    def of_image(self, image_id: int) -> FoundBoxes:
        """The detections of an image; none where the file has none."""
        return self._of_image.get(image_id, FoundBoxes())


def read_results(path: str | Path, file: Annotations, limit: int) -> Results:
    """Reads and checks detections; keys other than the four, such as `segmentation`,
    are ignored.

    Args:
        path: a JSON list of COCO results.
        file: the annotations whose image and category ids the entries use.
        limit: how many to keep of an image, by score over all classes together.
    Raises:
        InputError: it cannot be read or is no such list; an entry lacks a key, names an
            image or a class that `file` does not have, or holds a box or score that is
            none; or not one box lies on its image.
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
            f"{path}: not one of the {outside} boxes lies on its image; expected [x, y, width, "
            f"height] in pixels of {file.name}'s images"
        )
    return Results(
        str(path), outside, {image_id: _best(rows, limit) for image_id, rows in found.items()}
    )


def _best(rows: list[tuple[float, int, Box]], limit: int) -> FoundBoxes:
    kept = sorted(rows, key=lambda row: -row[0])[:limit]
    return FoundBoxes([row[2] for row in kept], [row[1] for row in kept], [row[0] for row in kept])


def _parse(path: Path) -> list[Any]:
    try:
        document = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise InputError(
            f"{path}: {_EXPECTED}, cannot read it: {error.strerror or error}"
        ) from error
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}"
        raise InputError(f"{path}: {_EXPECTED}, found no JSON: {error.msg} at {at}") from error
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise InputError(
            f"{path}: {_EXPECTED}, found something else: {str(error).split(';')[0]}"
        ) from error
    if isinstance(document, list):
        return document
    hint = ""
    if isinstance(document, dict) and "annotations" in document:
        hint = "; looks like an annotation file: give the list that the detector wrote"
    raise InputError(f"{path}: {_EXPECTED}, found {type(document).__name__}{hint}")


def _check_entry(entry: Any, where: str, file: Annotations) -> None:
    if not isinstance(entry, dict):
        raise InputError(f"{where}: expected an object, found {_brief(entry)}; {_EXPECTED}")
    missing = [key for key in KEYS if key not in entry]
    if missing:
        raise InputError(
            f"{where}: lacks {' and '.join(missing)}; add what is missing: {_EXPECTED}"
        )
    image_id, category_id, bbox = entry["image_id"], entry["category_id"], entry["bbox"]
    if not is_id(image_id) or image_id not in file:
        raise InputError(
            f"{where}: image_id {_brief(image_id)} is no usable image of {file.name}; "
            "give the file of the images that the detector saw, or leave out what it found on "
            "others"
        )
    if not is_id(category_id) or category_id not in file.label_of:
        raise InputError(
            f"{where}: category_id {_brief(category_id)} is no class of {file.name}; "
            f"turn the detector's class numbers into this file's category ids"
        )
    if not all_finite([entry["score"]]):
        raise InputError(f"{where}: score is {_brief(entry['score'])}; expected a finite number")
    if not isinstance(bbox, list) or len(bbox) != 4 or not all_finite(bbox) or min(bbox[2:]) < 0:
        fault = fault_of_box(bbox, file.size_of(image_id))[1]
        raise InputError(
            f"{where}: {fault}; mend the entry, or leave it out (a box is [x, y, width, "
            "height], not corners)"
        )


def _brief(value: object) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
