"""A Supervisely project to COCO: meta.json, and `ann` beside `img` in each data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from halfmask.errors import InputError
from halfmask.files.json_lines import parse_json
from halfmask.formats.read_only.bitmaps import bitmap_of_png, png_of_text, unzipped
from halfmask.formats.read_only.parts import (
    LEFT_OUT,
    UNREADABLE,
    ImageParts,
    ShapePart,
    cut_out,
    group_of,
    is_file,
    name_of_label,
    note_keys,
    note_photographs,
    plain_values,
    points_of,
)
from halfmask.formats.report import Options
from halfmask.formats.shapes import extent
from halfmask.formats.sink import CocoSink, usable_size
from halfmask.formats.source_files import PHOTOGRAPHS, size_of_photograph

META, ANNOTATIONS, PICTURES = "meta.json", "ann", "img"
EXPECTED = f"expected a Supervisely project: a folder with {META}, and data sets with `ann`"
_OF_FILE = {"description", "tags", "size", "objects", "name", "imageId", "key"}
_OF_OBJECT = {
    *("id", "classId", "classTitle", "description", "geometryType", "labelerLogin", "createdAt"),
    *("updatedAt", "tags", "points", "bitmap", "instance", "key", "objectId", "priority"),
    *("shape", "area", "nnCreated", "nnUpdated", "customData"),
}
_SHAPES = ("rectangle", "polygon", "bitmap")


def read_supervisely(source: Path, sink: CocoSink, options: Options) -> None:
    """Adds a project, with all its data sets, or one data set of a project.

    Objects of one `instance` and class are one object. The corners of a rectangle in
    whole numbers are pixels, and the last one is inside, as in Supervisely's SDK.

    Args:
        source: the folder of the project, or of a data set in it.
        sink: receives them.
        options: `split` selects a data set by its name.
    Raises:
        InputError: no such folder, or no data set of that name.
    """
    root = project_of(source)
    if root is None:
        raise InputError(f"{source}: {EXPECTED}, found none")
    shapes = _classes(root / META)
    for name in shapes:
        sink.category(name)
    folders = sorted(p for p in source.rglob(ANNOTATIONS) if p.is_dir())
    names = {folder: folder.parent.relative_to(root).as_posix() for folder in folders}
    if options.split is not None:
        folders = [folder for folder in folders if names[folder] == options.split]
    if not folders:
        found = ", ".join(names.values()) or "none"
        asked = "" if options.split is None else f" called {options.split}"
        raise InputError(f"{source}: expected a data set{asked}, found {found}")
    several = options.whole and len(names) > 1
    files = [(folder, file) for folder in folders for file in sorted(folder.glob("*.json"))]
    for folder, file in files:
        more = {"split": names[folder]} if several else {}
        _add_file(file, sink, options, root=root, shapes=shapes, more=more)
        options.advance(1, len(files))


def project_of(folder: Path) -> Path | None:
    """Returns the folder of the project that a folder or its data set is; None if of none."""
    if (folder / META).is_file():
        return folder
    below = (folder / ANNOTATIONS).is_dir() and (folder.parent / META).is_file()
    return folder.parent if below else None


def _classes(meta: Path) -> dict[str, str]:
    """Class → its shape, from meta.json."""
    document = parse_json(meta, f"expected {META} of a Supervisely project", [])
    records = document.get("classes") if isinstance(document, dict) else None
    if not isinstance(records, list):
        raise InputError(f"{meta}: expected an object with a list of classes, as in Supervisely")
    named = [(name_of_label(r.get("title")), r) for r in records if isinstance(r, dict)]
    return {name: str(r.get("shape")) for name, r in named if name is not None}


def _add_file(
    file: Path,
    sink: CocoSink,
    options: Options,
    *,
    root: Path,
    shapes: dict[str, str],
    more: dict[str, Any],
) -> None:
    try:
        document = parse_json(file, "expected an annotation file of Supervisely", [])
        if not isinstance(document, dict) or not isinstance(document.get("objects"), list):
            raise InputError(f"{file}: expected an object with a list of objects")
        name = _file_name(file, root)
        height, width = _stated_size(document)
        size = usable_size(height, width) or size_of_photograph(options.images or root, name)
    except InputError as error:
        sink.report.fault("files that cannot be read: left out", error)
        return
    note_keys(sink.report, document, _OF_FILE, what="annotation files", where=file)
    kept = _tags(document) | plain_values({"description": document.get("description")})
    more = more | ({"attributes": kept} if kept else {})
    number = sink.add_image(name, size or (0, 0), file, **more)
    if number is None:
        return
    note_photographs(sink, options, root, name=name)
    parts = ImageParts(sink, number)
    for position, thing in enumerate(document["objects"], 1):
        _add_object(thing, parts, sink, shapes=shapes, where=f"{file} object {position}")
    parts.finish()


def _file_name(file: Path, root: Path) -> str:
    """The photograph's name below the project: that of the file without `.json`."""
    folder = (file.parent.parent / PICTURES).relative_to(root).as_posix()
    stated = f"{folder}/{file.name[: -len('.json')]}"
    if is_file(root, stated) or Path(stated).suffix.lower() in PHOTOGRAPHS:
        return stated
    there = (f"{stated}{ending}" for ending in sorted(PHOTOGRAPHS))  # old projects
    return next((name for name in there if is_file(root, name)), stated)


def _stated_size(document: dict[str, Any]) -> tuple[object, object]:
    size = document.get("size")
    return (size.get("height"), size.get("width")) if isinstance(size, dict) else (None, None)


def _add_object(
    thing: Any, parts: ImageParts, sink: CocoSink, *, shapes: dict[str, str], where: str
) -> None:
    label = name_of_label(thing.get("classTitle")) if isinstance(thing, dict) else None
    if label is None:
        sink.report.fault("objects without a classTitle: left out", where)
        return
    note_keys(sink.report, thing, _OF_OBJECT, what="objects", where=where)
    if label not in shapes:
        sink.report.note(f"objects of a class that {META} does not list", f"{where}: {label}")
    kind = thing.get("geometryType") or shapes.get(label)
    if kind not in _SHAPES:
        sink.report.fault(f"{str(kind)[:30]} {LEFT_OUT}", where)
        return
    kept = _tags(thing) | plain_values({"description": thing.get("description")})
    more: dict[str, Any] = {"attributes": kept} if kept else {}
    try:
        part = _part(kind, thing, parts, sink=sink, where=where)
        parts.add(label, part, where, group=group_of(thing.get("instance")), more=more)
    except ValueError as error:
        sink.report.fault(UNREADABLE, f"{where}: {error}")


def _part(
    kind: str, thing: dict[str, Any], parts: ImageParts, *, sink: CocoSink, where: str
) -> ShapePart:
    """The box, polygon or bitmap of an object.

    Raises:
        ValueError: the object is malformed.
    """
    if kind == "bitmap":
        found = thing.get("bitmap")
        if not isinstance(found, dict):
            raise ValueError("expected a bitmap with data and origin")
        x, y = points_of([found.get("origin")])[0]
        png = unzipped(png_of_text(found.get("data")), parts.size)
        return ShapePart(bitmap=(bitmap_of_png(png, parts.size), (round(x), round(y))))
    points = thing.get("points")
    if not isinstance(points, dict):
        raise ValueError("expected points with exterior and interior")
    if kind == "polygon":
        holes = points.get("interior") or []
        if not isinstance(holes, list):
            raise ValueError("expected interior as a list")
        inner = [points_of(hole) for hole in holes]
        outer = points_of(points.get("exterior"), 3)
        return cut_out(outer, inner, sink, size=parts.size, where=where)
    x, y, w, h = extent(points_of(points.get("exterior"), 2))
    whole = all(float(v).is_integer() for v in (x, y, w, h))
    return ShapePart(box=[x, y, w + whole, h + whole])


def _tags(record: dict[str, Any]) -> dict[str, Any]:
    """Tags with their values; one without a value is true."""
    tags = record.get("tags")
    rows = [tag for tag in tags if isinstance(tag, dict)] if isinstance(tags, list) else []
    values = {str(tag.get("name")): tag.get("value") for tag in rows}
    return plain_values({name: True if v is None else v for name, v in values.items()})
