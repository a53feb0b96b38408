"""Reads masks and boxes in the forms of other tools as COCO's; the file keeps its values."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from halfmask.coco.supervision import all_finite, fault_of_polygon, is_box, is_missing, provenance
from halfmask.masks.rle import area_of, fault_of_rle, united_rle

Record = dict[str, Any]
Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class StandardRecord:
    """An annotation as COCO writes it.

    Attributes:
        record: the annotation; the same object if nothing differs.
        form: how its mask was written, if not as COCO does.
        dropped: why parts of its mask cannot be read; the other parts are in `record`.
        turned: whether its box is the upright one around a turned box.
    """

    record: Record
    form: str = ""
    dropped: tuple[str, ...] = ()
    turned: bool = False


def standard_record(annotation: Record, image_size: Size) -> StandardRecord:
    """Returns an annotation with its mask and its box as COCO writes them.

    Args:
        annotation: any JSON object.
        image_size: (H, W) of its image.
    """
    segmentation = annotation.get("segmentation")
    found, form = segmentation, ""
    dropped: list[str] = []
    if segmentation:
        found, form = _in_coco_form(segmentation)
        found, dropped = _readable(found, image_size)
    upright = upright_box(annotation)
    if found is segmentation and upright is None:
        return StandardRecord(record=annotation)
    record = annotation if found is segmentation else annotation | {"segmentation": found}
    if upright is not None:
        record = record | {"bbox": upright}
    return StandardRecord(
        record=record, form=form, dropped=tuple(dropped), turned=upright is not None
    )


def upright_box(annotation: Record) -> list[float] | None:
    """Returns the upright box around a box that `attributes.rotation` turns, or None.

    CVAT writes a turned box as it is before the turn by `rotation` degrees about its
    centre. A box whose mask came with the file stays: the mask says where it is.
    """
    attributes = annotation.get("attributes")
    if not isinstance(attributes, dict) or "rotation" not in attributes:
        return None
    angle, bbox = attributes["rotation"], annotation.get("bbox")
    if not all_finite([angle]) or not is_box(bbox) or min(bbox[2:]) <= 0:
        return None
    if not is_missing(annotation.get("segmentation")) and provenance(annotation) is None:
        return None
    turn = math.radians(float(angle) % 180)
    x, y, w, h = (float(value) for value in bbox)
    cos, sin = abs(math.cos(turn)), abs(math.sin(turn))
    width, height = w * cos + h * sin, w * sin + h * cos
    sides = (x + (w - width) / 2, y + (h - height) / 2, width, height)
    upright = [round(side, 4) for side in sides]
    same = all(abs(a - b) < 1e-3 for a, b in zip(upright, (x, y, w, h), strict=True))
    return None if same or not all_finite(upright) else upright


def _in_coco_form(value: Any) -> tuple[Any, str]:
    """Returns a mask as polygons or RLE, and the name of its form if that is not COCO's."""
    if isinstance(value, str):
        parsed = _parsed(value)
        if isinstance(parsed, list | dict) and parsed:
            inner, form = _in_coco_form(parsed)
            return inner, f"{form} in text" if form else "JSON in text"
        return value, ""
    if isinstance(value, dict):
        return _dict_form(value)
    if not isinstance(value, list) or _is_polygons(value):
        return value, ""
    for name, convert in _LISTS.items():
        found = convert(value)
        if found is not None:
            return found, name
    if any(isinstance(part, dict) and "counts" in part for part in value):
        parts = [_dict_form(part)[0] if isinstance(part, dict) else part for part in value]
        return parts, "lists of RLE"
    return value, ""


def _readable(value: Any, size: Size) -> tuple[Any, list[str]]:
    """Returns the readable parts, and what is wrong with the others.

    All parts stay if none is readable, or if those that are draw no pixel: then the
    whole mask is broken.

    Parts of which one is an RLE become a single RLE.
    """
    if not isinstance(value, list):
        return value, []
    rle = any(isinstance(part, dict) for part in value)
    if len(value) < 2 and not rle:
        return value, []
    faults = [_fault_of_part(part, size) for part in value]
    kept = [part for part, fault in zip(value, faults, strict=True) if not fault]
    if not kept or (len(kept) == len(value) and not rle):
        return value, []
    said = [f"part {k} of {len(value)}: {fault}" for k, fault in enumerate(faults, 1) if fault]
    found = united_rle(kept, size) if rle else kept
    return (value, []) if said and area_of(found, size) == 0 else (found, said)


def _fault_of_part(part: Any, size: Size) -> str | None:
    return fault_of_rle(part, size) if isinstance(part, dict) else fault_of_polygon(part, size)


def _is_polygons(value: list[Any]) -> bool:
    """Whether a list holds lists of numbers, or empty ones, as COCO's polygons do."""
    return all(isinstance(p, list) and (not p or _is_number(p[0])) for p in value) and not (
        len(value) >= 3 and all(len(p) == 2 for p in value)
    )


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _pairs(value: Any, least: int = 3) -> list[Any] | None:
    """The numbers x1, y1, … of points [x, y]; None for anything else, or too few."""
    if not isinstance(value, list) or len(value) < least:
        return None
    if not all(isinstance(p, list) and len(p) == 2 and all(map(_is_number, p)) for p in value):
        return None
    return [number for point in value for number in point]


def _points(value: Any, least: int = 3) -> list[Any] | None:
    """The numbers of points {"x": …, "y": …}."""
    if not isinstance(value, list) or len(value) < least:
        return None
    pairs = [[p.get("x"), p.get("y")] if isinstance(p, dict) else p for p in value]
    return _pairs(pairs, least) if all(isinstance(p, dict) for p in value) else None


def _contour(value: Any, least: int = 3) -> list[Any] | None:
    """The numbers of a contour of OpenCV: points [[x, y]], each in a list of its own."""
    if not isinstance(value, list) or len(value) < least:
        return None
    if not all(isinstance(p, list) and len(p) == 1 for p in value):
        return None
    return _pairs([point[0] for point in value], least)


def _flat(value: list[Any]) -> list[Any] | None:
    """One polygon without the list around it."""
    numbers = len(value) >= 6 and len(value) % 2 == 0 and all(map(_is_number, value))
    return [value] if numbers else None


def _one(read: Callable[..., list[Any] | None]) -> Callable[[list[Any]], list[Any] | None]:
    def convert(value: list[Any]) -> list[Any] | None:
        polygon = read(value)
        return None if polygon is None else [polygon]

    return convert


def _several(read: Callable[..., list[Any] | None]) -> Callable[[list[Any]], list[Any] | None]:
    """Reads parts of which one at least is a polygon in the form; others keep their fault."""

    def convert(value: list[Any]) -> list[Any] | None:
        if all(read(part) is None for part in value):
            return None
        parts = [read(part, 1) for part in value]
        return [old if new is None else new for old, new in zip(value, parts, strict=True)]

    return convert


_LISTS: dict[str, Callable[[list[Any]], list[Any] | None]] = {
    "flat lists of numbers": _flat,
    "lists of pairs": _one(_pairs),
    "lists of points {x, y}": _one(_points),
    "contours of OpenCV": _one(_contour),
    "lists of contours of OpenCV": _several(_contour),
    "lists of lists of pairs": _several(_pairs),
    "lists of lists of points {x, y}": _several(_points),
}
"""Form of a mask that is a list → its polygons; the first that fits counts."""


def _dict_form(value: Record) -> tuple[Any, str]:
    counts = value.get("counts")
    if isinstance(counts, str) and counts[:2] in ("b'", 'b"'):
        text = _literal(counts)
        if text is not None:
            return value | {"counts": text}, "RLE with counts as b'…'"
    xs, ys = value.get("all_points_x"), value.get("all_points_y")
    if isinstance(xs, list) and isinstance(ys, list) and len(xs) == len(ys) >= 3:
        return [[number for point in zip(xs, ys, strict=True) for number in point]], (
            "points of VIA"
        )
    return value, ""


def _parsed(text: str) -> Any:
    if text[:1] not in ("[", "{"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _literal(counts: str) -> str | None:
    """The text of a bytes literal of Python; "'" is no character of COCO's counts."""
    try:
        value = ast.literal_eval(counts)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return value.decode("latin-1") if isinstance(value, bytes) else None
