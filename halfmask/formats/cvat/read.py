"""CVAT for images 1.1 (XML) to COCO: boxes, polygons, masks, ellipses.

The shapes of one group are one object.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from halfmask.coco.supervision import MaskState, judge
from halfmask.errors import InputError
from halfmask.formats.report import Options
from halfmask.formats.shapes import Point, ellipse, extent, flat, rectangle, rotated, sound_crop
from halfmask.formats.sink import CocoSink, Size
from halfmask.formats.source_files import plain_file_name
from halfmask.formats.xml_stream import (
    children_of,
    number_of,
    numbers_of,
    unknown_children,
    whole_of,
)
from halfmask.masks.rle import Bitmap, Place, rle_of

_TRUE = ("true", "1", "True")
_SHAPES = ("box", "polygon", "mask", "ellipse")
_UNHELD = ("polyline", "points", "cuboid", "skeleton", "tag")
_TRACKS = "tracks (CVAT for video): left out; export as CVAT for images"


@dataclass(kw_only=True)
class _Object:
    """The shapes of one object; `where` is the first of them, `more` holds further keys."""

    label: str
    where: str
    boxes: list[list[float]] = field(default_factory=list)
    polygons: list[list[float]] = field(default_factory=list)
    masks: list[tuple[Bitmap, Place]] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)


def read_cvat(source: Path, sink: CocoSink, options: Options) -> None:
    """Adds an export (annotations.xml or its folder) to a sink, one image at a time.

    Polygons and masks that share a group and a label are one annotation. It gets the
    box of the group if the group has exactly one.

    Raises:
        InputError: not XML, a DOCTYPE in it, no image in it, or no such subset.
    """
    path = source / "annotations.xml" if source.is_dir() else source
    seen, subsets = 0, set()
    for element in children_of(path, "annotations", options.advance_bytes(path)):
        if element.tag == "meta":
            _add_labels(element, sink)
        elif element.tag == "track":
            sink.report.fault(_TRACKS, element.get("label", ""))
        elif element.tag == "image":
            seen += 1
            subsets.add(element.get("subset", ""))
            _add_image(element, sink, options)
        elif element.tag != "version":
            what = f"elements <{element.tag[:40]}> of the file: not known, not read"
            sink.report.fault(what, path)
    if not seen:
        tracks = sink.report.faults.get(_TRACKS, 0)
        more = f" but {tracks} tracks: CVAT for video, export it as CVAT for images 1.1"
        raise InputError(
            f"{path}: expected an export as CVAT for images 1.1, found no element image"
            f"{more if tracks else ''}"
        )
    if options.split is not None and options.split not in subsets:
        there = ", ".join(sorted(subsets - {""})) or "none"
        raise InputError(f"{path}: has no subset {options.split}; there is: {there}")


def _add_labels(meta: Element, sink: CocoSink) -> None:
    """Adds the labels of the task, project or job, without the parts of skeletons."""
    for label in meta.iterfind("*/labels/label"):
        if label.findtext("name") and label.find("parent") is None:
            sink.category(str(label.findtext("name")))


def _add_image(element: Element, sink: CocoSink, options: Options) -> None:
    subset = element.get("subset", "")
    if options.split not in (None, subset):
        return
    more = {"split": subset} if subset else {}
    name = _plain_name(element.get("name", ""), sink)
    size = whole_of(element.get("height")), whole_of(element.get("width"))
    number = sink.add_image(name, size, f"image {name!r}", **more)
    if number is None:
        return
    for thing in _objects(element, name, size, sink=sink):
        segmentation = _segmentation(thing, size)
        boxes: list[list[float] | None] = [*thing.boxes]
        if segmentation is not None and len(boxes) != 1:
            boxes = [None, *boxes]
        for box in boxes:
            sink.add(
                number, thing.label, thing.where, bbox=box, segmentation=segmentation, **thing.more
            )
            segmentation = None


def _plain_name(name: str, sink: CocoSink) -> str:
    plain = plain_file_name(name)
    if plain != name:
        sink.report.note("file names that are paths of another machine: their last part", name)
    return plain


def _objects(element: Element, name: str, size: Size, *, sink: CocoSink) -> Iterator[_Object]:
    objects: dict[object, _Object] = {}
    alone = count()
    for position, shape in enumerate(element, 1):
        where = f"image {name!r} shape {position} ({shape.tag})"
        label = shape.get("label", "")
        if shape.tag not in _SHAPES:
            known = "COCO instances have none" if shape.tag in _UNHELD else "not known"
            sink.report.fault(f"{shape.tag[:40]} shapes: left out, {known}", where)
            continue
        group = shape.get("group_id", "0")
        key = next(alone) if group in ("0", "") else (group, label)
        thing = objects.setdefault(key, _Object(label=label, where=where))
        if not label or not _add_shape(thing, shape, size):
            sink.report.fault("shapes that cannot be read: left out", where)
            if not (thing.boxes or thing.polygons or thing.masks):
                del objects[key]
            continue
        _count(shape, sink, where)
        thing.more |= _more(shape)
    yield from objects.values()


def _count(shape: Element, sink: CocoSink, where: str) -> None:
    """Counts what a shape has and COCO has not, or what is not known."""
    if shape.tag == "ellipse":
        sink.report.note("ellipses: drawn as polygons", where)
    elif number_of(shape.get("rotation")) and shape.tag == "box":
        sink.report.note("rotated boxes: the upright box around them is used", where)
    elif number_of(shape.get("rotation")):
        sink.report.fault(f"rotated {shape.tag} shapes: read without the rotation", where)
    for tag in unknown_children(shape, {"attribute"}):
        sink.report.fault(f"elements <{tag}> of a shape: not known, not read", where)


def _add_shape(thing: _Object, shape: Element, size: Size) -> bool:
    """Adds a shape to its object; returns False if it is malformed."""
    degrees = number_of(shape.get("rotation", "0"))
    if degrees is None:
        return False
    if shape.tag == "box":
        box = _box(shape, degrees)
        thing.boxes += [box] if box is not None else []
        return box is not None
    if shape.tag == "mask":
        mask = _mask(shape, size)
        thing.masks += [mask] if mask is not None else []
        return mask is not None
    outline = _ellipse(shape, degrees) if shape.tag == "ellipse" else _points(shape)
    if outline is None or len(outline) < 3:  # all parts are checked together later
        return False
    is_ellipse = shape.tag == "ellipse"
    thing.polygons.append(flat(outline) if is_ellipse else [v for point in outline for v in point])
    return True


def _box(shape: Element, degrees: float) -> list[float] | None:
    """x, y, width, height of a box, or of the upright box around a rotated one."""
    corners = _numbers(shape, "xtl", "ytl", "xbr", "ybr")
    if corners is None:
        return None
    x0, y0, x1, y1 = corners
    box = [x0, y0, x1 - x0, y1 - y0]
    centre = ((x0 + x1) / 2, (y0 + y1) / 2)
    return extent(rotated(rectangle(box), centre, degrees)) if degrees else box


def _ellipse(shape: Element, degrees: float) -> list[Point] | None:
    values = _numbers(shape, "cx", "cy", "rx", "ry")
    if values is None:
        return None
    cx, cy, rx, ry = values
    return ellipse((cx, cy), (rx, ry), degrees)


def _segmentation(thing: _Object, size: Size) -> Any:
    """The polygons unchanged, or the RLE of all shapes if there are masks among them."""
    sound = judge({"segmentation": thing.polygons}, size).state == MaskState.MASK
    if not thing.masks or (thing.polygons and not sound):
        return thing.polygons or None
    canvas = np.zeros(size, dtype=np.uint8)
    drawn = [sound_crop(thing.polygons, size)] if sound else []
    for bitmap, (x, y) in [*thing.masks, *drawn]:
        canvas[y : y + bitmap.shape[0], x : x + bitmap.shape[1]] |= bitmap
    return rle_of(canvas, (0, 0), size)


def _mask(shape: Element, size: Size) -> tuple[Bitmap, Place] | None:
    """CVAT's mask: a bitmap at left, top, in runs along the rows that start with background."""
    place = _numbers(shape, "left", "top")
    height, width = whole_of(shape.get("height")), whole_of(shape.get("width"))
    try:
        runs = [int(run) for run in shape.get("rle", "").split(",")]
    except ValueError:
        return None
    if place is None or not height or not width or min(runs) < 0 or sum(runs) > height * width:
        return None
    x, y = int(place[0]), int(place[1])
    if x < 0 or y < 0 or x + width > size[1] or y + height > size[0] or sum(runs[1::2]) == 0:
        return None
    bits = np.zeros(height * width, dtype=np.uint8)
    values = np.arange(len(runs), dtype=np.uint8) % 2
    bits[: sum(runs)] = np.repeat(values, runs)
    return bits.reshape(height, width), (x, y)


def _more(shape: Element) -> dict[str, Any]:
    """iscrowd, halfmask's note, and everything else about a shape as `attributes`."""
    found: dict[str, Any] = {
        a.get("name", ""): (a.text or "").strip() for a in shape.findall("attribute")
    }
    more: dict[str, Any] = {}
    if found.pop("is_crowd", "") in _TRUE:
        more["iscrowd"] = 1
    state, model = found.pop("halfmask_state", ""), found.pop("halfmask_model", None)
    score = number_of(found.pop("halfmask_score", None))
    if state in ("filled", "accepted", "rejected", "redrawn"):
        note = {"model": model, "score": score, "state": state}
        more["halfmask"] = {key: value for key, value in note.items() if value is not None}
    found |= {"occluded": 1} if shape.get("occluded") == "1" else {}
    found |= {"z_order": int(z)} if (z := number_of(shape.get("z_order"))) else {}
    found.pop("", None)
    return more | ({"attributes": found} if found else {})


def _numbers(shape: Element, *names: str) -> list[float] | None:
    return numbers_of(shape.get(name) for name in names)


def _points(shape: Element) -> list[Point] | None:
    points = []
    for pair in shape.get("points", "").split(";"):
        numbers = numbers_of(pair.split(","))
        if numbers is None or len(numbers) != 2:
            return None
        points.append((numbers[0], numbers[1]))
    return points
