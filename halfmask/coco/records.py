"""The rules of a COCO file's records: one by one, so that a file in memory and an index
of a large one decide alike.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath
from typing import Any

from halfmask.coco.problems import Finding, ProblemKind
from halfmask.coco.supervision import all_finite
from halfmask.errors import InputError

Record = dict[str, Any]
"""A JSON object of a COCO file: an image, an annotation or a category."""
Document = dict[str, Any]
"""The JSON object of a whole COCO file."""

LISTS = ("images", "annotations", "categories")
EXPECTED_ROOT = (
    "expected a COCO instances file (an object with the lists images, annotations, categories)"
)
_MOST_PIXELS = 1 << 32  # COCO's RLE counts pixels in 32 bits
_LARGEST_ID = 1 << 63


def file_name_of(image: dict[str, Any]) -> str:
    """The name of an image's photograph below the images folder: `file_name`, else the
    end of `coco_url` (LVIS); else "".
    """
    name = image.get("file_name")
    if _is_text(name):
        return str(name)
    url = image.get("coco_url")
    return PurePosixPath(str(url)).name if _is_text(url) else ""


def is_id(value: object) -> bool:
    """Whether a JSON value can be an id: a whole number of 64 bits."""
    return type(value) is int and -_LARGEST_ID <= value < _LARGEST_ID


def size_of_record(image: dict[str, Any]) -> tuple[int, int] | None:
    """(H, W) of an image record, None where it has no usable one."""
    height, width = _whole(image.get("height")), _whole(image.get("width"))
    return (
        None
        if height is None or width is None or height * width >= _MOST_PIXELS
        else (height, width)
    )


def fault_of_size(image: dict[str, Any]) -> str:
    """Why `size_of_record` refused an image record."""
    found = f"width {brief(image.get('width'))}, height {brief(image.get('height'))}"
    return f"image {image['id']}: {found}; expected whole pixels"


def fault_of_record(annotation: object, position: int) -> str | None:
    """Why an item of `annotations` is no annotation; None where it is an object with an id."""
    if isinstance(annotation, dict) and is_id(annotation.get("id")):
        return None
    found = (
        f"id {brief(annotation.get('id'))}" if isinstance(annotation, dict) else brief(annotation)
    )
    return f"item {position} of annotations: {found}; expected an object with a whole number as id"


def usable_box(
    annotation: dict[str, Any], image_size: tuple[int, int] | None, known_category: bool
) -> Box | None:
    """The box of an annotation xyxy, clipped to its image; None where the annotation
    cannot be used at all.

    Args:
        annotation: has an id.
        image_size: (H, W) of its image, None where that is not in the file or cannot be
            used.
        known_category: whether its category is in the file.
    """
    return (
        clip_box(annotation.get("bbox"), image_size)
        if image_size is not None and known_category
        else None
    )


def fault_of_annotation(
    annotation: dict[str, Any], image_size: tuple[int, int] | None, known_category: bool
) -> Finding:
    """Why `usable_box` refused an annotation."""
    if image_size is None:
        image = brief(annotation.get("image_id"))
        return ProblemKind.ORPHAN, f"its image {image} is not in the file or cannot be used"
    if not known_category:
        return (
            ProblemKind.ORPHAN,
            f"its category {brief(annotation.get('category_id'))} is not in the file",
        )
    return fault_of_box(annotation.get("bbox"), image_size)


def check_root(document: object, name: str) -> Document:
    """The document, an object with the three lists.

    Raises:
        InputError: it is something else.
    """
    expected = EXPECTED_ROOT
    if isinstance(document, list):
        hint = "; looks like a results file (detections): give the annotation file it belongs to"
        raise InputError(f"{name}: {expected}, found a list of {len(document)}{hint}")
    if not isinstance(document, dict):
        raise InputError(f"{name}: {expected}, found {type(document).__name__}")
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
    """Image or category records, each an object with an id of its own."""
    seen: set[int] = set()
    for position, record in enumerate(records):
        check_record(record, position, name, what)
        if record["id"] in seen:
            raise InputError(repeated_id(record["id"], position, name, what))
        seen.add(record["id"])
    return records


def check_record(record: object, position: int, name: str, what: str) -> None:
    """Refuses an image or category record that is no object with an id, a category also
    one without a name.
    """
    where = f"{name}: {what} record {position}"
    if not isinstance(record, dict):
        raise InputError(f"{where}: expected an object, found {brief(record)}")
    if not is_id(record.get("id")):
        raise InputError(
            f"{where}: expected a whole number as id, found {brief(record.get('id'))}; number "
            "the records"
        )
    if what == "category" and not isinstance(record.get("name"), str):
        raise InputError(
            f"{where} (id {record['id']}): expected a name, found {brief(record.get('name'))}"
        )


def repeated_id(number: int, position: int, name: str, what: str) -> str:
    """What to say of a record whose id an earlier one has."""
    return f"{name}: {what} record {position}: id {number} is used twice; give every {what} an id of its own"


def _is_text(value: object) -> bool:
    """Whether a value is text, not empty and without half characters (JSON's
    "\\ud800"), which neither a file system nor Arrow takes.
    """
    return (
        isinstance(value, str)
        and value != ""
        and (value.isascii() or not re.search("[\ud800-\udfff]", value))
    )


def _whole(value: object) -> int | None:
    """A positive whole number, also where a tool wrote it as 640.0."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and value > 0 else None


def brief(value: object) -> str:
    """A JSON value as messages show it."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


Box = tuple[float, float, float, float]

_SINGLES = struct.Struct("4f")


def clip_box(bbox: object, image_size: tuple[int, int]) -> Box | None:
    """The part of a box that lies on the image, xyxy; None where nothing usable does.

    Args:
        bbox: any JSON value; usable is [x, y, width, height], finite, of positive size,
            touching the image.
        image_size: (H, W).
    """
    if not isinstance(bbox, list) or len(bbox) != 4 or not all_finite(bbox):
        return None
    x, y, w, h = (float(v) for v in bbox)
    height, width = image_size
    # Rounded to float32 at once, as training holds them: what vanishes there is refused
    # here.
    corners = [
        min(max(x, 0.0), width),
        min(max(y, 0.0), height),
        max(min(x + w, width), 0.0),
        max(min(y + h, height), 0.0),
    ]
    x0, y0, x1, y1 = _SINGLES.unpack(_SINGLES.pack(*corners))
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def overhang(bbox: list[Any], image_size: tuple[int, int]) -> float:
    """By how many pixels a box of four finite numbers reaches beyond the image, on its
    worst side; 0 where it does not.
    """
    x, y, w, h = bbox
    return float(max(-x, -y, x + w - image_size[1], y + h - image_size[0], 0.0))


def fault_of_box(bbox: object, image_size: tuple[int, int]) -> Finding:
    """Why `clip_box` refused a box."""
    if not isinstance(bbox, list) or len(bbox) != 4 or not all_finite(bbox):
        text = repr(bbox)
        shown = text if len(text) <= 60 else text[:59] + "…"
        return (
            ProblemKind.BOX_MALFORMED,
            f"bbox is {shown}; expected [x, y, width, height] in finite numbers",
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
    return ProblemKind.BOX_EMPTY, f"box of {w:g} × {h:g} pixels, nothing in single precision"
