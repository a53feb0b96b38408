"""VGG Image Annotator (VIA 1 and 2) to COCO: projects, annotations as JSON, and as CSV."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from halfmask.coco.images import opened, photograph_path
from halfmask.coco.photographs.orientation import Orientation
from halfmask.errors import InputError
from halfmask.files.json_lines import parse_json
from halfmask.formats.read_only.parts import (
    ELLIPSES,
    LEFT_OUT,
    UNREADABLE,
    ImageParts,
    ShapePart,
    is_file,
    note_keys,
    note_photographs,
    numbers_at,
    photograph_places,
    plain_values,
    points_in_turn,
)
from halfmask.formats.read_only.via_classes import RegionClass
from halfmask.formats.report import Options
from halfmask.formats.shapes import ellipse
from halfmask.formats.sink import CocoSink, Size
from halfmask.formats.source_files import leads_out

EXPECTED = "expected a project or annotations of VIA 2 (JSON)"
SHAPES, ATTRIBUTES = "region_shape_attributes", "region_attributes"
"""Columns of the CSV."""
_OF_IMAGE = {"filename", "size", "regions", "file_attributes", "fileref", "base64_img_data"}
_OF_REGION = {"shape_attributes", "region_attributes"}
_NO_AREA = ("polyline", "point", "line")
_LONGEST_CELL = 1 << 27

Entry = dict[str, Any]


def read_via(source: Path, sink: CocoSink, options: Options) -> None:
    """Adds a project, an annotations file, or a folder with one of them.

    VIA's files hold no sizes: the photographs are needed, in `options.images` or beside
    the file. Browsers show photographs upright, so sizes are those of the upright one.

    Raises:
        InputError: no file of VIA 1 or 2.
    """
    path = via_file(source) if source.is_dir() else source
    if path is None:
        raise InputError(f"{source}: expected one JSON or CSV file of VIA in this folder")
    entries, declared = _from_csv(path, sink) if _is_csv(path) else _from_json(path)
    images = [entry for entry in entries if _is_image(entry)]
    what = "entries without a filename, so no images of VIA: left out"
    sink.report.fault(what, path, times=len(entries) - len(images))
    names = [_file_name(entry["filename"]) for entry in images]
    root = options.images or _photographs(path.parent, names)
    regions = (region for entry in images for _, region in _regions(entry))
    classes = RegionClass(declared, map(_attributes, regions), sink.report)
    for name in classes.names:
        sink.category(name)
    for entry, name in zip(images, names, strict=True):
        note_photographs(sink, options, root, name=name)
        _add_image(entry, name, sink, root=root, classes=classes)
        options.advance(1, len(images))


def via_file(folder: Path) -> Path | None:
    """Returns the only JSON file, or else the only CSV file, of a folder."""
    for pattern in ("*.json", "*.csv"):
        files = [p for p in folder.glob(pattern) if p.is_file() and not p.name.startswith(".")]
        if len(files) == 1:
            return files[0]
    return None


def _is_csv(path: Path) -> bool:
    return path.suffix.lower() == ".csv"


def _from_json(path: Path) -> tuple[list[Any], object]:
    """The images, and `_via_attributes.region`."""
    document = parse_json(path, EXPECTED, [])
    if not isinstance(document, dict):
        raise InputError(f"{path}: {EXPECTED}, found {type(document).__name__}")
    if "_via_img_metadata" not in document:
        if not any(map(_is_image, document.values())):
            newer = {"project", "file", "metadata"} <= document.keys()
            found = "a project of VIA 3" if newer else "no image with a filename"
            raise InputError(f"{path}: {EXPECTED}, found {found}")
        return list(document.values()), None
    images, declared = document["_via_img_metadata"], document.get("_via_attributes")
    if not isinstance(images, dict):
        raise InputError(f"{path}: {EXPECTED}, its _via_img_metadata is no object")
    return list(images.values()), declared.get("region") if isinstance(declared, dict) else None


def _from_csv(path: Path, sink: CocoSink) -> tuple[list[Any], object]:
    """The images of a CSV file, in the form of the JSON file."""
    images: dict[tuple[str, str], Entry] = {}
    for number, row in _rows(path):
        key = str(row.get("filename")), str(row.get("file_size"))
        entry = images.setdefault(key, {"filename": row.get("filename"), "regions": []})
        cells = [_cell(row.get(column)) for column in (SHAPES, ATTRIBUTES, "file_attributes")]
        shape, attributes, of_file = cells
        if shape is None or attributes is None:
            what = "rows of the CSV whose attributes are not JSON: left out"
            sink.report.fault(what, f"{path} line {number}")
        elif shape:
            entry["regions"].append({"shape_attributes": shape, "region_attributes": attributes})
        entry.setdefault("file_attributes", of_file)
    return list(images.values()), None


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            # VIA 1 writes "#filename".
            columns = [str(name).strip().lstrip("#") for name in reader.fieldnames or []]
            if not {"filename", SHAPES, ATTRIBUTES} <= set(columns):
                found = ", ".join(columns)[:100] or "nothing"
                raise InputError(f"{path}: expected VIA's columns, found {found}")
            reader.fieldnames = columns
            for row in reader:
                yield reader.line_num, row
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: expected VIA's CSV in UTF-8, cannot read it: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    finally:
        csv.field_size_limit(before)


def _cell(text: object) -> dict[str, Any] | None:
    try:
        value = json.loads(text) if isinstance(text, str) and text.strip() else {}
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _is_image(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("filename"), str)


def _regions(entry: Entry) -> list[tuple[int, Any]]:
    """The regions with their numbers; VIA 1 has an object instead of a list."""
    found = entry.get("regions")
    rows = list(found.values()) if isinstance(found, dict) else found
    return list(enumerate(rows, 1)) if isinstance(rows, list) else []


def _attributes(region: Any) -> dict[str, Any]:
    found = region.get("region_attributes") if isinstance(region, dict) else None
    return found if isinstance(found, dict) else {}


def _file_name(stated: str) -> str:
    """The name as stated; of an address, or of a name that leads out, its last part."""
    name = unquote(urlsplit(stated).path) if "://" in stated[:12] else stated
    if name != stated or leads_out(name):
        name = PurePosixPath(name.replace("\\", "/")).name
    return name


def _photographs(folder: Path, names: list[str]) -> Path:
    """The folder beside a file that has one of the photographs."""
    places = photograph_places(folder)
    return next((p for p in places if any(is_file(p, name) for name in names[:20])), folder)


def _add_image(
    entry: Entry, name: str, sink: CocoSink, *, root: Path, classes: RegionClass
) -> None:
    note_keys(sink.report, entry, _OF_IMAGE, what="images of VIA", where=name)
    try:
        size = _upright_size(root, name, sink)
    except InputError as error:
        sink.report.fault("photographs that cannot be read: left out with their regions", error)
        return
    if size is None:
        what = (
            "images whose photograph is not there: left out with their regions, VIA's files hold "
            "no sizes; name the folder of the photographs with --images"
        )
        sink.report.fault(what, f"{root / name}")
        return
    kept = plain_values(entry.get("file_attributes"))
    more: dict[str, Any] = {"attributes": kept} if kept else {}
    number = sink.add_image(name, size, name, **more)
    if number is None:
        return
    parts = ImageParts(sink, number)
    for position, region in _regions(entry):
        _add_region(region, parts, sink, classes=classes, where=f"{name} region {position}")
    parts.finish()


def _upright_size(root: Path, name: str, sink: CocoSink) -> Size | None:
    if leads_out(name):
        return 0, 0  # the sink says so
    path = photograph_path(root, name)
    if not is_file(path.parent, path.name):
        return None
    with opened(path) as image:
        shown = Orientation.of(image)
    if shown.turn != 1:
        what = "photographs with an EXIF turn: VIA's regions are read as on the upright picture"
        sink.report.note(what, path)
    return shown.turned


def _add_region(
    region: Any, parts: ImageParts, sink: CocoSink, *, classes: RegionClass, where: str
) -> None:
    shape = region.get("shape_attributes") if isinstance(region, dict) else None
    if not isinstance(shape, dict):
        sink.report.fault(UNREADABLE, f"{where}: expected shape_attributes")
        return
    note_keys(sink.report, region, _OF_REGION, what="regions", where=where)
    kind, labels = shape.get("name"), classes.of(_attributes(region))
    if not isinstance(kind, str) or kind not in (*_SHAPES, *_NO_AREA):
        sink.report.fault(f"shapes of the unknown type {str(kind)[:30]!r}: left out", where)
    elif kind in _NO_AREA:
        sink.report.fault(f"{kind} {LEFT_OUT}", where)
    elif not labels:
        sink.report.fault("regions without a class: left out", where)
    else:
        if len(labels) > 1:
            sink.report.note("regions of several classes: the first is used", where)
        others = classes.others(_attributes(region))
        more: dict[str, Any] = {"attributes": others} if others else {}
        try:
            parts.add(labels[0], _SHAPES[kind](shape), where, more=more)
        except ValueError as error:
            sink.report.fault(UNREADABLE, f"{where}: {error}")
            return
        if kind in ("circle", "ellipse"):
            sink.report.note(ELLIPSES, where)


def _rect(shape: dict[str, Any]) -> ShapePart:
    return ShapePart(box=numbers_at(shape, "x", "y", "width", "height"))


def _circle(shape: dict[str, Any]) -> ShapePart:
    cx, cy, r = numbers_at(shape, "cx", "cy", "r")
    return ShapePart.of_points(ellipse((cx, cy), (r, r), 0))


def _ellipse(shape: dict[str, Any]) -> ShapePart:
    cx, cy, rx, ry, theta = numbers_at({"theta": 0, **shape}, "cx", "cy", "rx", "ry", "theta")
    return ShapePart.of_points(ellipse((cx, cy), (rx, ry), math.degrees(theta)))


def _polygon(shape: dict[str, Any]) -> ShapePart:
    columns = [shape.get("all_points_x"), shape.get("all_points_y")]
    lists = [column for column in columns if isinstance(column, list)]
    if len(lists) != 2 or len(lists[0]) != len(lists[1]):
        raise ValueError("expected all_points_x and all_points_y of the same length")
    values = [v for point in zip(*lists, strict=True) for v in point]
    return ShapePart.of_points(points_in_turn(values))


_SHAPES = {"rect": _rect, "circle": _circle, "ellipse": _ellipse, "polygon": _polygon}
"""VIA's shapes that have an area → their part."""
