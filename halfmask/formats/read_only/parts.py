"""The parts of one object, as annotation tools write them, become one annotation."""

from __future__ import annotations

import math
import os
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from halfmask.coco.records import clip_box, fault_of_box
from halfmask.coco.supervision import MaskState, all_finite, judge
from halfmask.formats.report import ConversionReport, Options
from halfmask.formats.shapes import Point, extent, flat, pairs, rectangle, sound_crop
from halfmask.formats.sink import CocoSink, Size
from halfmask.formats.source_files import leads_out
from halfmask.masks.rle import Bitmap, Place, fault_of_rle, rle_of

UNREADABLE = "shapes that cannot be read: left out"
LEFT_OUT = "shapes: left out, COCO instances have none"
ROTATED = "rotated boxes: the upright box around them is used"
ELLIPSES = "ellipses and circles: drawn as polygons"


@dataclass(frozen=True)
class ShapePart:
    """One shape: a box x, y, width, height, a polygon, or a bitmap and its place."""

    box: list[float] | None = None
    polygon: list[float] | None = None
    bitmap: tuple[Bitmap, Place] | None = None

    @classmethod
    def of_points(cls, points: list[Point]) -> ShapePart:
        """Returns the polygon through points."""
        return cls(polygon=flat(points))

    @classmethod
    def of_corners(cls, points: list[Point]) -> ShapePart:
        """Returns the upright box around points."""
        return cls(box=extent(points))


@dataclass(kw_only=True)
class _Object:
    """The parts of one object; `where` is the first of them, `more` holds further keys."""

    label: str
    where: str
    parts: list[ShapePart] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)


class ImageParts:
    """The objects of one image.

    Args:
        sink: receives them.
        image: an id from `CocoSink.add_image`.
    """

    def __init__(self, sink: CocoSink, image: int) -> None:
        size = sink.size_of(image)
        assert size is not None
        self.size: Size = size
        self._sink, self._image = sink, image
        self._objects: dict[Hashable, _Object] = {}
        self._alone = count()

    def add(
        self,
        label: str,
        part: ShapePart,
        where: str,
        *,
        group: str | int | None = None,
        more: dict[str, Any] | None = None,
    ) -> None:
        """Adds a part to the object of its label and group; without a group it is one.

        Raises:
            ValueError: the part has no pixel on the image, or is malformed.
        """
        _check(part, self.size)
        key = next(self._alone) if group is None else (label, group)
        thing = self._objects.setdefault(key, _Object(label=label, where=where))
        thing.parts.append(part)
        for name, value in (more or {}).items():
            kept = thing.more.setdefault(name, value)
            if isinstance(kept, dict) and isinstance(value, dict):
                kept |= {k: v for k, v in value.items() if k not in kept}
                value = {k: v for k, v in value.items() if kept[k] != v}
            if value not in (kept, {}):
                what = "parts of an object with other attributes than its first: those are kept"
                self._sink.report.note(what, where)

    def finish(self) -> None:
        """Adds the objects to the sink."""
        for thing in self._objects.values():
            boxes = [part.box for part in thing.parts if part.box is not None]
            if len(boxes) > 1:
                what = "objects of several boxes: the box around them is used"
                self._sink.report.note(what, thing.where)
            if len(thing.parts) > 1:
                what = "objects of several shapes, joined by their group"
                self._sink.report.note(what, thing.where)
            self._sink.add(
                self._image,
                thing.label,
                thing.where,
                bbox=extent(p for box in boxes for p in rectangle(box)) if boxes else None,
                segmentation=_segmentation(thing.parts, self.size),
                **thing.more,
            )


def _check(part: ShapePart, size: Size) -> None:
    if part.box is not None and clip_box(part.box, size) is None:
        raise ValueError(fault_of_box(part.box, size)[1])
    if part.polygon is not None:
        verdict = judge({"segmentation": [part.polygon]}, size)
        if verdict.state != MaskState.MASK:
            raise ValueError(verdict.reason or "the polygon has no points")
    if part.bitmap is not None:
        bitmap, (x, y) = part.bitmap
        inside = bitmap[max(-y, 0) : max(size[0] - y, 0), max(-x, 0) : max(size[1] - x, 0)]
        if not inside.any():
            raise ValueError("the mask has no pixel on the image")


def _segmentation(parts: list[ShapePart], size: Size) -> Any:
    """The polygons unchanged, or the RLE of all shapes if there are bitmaps among them."""
    polygons = [part.polygon for part in parts if part.polygon is not None]
    bitmaps = [part.bitmap for part in parts if part.bitmap is not None]
    if not bitmaps:
        return polygons or None
    if len(bitmaps) == 1 and not polygons:
        return rle_of(*bitmaps[0], size)
    canvas = np.zeros(size, dtype=np.uint8)
    for bitmap, (x, y) in [*bitmaps, *([sound_crop(polygons, size)] if polygons else [])]:
        place = canvas[max(y, 0) : max(y + len(bitmap), 0), max(x, 0) : max(x + bitmap.shape[1], 0)]
        top, left = max(-y, 0), max(-x, 0)
        place |= bitmap[top : top + place.shape[0], left : left + place.shape[1]]
    return rle_of(canvas, (0, 0), size)


def cut_out(
    exterior: list[Point], holes: list[list[Point]], sink: CocoSink, *, size: Size, where: str
) -> ShapePart:
    """Returns a polygon without its holes: a polygon, or a bitmap if it has holes.

    A hole that cannot be read is reported, and the shape is kept without it.

    Raises:
        ValueError: the outline is malformed.
    """
    outline = ShapePart.of_points(exterior)
    _check(outline, size)
    canvas = np.zeros(size, dtype=np.uint8)
    filled = 0
    for sign, part in [(1, outline), *((0, ShapePart.of_points(hole)) for hole in holes)]:
        try:
            _check(part, size)
        except ValueError as error:
            sink.report.fault("holes that cannot be read: filled", f"{where}: {error}")
            continue
        bitmap, (x, y) = sound_crop([part.polygon], size)
        place = canvas[y : y + bitmap.shape[0], x : x + bitmap.shape[1]]
        place[bitmap > 0] = sign
        filled += 1
    return ShapePart(bitmap=(canvas, (0, 0))) if filled > 1 else outline


def part_of_rle(rle: object, size: Size) -> ShapePart:
    """Returns the bitmap of COCO's RLE.

    Raises:
        ValueError: it is none, or one of another size than the image.
    """
    fault = fault_of_rle(rle, size) if isinstance(rle, dict) else "expected an RLE object"
    if fault:
        raise ValueError(fault)
    return ShapePart(bitmap=sound_crop(rle, size))


def points_of(value: object, least: int = 1) -> list[Point]:
    """Returns points from a JSON list of pairs.

    Raises:
        ValueError: the value is none, or has fewer than `least` points.
    """
    if not isinstance(value, list) or not all(
        isinstance(p, list) and len(p) == 2 and all_finite(p) for p in value
    ):
        raise ValueError("expected points as pairs of numbers")
    if len(value) < least:
        raise ValueError(f"{len(value)} points, expected at least {least}")
    return [(x, y) for x, y in value]


def numbers_at(record: dict[str, Any], *names: str) -> list[float]:
    """Returns the finite numbers that a JSON object has under some keys.

    Raises:
        ValueError: a key is missing, or its value is no number.
    """
    values = [record.get(name) for name in names]
    if not all_finite(values):
        raise ValueError(f"expected numbers as {', '.join(names)}")
    return [v for v in values if v is not None]


def points_in_turn(values: object) -> list[Point]:
    """Returns points from a JSON list x1, y1, x2, y2, ….

    Raises:
        ValueError: the value is none.
    """
    if not isinstance(values, list) or not all_finite(values) or len(values) % 2:
        raise ValueError("expected points as x1, y1, x2, y2, … in numbers")
    return pairs(values)


def name_of_label(value: object) -> str | None:
    """Returns the name of a class from a JSON value: a text or a whole number."""
    if type(value) is int:
        return str(value)
    return value.strip() or None if isinstance(value, str) else None


def group_of(value: object) -> str | int | None:
    """Returns a group that joins parts, from a JSON value; None if there is none."""
    return value if type(value) is int or (isinstance(value, str) and value) else None


def plain_values(record: object) -> dict[str, Any]:
    """Returns the entries of a JSON object that are texts, finite numbers or booleans."""
    items = record.items() if isinstance(record, dict) else ()
    return {str(k): v for k, v in items if _is_plain(v)}


def _is_plain(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, bool | int) or (isinstance(value, str) and value != "")


def note_keys(
    report: ConversionReport,
    record: dict[str, Any],
    known: Iterable[str],
    *,
    what: str,
    where: object,
) -> None:
    """Counts the keys of a record that the reader does not know, by name.

    A key without a value (null, "", an empty list or object) does not count.
    """
    for key in sorted(record.keys() - set(known)):
        if record[key] not in (None, "", [], {}):
            report.note(f"{what} with {key[:40]!r}: halfmask does not know this key", where)


def note_photographs(sink: CocoSink, options: Options, root: Path, *, name: str) -> None:
    """Notes the folder of the photographs in the file, as soon as one of them is there."""
    if options.whole and "images" not in sink.origin and is_file(root, name):
        sink.origin["images"] = str(root.resolve())


def photograph_places(folder: Path) -> list[Path]:
    """Returns the folders in which the photographs of a file in `folder` may be."""
    return [folder, folder / "images", folder.parent / "images", folder.parent]


def is_file(root: Path, name: str) -> bool:
    """Whether a file name leads to a file below a folder; accepts any text."""
    return not leads_out(name) and os.path.isfile(root / name)  # noqa: PTH113 - never raises
