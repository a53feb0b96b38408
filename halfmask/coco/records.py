"""The rules for single records, shared by files in memory and by indexes."""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath
from typing import Any

from halfmask.coco.problems import Finding, ProblemKind
from halfmask.coco.supervision import is_box
from halfmask.errors import InputError

Record = dict[str, Any]
"""A JSON object of a COCO file: an image, an annotation or a category."""
Document = dict[str, Any]
"""The JSON object of a whole COCO file."""

LISTS = ("images", "annotations", "categories")
EXPECTED_ROOT = (
    "expected a COCO instances file (an object with the lists images, annotations, categories)"
)
MOST_PIXELS = 178_956_970
"""Most pixels of an image: twice Pillow's limit, beyond which no photograph is read."""
_LARGEST_ID = 1 << 63


def file_name_of(image: dict[str, Any]) -> str:
    """Returns the name of an image's photograph below the images folder.

    It is `file_name`, else the last part of `coco_url` (LVIS), else "".
    """
    name = image.get("file_name")
    if _is_text(name):
        return str(name)
    url = image.get("coco_url")
    return PurePosixPath(str(url)).name if _is_text(url) else ""


def is_id(value: object) -> bool:
    """Whether a JSON value is an id: a whole number of 64 bits."""
    return type(value) is int and -_LARGEST_ID <= value < _LARGEST_ID


def size_of_record(image: dict[str, Any]) -> tuple[int, int] | None:
    """Returns (H, W) of an image record; None if they are unusable."""
    height, width = _whole(image.get("height")), _whole(image.get("width"))
    if height is None or width is None or height * width > MOST_PIXELS:
        return None
    return height, width


def fault_of_size(image: dict[str, Any]) -> str:
    """Says why `size_of_record` refused an image record."""
    found = f"width {brief(image.get('width'))}, height {brief(image.get('height'))}"
    height, width = _whole(image.get("height")), _whole(image.get("width"))
    if height is not None and width is not None:
        most = f"{MOST_PIXELS // 1_000_000} million pixels"
        return f"image {image['id']}: {found}; expected at most {most}: cut it into tiles"
    return f"image {image['id']}: {found}; expected positive whole numbers of pixels"


def fault_of_record(annotation: object, position: int) -> str | None:
    """Says why an item of `annotations` is malformed; None if it has a valid id."""
    if isinstance(annotation, dict) and is_id(annotation.get("id")):
        return None
    record = annotation if isinstance(annotation, dict) else None
    found = brief(annotation) if record is None else f"id {brief(record.get('id'))}"
    return f"item {position} of annotations: {found}; expected an object with a whole number as id"


def usable_box(
    annotation: dict[str, Any], image_size: tuple[int, int] | None, known_category: bool
) -> Box | None:
    """Returns the box of an annotation xyxy, clipped to its image; None if unusable.

    Args:
        annotation: has an id.
        image_size: (H, W) of its image; None if the image is missing or unusable.
        known_category: whether its category is in the file.
    """
    if image_size is None or not known_category:
        return None
    return clip_box(annotation.get("bbox"), image_size)


def fault_of_annotation(
    annotation: dict[str, Any], image_size: tuple[int, int] | None, known_category: bool
) -> Finding:
    """Says why `usable_box` refused an annotation."""
    if image_size is None:
        image = brief(annotation.get("image_id"))
        return ProblemKind.ORPHAN, f"its image {image} is not in the file or is unusable"
    if not known_category:
        category = brief(annotation.get("category_id"))
        return ProblemKind.ORPHAN, f"its category {category} is not in the file"
    return fault_of_box(annotation.get("bbox"), image_size)


def check_root(document: object, name: str) -> Document:
    """Returns the document if it is an object with the three lists.

    Raises:
        InputError: it is something else.
    """
    if isinstance(document, list):
        hint = "; looks like a results file (detections): give the annotation file it belongs to"
        raise InputError(f"{name}: {EXPECTED_ROOT}, found a list of {len(document)}{hint}")
    if not isinstance(document, dict):
        raise InputError(f"{name}: {EXPECTED_ROOT}, found {type(document).__name__}")
    check_lists({key for key in document if isinstance(document[key], list)}, list(document), name)
    return document


def check_lists(lists: Collection[str], keys: Sequence[str], name: str) -> None:
    """Raises an InputError if one of COCO's three lists is not among `lists`."""
    missing = [key for key in LISTS if key not in lists]
    if missing:
        found = ", ".join(brief(key) for key in keys[:6]) or "no keys at all"
        verb = "are" if len(missing) > 1 else "is"
        raise InputError(
            f"{name}: {EXPECTED_ROOT}, {' and '.join(missing)} {verb} missing; found {found}"
        )


def check_records(records: list[Any], name: str, what: str) -> list[dict[str, Any]]:
    """Returns image or category records after checking that each has its own id."""
    seen: set[int] = set()
    for position, record in enumerate(records):
        check_record(record, position, name, what=what)
        if record["id"] in seen:
            raise InputError(repeated_id(record["id"], position, name, what=what))
        seen.add(record["id"])
    return records


def check_record(record: object, position: int, name: str, *, what: str) -> None:
    """Raises an InputError if a record has no id, or a category no name."""
    where = f"{name}: {what} record {position}"
    if not isinstance(record, dict):
        raise InputError(f"{where}: expected an object, found {brief(record)}")
    if not is_id(record.get("id")):
        raise InputError(
            f"{where}: expected a whole number as id, found {brief(record.get('id'))}; give each "
            "record one"
        )
    if what == "category" and not isinstance(record.get("name"), str):
        raise InputError(
            f"{where} (id {record['id']}): expected a name, found {brief(record.get('name'))}"
        )


def repeated_id(number: int, position: int, name: str, *, what: str) -> str:
    """Returns the error message for a record that repeats an earlier id."""
    return (
        f"{name}: {what} record {position}: id {number} is used twice; give every {what} its own id"
    )


def _is_text(value: object) -> bool:
    """Whether a value is a non-empty str without lone surrogates (JSON's "\\ud800").

    Neither file systems nor Arrow accept those.
    """
    return (
        isinstance(value, str)
        and value != ""
        and (value.isascii() or not re.search("[\ud800-\udfff]", value))
    )


def _whole(value: object) -> int | None:
    """Returns a positive whole number, also if it is written as 640.0."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and value > 0 else None


def brief(value: object) -> str:
    """Returns a JSON value shortened for messages."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


Box = tuple[float, float, float, float]

_SINGLES = struct.Struct("4f")


def clip_box(bbox: object, image_size: tuple[int, int]) -> Box | None:
    """Returns the part of a box that lies on the image, xyxy; None if there is none.

    Args:
        bbox: any JSON value. Usable are [x, y, width, height] in finite numbers, of
            positive size, that touch the image.
        image_size: (H, W).
    """
    if not is_box(bbox):
        return None
    x, y, w, h = (float(v) for v in bbox)
    height, width = image_size
    # Rounded to float32, as in training: a box that vanishes there is refused here.
    corners = [
        min(max(x, 0.0), width),
        min(max(y, 0.0), height),
        max(min(x + w, width), 0.0),
        max(min(y + h, height), 0.0),
    ]
    x0, y0, x1, y1 = _SINGLES.unpack(_SINGLES.pack(*corners))
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def overhang(bbox: list[Any], image_size: tuple[int, int]) -> float:
    """Returns the pixels by which a box reaches beyond the image on its worst side.

    Args:
        bbox: four finite numbers.
        image_size: (H, W).
    """
    x, y, w, h = bbox
    return float(max(-x, -y, x + w - image_size[1], y + h - image_size[0], 0.0))


def fault_of_box(bbox: object, image_size: tuple[int, int]) -> Finding:
    """Says why `clip_box` refused a box."""
    if not is_box(bbox):
        return (
            ProblemKind.BOX_MALFORMED,
            f"bbox is {brief(bbox)}; expected [x, y, width, height] in finite numbers",
        )
    height, width = image_size
    if bbox[2] <= 0 or bbox[3] <= 0:
        return ProblemKind.BOX_EMPTY, f"box of {bbox[2]:g} × {bbox[3]:g} pixels"
    x, y, w, h = bbox
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        return (
            ProblemKind.BOX_OUTSIDE,
            f"box {x:g}, {y:g}, {w:g} × {h:g} on an image of {width} × {height}",
        )
    return ProblemKind.BOX_EMPTY, f"box of {w:g} × {h:g} pixels, empty in single precision"
