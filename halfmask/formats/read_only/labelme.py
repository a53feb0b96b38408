"""labelme's and X-AnyLabeling's JSON files to COCO: one file for each photograph."""

from __future__ import annotations

import math
import os
from pathlib import Path, PurePosixPath
from typing import Any

from halfmask.coco.supervision import all_finite
from halfmask.errors import InputError
from halfmask.files.json_lines import parse_json
from halfmask.formats.read_only.bitmaps import bitmap_of_png, png_of_text
from halfmask.formats.read_only.parts import (
    ELLIPSES,
    LEFT_OUT,
    ROTATED,
    UNREADABLE,
    ImageParts,
    ShapePart,
    group_of,
    is_file,
    name_of_label,
    note_keys,
    note_photographs,
    plain_values,
    points_of,
)
from halfmask.formats.report import Options
from halfmask.formats.shapes import ellipse
from halfmask.formats.sink import CocoSink, Size, usable_size
from halfmask.formats.source_files import leads_out, size_of_photograph, text_lines

EXPECTED = "expected a labelme file (an object with shapes and imagePath)"
_OF_FILE = {
    *("version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"),
    *("lineColor", "fillColor", "checked", "description", "text"),
}
_OF_SHAPE = {
    *("label", "points", "group_id", "shape_type", "flags", "description", "mask"),
    *("line_color", "fill_color", "score", "difficult", "attributes", "direction"),
}
_NO_AREA = ("line", "linestrip", "point", "points", "cuboid")
_TURNED = ("rotation", "oriented_rectangle")
_POLYGONS = ("polygon", "quadrilateral")
_KINDS = (*_POLYGONS, *_TURNED, "rectangle", "circle", "mask")
_ENDINGS = (".jpg", ".jpeg", ".png", ".JPG", ".bmp", ".tif")
_SPECIAL = ("__ignore__", "_background_")
"""Lines of labelme's labels.txt that are no classes."""


def read_labelme(source: Path, sink: CocoSink, options: Options) -> None:
    """Adds a folder of labelme's JSON files, with the folders below it, or one file.

    Rectangles stay boxes. Shapes of one `group_id` and label are one object. Classes
    have the order of a `labels.txt` in the folder, else of first use.

    Raises:
        InputError: no JSON file there.
    """
    folder = source if source.is_dir() else source.parent
    files = sorted(source.rglob("*.json")) if source.is_dir() else [source]
    if not files:
        raise InputError(f"{source}: expected a folder of labelme's JSON files, found no JSON file")
    listed = folder / "labels.txt"
    for name in text_lines(listed) if listed.is_file() else ():
        if name not in _SPECIAL:
            sink.category(name)
    root = options.images
    for file in files:
        document = _document(file, sink, alone=source.is_file())
        if document is not None:
            root = root or _root(folder, file, document)
            name = _file_name(file, document, root, folder=folder)
            _add_file(file, document, name, root=root, sink=sink)
            note_photographs(sink, options, root, name=name)
        options.advance(1, len(files))


def _document(file: Path, sink: CocoSink, *, alone: bool) -> dict[str, Any] | None:
    try:
        found = parse_json(file, EXPECTED, [])
        if isinstance(found, dict) and isinstance(found.get("shapes"), list):
            return found
        raise InputError(f"{file}: {EXPECTED}, found no list of shapes")
    except InputError as error:
        if alone:
            raise
        sink.report.fault("JSON files that are not labelme's, or broken: left out", error)
        return None


def _root(folder: Path, file: Path, document: dict[str, Any]) -> Path:
    """The folder that file names begin at: above `folder` if the first photograph is there."""
    stated = _stated(document)
    if not stated.startswith("..") or leads_out(PurePosixPath(stated).name):
        return folder
    above = Path(os.path.normpath(folder.absolute())).parent
    below = os.path.relpath(os.path.normpath(file.parent.absolute() / stated), above)
    return above if is_file(above, below) else folder


def _add_file(
    file: Path, document: dict[str, Any], name: str, *, root: Path, sink: CocoSink
) -> None:
    note_keys(sink.report, document, _OF_FILE, what="labelme files", where=file)
    try:
        size = usable_size(document.get("imageHeight"), document.get("imageWidth"))
        size = size or size_of_photograph(root, name) or (0, 0)
    except InputError as error:
        sink.report.fault("photographs that cannot be read: left out with their shapes", error)
        return
    kept = _set_flags(document) | plain_values(
        {k: document.get(k) for k in ("description", "text")}
    )
    more: dict[str, Any] = {"attributes": kept} if kept else {}
    number = sink.add_image(name, size, file, **more)
    if number is None:
        return
    parts = ImageParts(sink, number)
    for position, shape in enumerate(document["shapes"], 1):
        _add_shape(shape, parts, sink, where=f"{file} shape {position}")
    parts.finish()


def _set_flags(record: dict[str, Any]) -> dict[str, Any]:
    return {key: flag for key, flag in plain_values(record.get("flags")).items() if flag}


def _stated(document: dict[str, Any]) -> str:
    """imagePath with "/" in it, "" if there is none."""
    path = document.get("imagePath")
    return path.replace("\\", "/") if isinstance(path, str) and "\0" not in path else ""


def _file_name(file: Path, document: dict[str, Any], root: Path, *, folder: Path) -> str:
    """The photograph's name below the root: as stated, if it is there, else near the file."""
    stated = _stated(document) or f"{file.stem}.jpg"
    place = file.parent.absolute()
    below = PurePosixPath(os.path.relpath(place, folder.absolute()).replace(os.sep, "/"))
    last = PurePosixPath(stated).name
    from_root = os.path.relpath(os.path.normpath(place / stated), root.absolute())
    tries = [from_root.replace(os.sep, "/")]
    tries += [str(below / stated), stated] if not leads_out(stated) else []
    tries += [str(below / last), last] if not leads_out(last) else []
    sound = [name for name in tries if not leads_out(name)]
    twins = [str(below / f"{file.stem}{ending}") for ending in _ENDINGS]
    there = (name for name in [*sound, *twins] if is_file(root, name))
    return next(there, sound[0] if sound else stated)


def _add_shape(shape: Any, parts: ImageParts, sink: CocoSink, *, where: str) -> None:
    if not isinstance(shape, dict):
        sink.report.fault(UNREADABLE, f"{where}: expected an object")
        return
    kind, label = shape.get("shape_type", "polygon") or "polygon", name_of_label(shape.get("label"))
    note_keys(sink.report, shape, _OF_SHAPE, what="shapes", where=where)
    if label is None:
        sink.report.fault("shapes without a label: left out", where)
        return
    if kind in _NO_AREA:
        sink.report.fault(f"{kind} {LEFT_OUT}", where)
        return
    if kind not in _KINDS:
        sink.report.fault(f"shapes of the unknown type {str(kind)[:30]!r}: left out", where)
        return
    try:
        part = _part(kind, shape, parts.size)
        parts.add(label, part, where, group=group_of(shape.get("group_id")), more=_more(shape))
    except ValueError as error:
        sink.report.fault(UNREADABLE, f"{where}: {error}")
        return
    if kind in _TURNED or kind == "circle":
        sink.report.note(ROTATED if kind in _TURNED else ELLIPSES, where)


def _part(kind: str, shape: dict[str, Any], size: Size) -> ShapePart:
    """The box, polygon or bitmap of a shape.

    Raises:
        ValueError: the shape is malformed.
    """
    if kind in _POLYGONS:
        return ShapePart.of_points(points_of(shape.get("points"), 3))
    if kind == "rectangle" or kind in _TURNED:
        return ShapePart.of_corners(points_of(shape.get("points"), 2))
    points = points_of(shape.get("points"), 2)
    (x0, y0), (x1, y1) = points[0], points[1]
    if kind == "circle":  # its centre, and a point on its line
        radius = math.hypot(x1 - x0, y1 - y0)
        return ShapePart.of_points(ellipse((x0, y0), (radius, radius), 0))
    bitmap = bitmap_of_png(png_of_text(shape.get("mask")), size)
    if all(isinstance(v, int) or v.is_integer() for v in (x0, y0, x1, y1)):
        # labelme cuts the bitmap to its corners, which are pixels and inclusive.
        bitmap = bitmap[: max(int(y1 - y0) + 1, 0), : max(int(x1 - x0) + 1, 0)]
    return ShapePart(bitmap=(bitmap, (round(x0), round(y0))))


def _more(shape: dict[str, Any]) -> dict[str, Any]:
    """The score, and everything else about a shape as `attributes`."""
    keys = ("description", "difficult", "direction")
    found = _set_flags(shape) | plain_values(shape.get("attributes"))
    found |= plain_values({key: shape.get(key) for key in keys if shape.get(key)})
    more: dict[str, Any] = {"attributes": found} if found else {}
    return more | ({"score": shape["score"]} if all_finite([shape.get("score")]) else {})
