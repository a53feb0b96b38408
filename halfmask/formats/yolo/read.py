"""YOLO label files to COCO: boxes and polygons, mixed as they like in one file."""

from __future__ import annotations

from pathlib import Path

from halfmask.coco.images import opened
from halfmask.errors import InputError
from halfmask.formats.names import leads_out
from halfmask.formats.options import Options
from halfmask.formats.sink import CocoSink, Size
from halfmask.formats.yolo.labels import Row, parse_line
from halfmask.formats.yolo.source import YoloSource, find_source

_ORIENTATION = 0x0112
"""EXIF's tag; 1 is upright."""


def read_yolo(source: Path, sink: CocoSink, options: Options) -> None:
    """Adds a YOLO data set (detect or segment) to a sink. A row of 5 numbers stays a
    box, whatever the other rows are.

    Raises:
        InputError: see `find_source`.
    """
    found = find_source(source, options.images, options.split)
    sink.add_categories([{"id": label + 1, "name": name} for label, name in found.names.items()])
    used = set()
    for photograph in found.photographs:
        labels = found.label_file(photograph)
        used.add(labels)
        _add_photograph(photograph, labels, found, sink)
        options.progress(1, len(found.photographs))
    orphans = sorted(_label_files(used) - used)
    if orphans and options.split is None:
        what = "label files without a photograph, so without a size: left out"
        sink.tally.fault(what, orphans[0], times=len(orphans))


def _add_photograph(photograph: Path, labels: Path, found: YoloSource, sink: CocoSink) -> None:
    name = _name_below(found.root, photograph)
    try:
        with opened(photograph) as image:
            size, turn = (image.height, image.width), image.getexif().get(_ORIENTATION, 1)
    except InputError as error:
        sink.tally.fault("photographs that cannot be read: left out with their labels", error)
        return
    if turn != 1:
        what = "photographs with an EXIF turn: read as stored, their labels may mean the turned picture"
        sink.tally.note(what, photograph)
    number = sink.add_image(name, size, photograph)
    if number is None or not labels.is_file():
        return
    text = labels.read_text(encoding="utf-8-sig", errors="replace")
    for line_number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            where = f"{labels} line {line_number}"
            row = parse_line(line, found.keypoint_values)
            if isinstance(row, str):
                sink.tally.fault(f"label lines with {row}: left out", where)
            elif row.label not in found.names:
                sink.tally.fault(
                    f"label lines of a class beyond the {len(found.names)} names: left out", where
                )
            else:
                _add_row(row, number, size, found.names[row.label], sink, where)


def _add_row(row: Row, image: int, size: Size, name: str, sink: CocoSink, where: str) -> None:
    height, width = size
    if row.keypoints:
        sink.tally.note("rows with keypoints: their boxes are kept", where)
    if row.polygon is not None:
        polygon = [round(v * (width, height)[i % 2], 3) for i, v in enumerate(row.polygon)]
        sink.add(image, name, where, segmentation=[polygon], bbox=_extent(polygon))
        return
    assert row.box is not None
    cx, cy, w, h = row.box
    bbox = [(cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height]
    more = {} if row.score is None else {"score": row.score}
    sink.add(image, name, where, bbox=bbox, **more)


def _extent(polygon: list[float]) -> list[float]:
    """The box of a polygon, which stays where the polygon is broken."""
    xs, ys = polygon[0::2], polygon[1::2]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def _name_below(root: Path, photograph: Path) -> str:
    """The file name relative to the root; a photograph that a list found elsewhere is
    named by its last part.
    """
    try:
        name = photograph.relative_to(root).as_posix()
    except ValueError:
        return photograph.name
    return photograph.name if leads_out(name) else name


def _label_files(used: set[Path]) -> set[Path]:
    """All label files in the folders of those that belong to photographs."""
    return {
        file
        for folder in {labels.parent for labels in used}
        for file in folder.glob("*.txt")
        if file.name != "classes.txt"
    }
