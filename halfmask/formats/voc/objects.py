"""The objects of a VOC file: boxes, polygons, flags, in the dialects of many tools."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element

from halfmask.formats.report import ConversionReport
from halfmask.formats.shapes import Point, extent, flat, rectangle, rotated
from halfmask.formats.xml_stream import number_of, numbers_of, text_of, unknown_children

FLAGS = ("truncated", "difficult", "occluded")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_TRUE = ("1", "true", "True")
_UNHELD = {"part": "parts", "actions": "actions", "point": "a point"}
"""Elements that VOC defines and COCO has no field for."""
_TEXTS = ("trackid", "generated", "subcategory")
"""Elements of ImageNet's files; they become attributes."""
_SCORES = ("confidence", "score")
_KNOWN = {
    *("name", "pose", "bndbox", "robndbox", "polygon", "attributes", "type", "extra"),
    *(*FLAGS, *_UNHELD, *_TEXTS, *_SCORES),
}


@dataclass(frozen=True, kw_only=True)
class VocObject:
    """One object.

    Attributes:
        name: of its class, not empty.
        bbox: x, y, width, height; None if it has only a polygon.
        polygons: parts of its mask, x1, y1, x2, y2, …; None without any.
        more: `attributes` and `score`, if it has them.
    """

    name: str
    bbox: list[float] | None
    polygons: list[list[float]] | None
    more: dict[str, Any] = field(default_factory=dict)


def read_object(
    thing: Element, report: ConversionReport, where: str, *, zero_based: bool
) -> VocObject | None:
    """Returns an object; None and a fault without a name, or without box and polygon.

    VOC counts pixels from 1 and includes the last one. A rotated box (`robndbox`)
    becomes the upright box around it.

    Args:
        thing: the element `object`.
        report: counts what cannot be read, and what COCO has no field for.
        where: file and object.
        zero_based: pixels count from 0, and a box excludes its last pixel.
    """
    shift = 0 if zero_based else 1
    polygons = _polygons(thing, report, where, shift=shift)
    bbox = _box(thing, report, where, shift=shift)
    if bbox is None and polygons is None:
        report.fault("objects without a box of four numbers: left out", where)
        return None
    name = text_of(thing, "name")
    if not name:
        report.fault("objects without a name: left out", where)
        return None
    if bbox is not None and not zero_based and min(bbox[:2]) < 0:
        report.note(
            "boxes that begin at 0, where VOC counts from 1: --zero-based if the file "
            "counts from 0",
            where,
        )
    _count(thing, report, where)
    return VocObject(name=name, bbox=bbox, polygons=polygons, more=_more(thing))


def _count(thing: Element, report: ConversionReport, where: str) -> None:
    for tag, what in _UNHELD.items():
        if thing.find(tag) is not None:
            report.note(f"objects with {what}: COCO has no field for that", where)
    if len(thing.findall("bndbox")) > 1:
        report.fault("objects with several boxes: the first is used", where)
    for tag in unknown_children(thing, _KNOWN):
        report.fault(f"elements <{tag}> of an object: not known, not read", where)


def _box(thing: Element, report: ConversionReport, where: str, *, shift: int) -> list[float] | None:
    """x, y, width, height of `bndbox`, else of the upright box around `robndbox`."""
    box, turned = thing.find("bndbox"), thing.find("robndbox")
    if box is not None:
        corners = numbers_of(box.findtext(key) for key in _CORNERS)
        if corners is None:
            return None
        x0, y0, x1, y1 = corners
        return [x0 - shift, y0 - shift, x1 - x0 + shift, y1 - y0 + shift]
    if turned is None:
        return None
    values = numbers_of(turned.findtext(key) for key in ("cx", "cy", "w", "h", "angle"))
    if values is None:
        return None
    cx, cy, w, h, angle = values
    report.note("rotated boxes: the upright box around them is used", where)
    corners_of = rectangle((cx - w / 2, cy - h / 2, w, h))
    return extent(rotated(corners_of, (cx, cy), math.degrees(angle)))


def _polygons(
    thing: Element, report: ConversionReport, where: str, *, shift: int
) -> list[list[float]] | None:
    found = []
    for element in thing.findall("polygon"):
        points = _points(element)
        if points is None or len(points) < 3:
            report.fault("polygons that cannot be read: left out, the box is kept", where)
        else:
            found.append(flat([(x - shift, y - shift) for x, y in points]))
    return found or None


def _points(polygon: Element) -> list[Point] | None:
    """The corners: x1, y1, x2, y2, … (Roboflow, supervision), or pt or point with x and y."""
    listed = [child for child in polygon if child.tag in ("pt", "point")]
    if listed:
        texts = [(child.findtext("x"), child.findtext("y")) for child in listed]
    else:
        coordinates = {child.tag: child.text for child in polygon}
        numbers = sorted({int(m[1]) for tag in coordinates if (m := _COORDINATE.match(tag))})
        texts = [(coordinates.get(f"x{n}"), coordinates.get(f"y{n}")) for n in numbers]
    points = [numbers_of(pair) for pair in texts]
    return [(p[0], p[1]) for p in points if p] if points and None not in points else None


_COORDINATE = re.compile(r"[xy](\d{1,6})$")


def _more(thing: Element) -> dict[str, Any]:
    """The flags that are set, pose and other texts as `attributes`; a score."""
    found: dict[str, Any] = {flag: 1 for flag in FLAGS if text_of(thing, flag) in _TRUE}
    pose = text_of(thing, "pose")
    if pose and pose != "Unspecified":
        found["pose"] = pose
    found |= {tag: text for tag in _TEXTS if (text := text_of(thing, tag))}
    for each in thing.findall("attributes/attribute"):  # as CVAT and datumaro write them
        name, value = text_of(each, "name"), text_of(each, "value")
        if name in FLAGS:
            found |= {name: 1} if value in _TRUE else {}
        elif name:
            found[name] = value
    scores = [number_of(thing.findtext(tag)) for tag in _SCORES]
    score = next((s for s in scores if s is not None), None)
    more = {} if score is None else {"score": score}
    return more | ({"attributes": found} if found else {})
