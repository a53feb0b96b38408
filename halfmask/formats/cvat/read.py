"""CVAT for images 1.1 (XML) to COCO: boxes, polygons, masks, ellipses; shapes of one
group are one object.
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
from halfmask.formats.options import Options
from halfmask.formats.shapes import Point, ellipse, extent, flat, rectangle, turned
from halfmask.formats.sink import CocoSink, Size
from halfmask.formats.xml_stream import elements, number_of, whole_of
from halfmask.masks.rle import Bitmap, Place, crop_of, rle_of

_TRUE = ("true", "1", "True")


@dataclass
class _Object:
    """The shapes of one object. `doubts` are shapes that could not be read."""

    label: str
    boxes: list[list[float]] = field(default_factory=list)
    polygons: list[list[float]] = field(default_factory=list)
    masks: list[tuple[Bitmap, Place]] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)


def read_cvat(source: Path, sink: CocoSink, options: Options) -> None:
    """Adds an export (annotations.xml, or the folder that it is in) to a sink; in
    memory is one image's shapes.

    Polygons and masks that share a group and a label are one annotation, with the box
    of the group if it has just one.

    Raises:
        InputError: no XML, a DOCTYPE in it, or no image in it.
    """
    path = source / "annotations.xml" if source.is_dir() else source
    seen = 0
    for element in elements(path, {"label", "image", "track"}):
        if element.tag == "label":
            if element.findtext("name") and element.find("parent") is None:
                sink.category(str(element.findtext("name")))
        elif element.tag == "track":
            sink.tally.fault(
                "tracks (CVAT for video): left out; export as CVAT for images",
                element.get("label", ""),
            )
        else:
            seen += 1
            _add_image(element, sink)
            options.progress(1, 0)
    if not seen:
        raise InputError(
            f"{path}: expected an export as CVAT for images 1.1, found no element image"
        )


def _add_image(element: Element, sink: CocoSink) -> None:
    name = element.get("name", "")
    size = whole_of(element.get("height")), whole_of(element.get("width"))
    number = sink.add_image(name, size, f"image {name!r}")
    if number is None:
        return
    for where, thing in _objects(element, name, size, sink):
        segmentation = _segmentation(thing, size)
        boxes: list[list[float] | None] = [*thing.boxes]
        if segmentation is not None and len(boxes) != 1:
            sink.add(number, thing.label, where, None, segmentation, **thing.more)
            segmentation = None
        for box in boxes:
            sink.add(number, thing.label, where, box, segmentation, **thing.more)


def _objects(
    element: Element, name: str, size: Size, sink: CocoSink
) -> Iterator[tuple[str, _Object]]:
    objects: dict[object, _Object] = {}
    places: dict[object, str] = {}
    alone = count()
    for position, shape in enumerate(element, 1):
        where = f"image {name!r} shape {position} ({shape.tag})"
        label = shape.get("label", "")
        if shape.tag not in ("box", "polygon", "mask", "ellipse"):
            sink.tally.note(f"{shape.tag} shapes: left out, COCO instances have none", where)
            continue
        group = shape.get("group_id", "0")
        key = next(alone) if group in ("0", "") else (group, label)
        thing = objects.setdefault(key, _Object(label))
        places.setdefault(key, where)
        if not label or not _add_shape(thing, shape, size):
            sink.tally.fault("shapes that cannot be read: left out", where)
            if not (thing.boxes or thing.polygons or thing.masks):
                del objects[key]
            continue
        if float(shape.get("rotation") or 0) and shape.tag == "box":
            sink.tally.note("turned boxes: the upright box around them is taken", where)
        if shape.tag == "ellipse":
            sink.tally.note("ellipses: drawn as polygons", where)
        thing.more |= _more(shape)
    yield from ((places[key], thing) for key, thing in objects.items())


def _add_shape(thing: _Object, shape: Element, size: Size) -> bool:
    """Adds a shape to its object; False where it is malformed."""
    turn = number_of(shape.get("rotation", "0"))
    if turn is None:
        return False
    if shape.tag == "box":
        corners = _numbers(shape, "xtl", "ytl", "xbr", "ybr")
        if corners is None:
            return False
        x0, y0, x1, y1 = corners
        points = rectangle(x0, y0, x1 - x0, y1 - y0)
        upright = [x0, y0, x1 - x0, y1 - y0]
        thing.boxes.append(
            extent(turned(points, ((x0 + x1) / 2, (y0 + y1) / 2), turn)) if turn else upright
        )
        return True
    if shape.tag == "mask":
        mask = _mask(shape, size)
        thing.masks += [mask] if mask is not None else []
        return mask is not None
    outline = _points(shape.get("points", "")) if shape.tag == "polygon" else None
    round_shape = _numbers(shape, "cx", "cy", "rx", "ry") if shape.tag == "ellipse" else None
    if round_shape is not None:
        outline = ellipse((round_shape[0], round_shape[1]), (round_shape[2], round_shape[3]), turn)
    polygon = None if outline is None else flat(outline)
    if polygon is None or len(polygon) < 6:  # soundness is judged of all parts together
        return False
    thing.polygons.append(polygon)
    return True


def _segmentation(thing: _Object, size: Size) -> Any:
    """Polygons as they are; with masks among the shapes, the RLE of all together."""
    sound = judge({"segmentation": thing.polygons}, size).state == MaskState.MASK
    if not thing.masks or (thing.polygons and not sound):
        return thing.polygons or None
    canvas = np.zeros(size, dtype=np.uint8)
    drawn = crop_of(thing.polygons, size) if sound else None
    for bitmap, (x, y) in [*thing.masks, *([drawn] if drawn is not None else [])]:
        canvas[y : y + bitmap.shape[0], x : x + bitmap.shape[1]] |= bitmap
    return rle_of(canvas, (0, 0), size)


def _mask(shape: Element, size: Size) -> tuple[Bitmap, Place] | None:
    """CVAT's mask: a bitmap at left, top; its runs go along the rows, the first one is
    background.
    """
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
    values = np.arange(len(runs)) % 2
    bits[: sum(runs)] = np.repeat(values, runs)
    return bits.reshape(height, width), (x, y)


def _more(shape: Element) -> dict[str, Any]:
    """iscrowd, halfmask's note, and everything else that is said about a shape as `attributes`."""
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
    values = [number_of(shape.get(name)) for name in names]
    return [v for v in values if v is not None] if None not in values else None


def _points(text: str) -> list[Point] | None:
    points = []
    for pair in text.split(";"):
        numbers = [number_of(v) for v in pair.split(",")]
        if len(numbers) != 2 or numbers[0] is None or numbers[1] is None:
            return None
        points.append((numbers[0], numbers[1]))
    return points
