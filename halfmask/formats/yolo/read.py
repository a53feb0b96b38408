"""YOLO label files to COCO. A file may mix boxes and polygons."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from halfmask.coco.images import opened
from halfmask.coco.photographs.orientation import Orientation
from halfmask.errors import InputError
from halfmask.files.regular import read_regular
from halfmask.formats.report import Options
from halfmask.formats.shapes import extent, pairs, pixels_of
from halfmask.formats.sink import CocoSink
from halfmask.formats.source_files import leads_out, text_of_bytes
from halfmask.formats.yolo.source import ALL, YoloSource, find_parts, find_source


@dataclass(frozen=True, kw_only=True)
class YoloRow:
    """One object. Coordinates are fractions of the image's width and height.

    Attributes:
        label: 0-based.
        box: centre x, centre y, width, height; None if there is a polygon.
        polygon: x1, y1, x2, y2, …; None if there is a box.
        score: the sixth number of a box, as detectors write it.
        keypoints: whether keypoints after the box were dropped.
    """

    label: int
    box: tuple[float, float, float, float] | None = None
    polygon: list[float] | None = None
    score: float | None = None
    keypoints: bool = False


def parse_line(line: str, keypoint_values: int = 0) -> YoloRow | str:
    """Returns the object of a label line, or its fault in words.

    5 numbers are a box, 6 a box and its score, an odd count from 7 a polygon. If
    data.yaml has a `kpt_shape`, 5 + that many numbers are a box and keypoints.

    Args:
        line: not blank.
        keypoint_values: count of the numbers that `kpt_shape` means, 0 without one.
    """
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        return "a word that is not a number"
    if not all(map(math.isfinite, values)):
        return "a number that is not finite"
    if values[0] < 0 or values[0] != int(values[0]):
        return "a class that is not a whole number"
    label, count = int(values[0]), len(values)
    posed = keypoint_values > 0 and count == 5 + keypoint_values
    if count in (5, 6) or posed:
        x, y, w, h = values[1:5]
        score = values[5] if count == 6 else None
        return YoloRow(label=label, box=(x, y, w, h), score=score, keypoints=posed)
    if count < 7:
        return f"{count} numbers, expected 5 (a box) or at least 7 (a polygon)"
    if count % 2 == 0:
        return "an odd number of polygon coordinates"
    return YoloRow(label=label, polygon=values[1:])


def read_yolo(source: Path, sink: CocoSink, options: Options) -> None:
    """Adds a YOLO data set (detect or segment) to a sink.

    A row of 5 numbers is a box, whatever the other rows are. With `options.whole`, or
    the split `all`, all parts are read, and each image has its `split`.

    Raises:
        InputError: see `find_source`.
    """
    if options.whole or options.split == ALL:
        split = None if options.split == ALL else options.split
        found = find_parts(source, options.images, split)
        _note_parts(found, sink)
    else:
        found = find_source(source, options.images, options.split)
    names = found.config.names
    sink.add_categories([{"id": label + 1, "name": name} for label, name in names.items() if name])
    for photograph in found.photographs:
        _add_photograph(photograph, found, sink=sink)
        options.advance(1, len(found.photographs))
    whole, named = options.split in (None, ALL), options.images is None
    _count_files(found, sink, whole=whole, named=named)


def _count_files(found: YoloSource, sink: CocoSink, *, whole: bool, named: bool) -> None:
    """Counts what was looked for and not found, and label files that are not used.

    Args:
        found: the data set.
        sink: whose report gets the counts.
        whole: whether all parts were read, so that other label files are left over.
        named: whether the photographs are where data.yaml says.
    """
    report, labels = sink.report, found.labels
    for what, where in found.config.faults():
        report.note(what, where)
    tails = found.tails if named else []
    what = "paths in data.yaml that are not here: found by their end"
    report.note(what, next(iter(tails), ""), times=len(tails))
    home = Path(os.path.normpath(found.config.folder.absolute()))
    away = [p for p in found.photographs if not _is_below(p, home)] if named else []
    what = "photographs outside the folder of data.yaml, which names them: read"
    report.note(what, next(iter(away), ""), times=len(away))
    without = [p for p in found.photographs if p not in labels.of]
    looked = ", ".join(map(str, labels.folders[:3]))
    if not labels.of:
        what = "photographs, and no label file of any: put them into `labels` beside `images`"
        report.fault(what, f"looked for one in {looked}, below {found.config.folder}", len(without))
    else:
        what = "photographs without a label file: read as images without objects"
        report.note(what, next(iter(without), ""), times=len(without))
    if labels.elsewhere is not None:
        what = "label files in a folder that no rule of YOLO names: used"
        report.note(what, labels.elsewhere, times=len(labels.of))
    what = "label files that fit several photographs: left out"
    report.fault(what, next(iter(labels.unclear), ""), times=len(labels.unclear))
    if whole:
        orphans = labels.orphans()
        what = "label files without a photograph, so without a size: left out"
        report.fault(what, next(iter(orphans), ""), times=len(orphans))


def _is_below(path: Path, folder: Path) -> bool:
    """Whether a path lies in a folder, by the names alone: links are the user's own."""
    return Path(os.path.normpath(path.absolute())).is_relative_to(folder)


def _note_parts(found: YoloSource, sink: CocoSink) -> None:
    sink.origin |= {"images": str(found.root.resolve()), "layout": found.layout}
    what = "parts that data.yaml names and that are not there"
    sink.report.note(what, ", ".join(found.absent), times=len(found.absent))
    what = "photographs in several parts: they count to the first"
    sink.report.note(what, next(iter(found.shared), ""), times=len(found.shared))


def _add_photograph(photograph: Path, found: YoloSource, *, sink: CocoSink) -> None:
    try:
        with opened(photograph) as image:
            shown = Orientation.of(image)
    except InputError as error:
        sink.report.fault("photographs that cannot be read: left out with their labels", error)
        return
    if shown.turn != 1:
        sink.report.note(
            "photographs with an EXIF rotation: their labels are read on the turned picture, as "
            "Ultralytics and viewers show it",
            photograph,
        )
    split = found.split_of.get(photograph)
    more = {} if split is None else {"split": split}
    name = _name_below(found.root, photograph)
    number = sink.add_image(name, shown.turned, photograph, **more)
    labels = found.labels.of.get(photograph)
    if number is None or labels is None:
        return
    try:
        text = text_of_bytes(read_regular(labels)).removeprefix("\ufeff")
    except OSError as error:
        what = "label files that cannot be read: their photographs get no labels"
        sink.report.fault(what, f"{labels}: {error.strerror or error}")
        return
    for line_number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            _add_line(line, number, found, sink=sink, where=f"{labels} line {line_number}")


def _add_line(line: str, image: int, found: YoloSource, *, sink: CocoSink, where: str) -> None:
    row = parse_line(line, found.config.keypoint_values)
    if isinstance(row, str):
        sink.report.fault(f"label lines with {row}: left out", where)
        return
    names = found.config.names
    if row.label not in names:
        sink.report.fault(f"label lines of a class beyond the {len(names)} names: left out", where)
        return
    category = row.label + 1
    if not names[row.label] and category not in sink.category_ids:
        name = f"class {row.label}"
        sink.report.note("classes without a name: called by their number", name)
        sink.add_categories([{"id": category, "name": name}])
    size = sink.size_of(image)
    assert size is not None
    height, width = size
    if row.keypoints:
        sink.report.note("rows with keypoints: their boxes are kept", where)
    if row.polygon is not None:
        polygon = [pixels_of(v, (width, height)[i % 2]) for i, v in enumerate(row.polygon)]
        # A box of its own, which stays if the polygon is broken.
        sink.add(image, category, where, segmentation=[polygon], bbox=extent(pairs(polygon)))
        return
    assert row.box is not None
    cx, cy, w, h = row.box
    bbox = [(cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height]
    sink.add(
        image, category, where, bbox=bbox, **({} if row.score is None else {"score": row.score})
    )


def _name_below(root: Path, photograph: Path) -> str:
    """The file name relative to the root; only the last part if it lies elsewhere."""
    try:
        name = photograph.relative_to(root).as_posix()
    except ValueError:
        return photograph.name
    return photograph.name if leads_out(name) else name
