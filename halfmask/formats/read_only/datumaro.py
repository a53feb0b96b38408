"""Datumaro's own JSON to COCO: boxes, polygons, masks and ellipses of each item."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from halfmask.errors import InputError
from halfmask.formats.json_stream import stream_items
from halfmask.formats.read_only.parts import (
    ELLIPSES,
    LEFT_OUT,
    ROTATED,
    UNREADABLE,
    ImageParts,
    ShapePart,
    is_file,
    name_of_label,
    note_keys,
    note_photographs,
    part_of_rle,
    plain_values,
    points_in_turn,
)
from halfmask.formats.report import Options
from halfmask.formats.shapes import ellipse, rectangle, rotated
from halfmask.formats.sink import CocoSink, Size, usable_size
from halfmask.formats.source_files import leads_out, size_of_photograph

EXPECTED = "expected Datumaro's JSON (an object with categories and items)"
_OF_ITEM = {"id", "annotations", "attr", "image", "media"}
_OF_ANNOTATION = {
    *("id", "type", "attributes", "group", "label_id", "z_order", "bbox", "points", "rle"),
    *("object_id", "visibility", "caption"),
}
_NO_AREA = (
    *("label", "caption", "points", "polyline", "cuboid_2d", "cuboid_3d", "skeleton"),
    *("hash_key", "feature_vector", "tabular", "depth_annotation", "super_resolution_annotation"),
)
_CROWD = ("is_crowd", "iscrowd")


def read_datumaro(source: Path, sink: CocoSink, options: Options) -> None:
    """Adds a file, or a folder with `annotations/*.json`, whose files are its parts.

    Annotations of one group and label are one object. The attribute `is_crowd` becomes
    `iscrowd`.

    Raises:
        InputError: no such file, no such part, or no classes in it.
    """
    files = datumaro_files(source)
    if options.split is not None:
        files = [file for file in files if file.stem == options.split]
    if not files:
        asked = "" if options.split is None else f", a part called {options.split}"
        raise InputError(f"{source}: {EXPECTED}{asked}; found none")
    for file in files:
        _Reader(file, sink, options, several=len(files) > 1).add_items()


def datumaro_files(source: Path) -> list[Path]:
    """Returns the files of a data set: one for each part."""
    if not source.is_dir():
        return [source]
    below = source / "annotations"
    return sorted((below if below.is_dir() else source).glob("*.json"))


class _Reader:
    """Adds one file to a sink."""

    def __init__(self, file: Path, sink: CocoSink, options: Options, *, several: bool) -> None:
        self._file, self._sink, self._options = file, sink, options
        self._more = {"split": file.stem} if several and options.whole else {}
        self._prefix = f"{file.stem}/" if several else ""
        above = file.parent.parent if file.parent.name == "annotations" else file.parent
        self._root = options.images or above
        rows = stream_items(file, "categories.label.labels.item")
        self._labels = [name_of_label(r.get("name") if isinstance(r, dict) else r) for r in rows]
        if not any(self._labels):
            raise InputError(f"{file}: {EXPECTED}, found no names in categories.label.labels")
        for name in self._labels:
            if name is not None:
                sink.category(name)

    def add_items(self) -> None:
        """Adds all items."""
        progress = self._options.advance_bytes(self._file)
        for position, item in enumerate(stream_items(self._file, "items.item", progress)):
            self._add_item(item, f"{self._file} item {position}")

    def _add_item(self, item: Any, where: str) -> None:
        report = self._sink.report
        image = (item.get("image") or item.get("media")) if isinstance(item, dict) else None
        if not isinstance(image, dict):
            report.fault("items without an image (videos, point clouds, …): left out", where)
            return
        note_keys(report, item, _OF_ITEM, what="items", where=where)
        name = self._file_name(item, image)
        try:
            size = _size(image) or size_of_photograph(self._root, name)
        except InputError as error:
            report.fault("photographs that cannot be read: left out with their shapes", error)
            return
        kept = plain_values(item.get("attr"))
        more = self._more | ({"attributes": kept} if kept else {})
        number = self._sink.add_image(name, size or (0, 0), where, **more)
        if number is None:
            return
        note_photographs(self._sink, self._options, self._root, name=name)
        rows = item.get("annotations")
        if not isinstance(rows, list):
            report.fault("items whose annotations are no list: read as without any", where)
            return
        parts = ImageParts(self._sink, number)
        for position, row in enumerate(rows):
            self._add_annotation(row, parts, f"{where} annotation {position}")
        parts.finish()

    def _file_name(self, item: dict[str, Any], image: dict[str, Any]) -> str:
        """The photograph's name below the root, in the folders that Datumaro uses."""
        path = image.get("path")
        stated = (
            path.replace("\\", "/") if isinstance(path, str) and path else f"{item.get('id')}.jpg"
        )
        last = stated.rsplit("/", 1)[-1]
        ends = [stated] if not leads_out(stated) else []
        ends += [last] if not leads_out(last) else []
        folders = (f"images/{self._file.stem}/", "images/", f"{self._file.stem}/", "")
        tries = [folder + end for end in ends for folder in folders]
        there = next((name for name in tries if is_file(self._root, name)), None)
        return there or (self._prefix + ends[0] if ends else stated)

    def _add_annotation(self, row: Any, parts: ImageParts, where: str) -> None:
        report = self._sink.report
        kind = row.get("type") if isinstance(row, dict) else None
        if kind in _NO_AREA:
            report.fault(f"{kind} {LEFT_OUT}", where)
            return
        if not isinstance(kind, str) or kind not in (*_SHAPES, "mask"):
            report.fault(f"annotations of the unknown type {str(kind)[:30]!r}: left out", where)
            return
        note_keys(report, row, _OF_ANNOTATION, what="annotations", where=where)
        number = row.get("label_id")
        known = type(number) is int and 0 <= number < len(self._labels)
        label = self._labels[number] if known else None
        if label is None:
            report.fault("annotations without a class in the file: left out", where)
            return
        group = row.get("group")
        try:
            masked = kind == "mask"
            part = part_of_rle(row.get("rle"), parts.size) if masked else _SHAPES[kind](row)
            joined = group if type(group) is int and group != 0 else None
            parts.add(label, part, where, group=joined, more=_more(row))
        except ValueError as error:
            report.fault(UNREADABLE, f"{where}: {error}")
            return
        if kind in ("ellipse", "rotated_bbox"):
            report.note(ELLIPSES if kind == "ellipse" else ROTATED, where)


def _size(image: dict[str, Any]) -> Size | None:
    size = image.get("size")
    return usable_size(*size) if isinstance(size, list) and len(size) == 2 else None


def _box(row: dict[str, Any]) -> ShapePart:
    (x, y), (w, h) = _exactly(row.get("bbox"), 2)
    return ShapePart(box=[x, y, w, h])


def _polygon(row: dict[str, Any]) -> ShapePart:
    return ShapePart.of_points(points_in_turn(row.get("points")))


def _ellipse(row: dict[str, Any]) -> ShapePart:
    (x0, y0), (x1, y1) = _exactly(row.get("points"), 2)
    centre, radii = ((x0 + x1) / 2, (y0 + y1) / 2), (abs(x1 - x0) / 2, abs(y1 - y0) / 2)
    return ShapePart.of_points(ellipse(centre, radii, 0))


def _rotated(row: dict[str, Any]) -> ShapePart:
    values = row.get("points")
    if not isinstance(values, list) or len(values) != 5:
        raise ValueError("expected centre x, centre y, width, height and degrees as points")
    (cx, cy), (w, h), (degrees, _) = points_in_turn([*values, 0])
    corners = rectangle((cx - w / 2, cy - h / 2, w, h))
    return ShapePart.of_corners(rotated(corners, (cx, cy), degrees))


def _exactly(values: object, count: int) -> list[tuple[float, float]]:
    points = points_in_turn(values)
    if len(points) != count:
        raise ValueError(f"expected {2 * count} numbers, found {2 * len(points)}")
    return points


_SHAPES = {"bbox": _box, "polygon": _polygon, "ellipse": _ellipse, "rotated_bbox": _rotated}
"""Datumaro's annotations that have an area, besides masks → their part."""


def _more(row: dict[str, Any]) -> dict[str, Any]:
    """iscrowd, the score, and all other attributes."""
    found = plain_values(row.get("attributes"))
    more: dict[str, Any] = {}
    if any(found.pop(key, False) in (1, "1", "true", "True") for key in _CROWD):
        more["iscrowd"] = 1
    score = found.pop("score", None)
    if type(score) in (int, float):
        more["score"] = score
    found |= plain_values({"z_order": row.get("z_order") or None})
    return more | ({"attributes": found} if found else {})
