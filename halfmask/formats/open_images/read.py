"""Open Images (CSV, and mask PNGs) to COCO."""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Iterator, Sequence
from io import TextIOWrapper
from pathlib import Path

import numpy as np
from PIL import Image

from halfmask.coco.images import opened
from halfmask.errors import InputError
from halfmask.files.regular import open_regular
from halfmask.formats.report import Options
from halfmask.formats.sink import CocoSink, Size
from halfmask.formats.source_files import PHOTOGRAPHS, leads_out
from halfmask.formats.xml_stream import numbers_of
from halfmask.masks.rle import rle_of

_FLAGS = ("IsOccluded", "IsTruncated", "IsDepiction", "IsInside")
_GROUP = "IsGroupOf"
_FLAG_VALUES = {
    **dict.fromkeys(("1", "1.0", "true"), 1),
    **dict.fromkeys(("0", "0.0", "false", "-1", "-1.0", ""), 0),
}
"""Spellings of a flag that is set, and of one that is not, or not known (−1)."""
_CORNERS = ("XMin", "XMax", "YMin", "YMax")
_BOXES = {"ImageID", "LabelName", *_CORNERS}
_MASK_BOX = ("BoxXMin", "BoxXMax", "BoxYMin", "BoxYMax")
_NEAR = 2e-3
"""Fraction of the image's side by which boxes of one object may differ by rounding."""
_MASKS = {"MaskPath", "ImageID", "LabelName", *_MASK_BOX}


def read_open_images(source: Path, sink: CocoSink, options: Options) -> None:
    """Adds the boxes of one part of Open Images to a sink, with their masks if any.

    The folder holds `*annotations-bbox.csv` and, optionally,
    `*class-descriptions*.csv` (names of classes), `*object-segmentation.csv` and
    `masks/`. `IsGroupOf` becomes `iscrowd`, and the report counts it: a box around many
    objects, in which no detection of the class is wrong. Only the ids of images are in
    memory; the table of masks is a file.

    Args:
        source: the folder, or the CSV of boxes in it.
        sink: receives them.
        options: `images` is needed, as the CSV files have no sizes; `split` selects
            one of several files by a part of its name.
    Raises:
        InputError: a file is missing or has other columns, or there are several.
    """
    if options.images is None or not options.images.is_dir():
        raise InputError(
            f"{source}: Open Images has no sizes of images: name the folder of the "
            "photographs, --images DIR"
        )
    folder = source if source.is_dir() else source.parent
    boxes = source if source.is_file() else _file(folder, "*annotations-bbox.csv", options.split)
    names = _class_names(_file(folder, "*class-descriptions*.csv", None, optional=True))
    segments = _file(folder, "*object-segmentation.csv", options.split, optional=True)
    if boxes is None:
        raise InputError(f"{folder}: expected the CSV of boxes, *annotations-bbox.csv")
    for name in sorted(set(names.values())):
        sink.category(name)
    total = sum(file.stat().st_size for file in (boxes, segments) if file is not None)
    reader = _Rows(sink, names, options.images, masks=options.masks or folder / "masks")
    with _MaskTable() as table:
        for where, row in _rows(segments, _MASKS, options, total=total) if segments else ():
            if not table.put(row):
                sink.report.fault("rows of masks without a box of four numbers: left out", where)
        for where, row in _rows(boxes, _BOXES, options, total=total):
            reader.add_box(row, table, where)
        for row in table.left():
            sink.report.note(
                "masks without a row in the CSV of boxes: added with their own box", row["MaskPath"]
            )
            reader.add_box(row, None, f"mask {row['MaskPath']}")


class _MaskTable:
    """Finds the mask of a box: they share an image, a class and a similar box.

    The millions of rows of the CSV of masks are in a temporary SQLite file.
    """

    def __init__(self) -> None:
        self._rows = sqlite3.connect("")
        self._rows.execute("CREATE TABLE masks (path, image, label, x0, x1, y0, y1)")
        self._rows.execute("CREATE INDEX place ON masks (image, label)")

    def put(self, row: dict[str, str]) -> bool:
        """Adds a row; returns False if it has no box of four numbers."""
        box = numbers_of(row.get(column) for column in _MASK_BOX)
        if box is None or not row["MaskPath"]:
            return False
        values = (row["MaskPath"], row["ImageID"], row["LabelName"], *box)
        self._rows.execute("INSERT INTO masks VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        return True

    def take(self, image: str, label: str, box: Sequence[float]) -> str | None:
        """Removes the mask with the nearest box and returns its file name; None if none is near."""
        query = "SELECT rowid, path, x0, x1, y0, y1 FROM masks WHERE image = ? AND label = ?"
        rows = self._rows.execute(query, (image, label))
        best = min(((_gap(row[2:], box), row[0], row[1]) for row in rows), default=None)
        if best is None or best[0] > _NEAR:
            return None
        self._rows.execute("DELETE FROM masks WHERE rowid = ?", (best[1],))
        return str(best[2])

    def left(self) -> Iterator[dict[str, str]]:
        """Yields the rows that no box has taken, by image."""
        columns = ("MaskPath", "ImageID", "LabelName", *_MASK_BOX)
        for row in self._rows.execute("SELECT * FROM masks ORDER BY image, rowid"):
            yield dict(zip(columns, map(str, row), strict=True))

    def __enter__(self) -> _MaskTable:
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()


def _gap(first: Sequence[float], second: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(first, second, strict=True))


class _Rows:
    """Adds rows to a sink, and each image with its first row."""

    def __init__(self, sink: CocoSink, names: dict[str, str], images: Path, *, masks: Path) -> None:
        self.sink, self.names, self.images, self.masks = sink, names, images, masks
        self.ids: dict[str, int | None] = {}

    def add_box(self, row: dict[str, str], table: _MaskTable | None, where: str) -> None:
        """Adds a row of the CSV of boxes or, if there is no table, a row of the CSV of masks."""
        corners = numbers_of(row.get(key) for key in (_MASK_BOX if table is None else _CORNERS))
        image = self._image(row["ImageID"], where)
        if image is None:
            return
        if corners is None:
            self.sink.report.fault("rows of boxes without four numbers: left out", where)
            return
        size = self.sink.size_of(image)
        assert size is not None
        height, width = size
        x0, x1, y0, y1 = corners
        bbox = [x0 * width, y0 * height, (x1 - x0) * width, (y1 - y0) * height]
        name = row["LabelName"]
        path = row["MaskPath"] if table is None else table.take(row["ImageID"], name, corners)
        segmentation = None if path is None else self._mask(path, size)
        label, more = self.names.get(name, name), self._more(row, where)
        self.sink.add(image, label, where, bbox=bbox, segmentation=segmentation, **more)

    def _more(self, row: dict[str, str], where: str) -> dict[str, object]:
        """iscrowd for a group, and the set flags as `attributes`; counts odd flags."""
        values = {
            flag: _FLAG_VALUES.get(row.get(flag, "").strip().lower()) for flag in (_GROUP, *_FLAGS)
        }
        odd = [flag for flag, value in values.items() if value is None]
        self.sink.report.fault(
            "flags that are not 0, 1 or -1: read as not set",
            f"{where}: {', '.join(f'{flag} {row[flag][:20]!r}' for flag in odd)}",
            len(odd),
        )
        group = values.pop(_GROUP) == 1
        self.sink.report.note(
            "boxes of groups (IsGroupOf): read as crowds (iscrowd: 1)", where, int(group)
        )
        attributes = {flag: 1 for flag, value in values.items() if value == 1}
        return ({"iscrowd": 1} if group else {}) | (
            {"attributes": attributes} if attributes else {}
        )

    def _image(self, name: str, where: str) -> int | None:
        what = "rows of images without a photograph that can be read: left out"
        if name in self.ids:
            if self.ids[name] is None:
                self.sink.report.fault(what, where)
            return self.ids[name]
        self.ids[name] = None
        endings = () if leads_out(name) else sorted(PHOTOGRAPHS)
        tries = (self.images / f"{name}{ending}" for ending in endings)
        path = next((p for p in tries if p.is_file()), None)
        try:
            if path is None:
                raise InputError(f"no photograph {name!r}")
            with opened(path) as image:
                size = image.height, image.width
        except InputError as error:
            self.sink.report.fault(what, f"{where}: {error}")
            return None
        self.ids[name] = self.sink.add_image(path.name, size, where)
        return self.ids[name]

    def _mask(self, name: str, size: Size) -> dict[str, object] | None:
        """The RLE of a mask PNG, resized to the image; None, and a fault, without a PNG."""
        tries = [] if leads_out(name) else [self.masks / name, self.masks / name[:1].upper() / name]
        path = next((p for p in tries if p.is_file()), None)
        if path is None:
            what = "masks without a PNG: the box is kept without one"
            self.sink.report.fault(what, self.masks / name)
            return None
        try:
            with opened(path) as image:
                gray = image.convert("L")
        except InputError as error:
            what = "mask PNGs that cannot be read: the box is kept without one"
            self.sink.report.fault(what, error)
            return None
        if (gray.height, gray.width) != size:
            gray = gray.resize((size[1], size[0]), Image.Resampling.NEAREST)
        return rle_of(np.asarray(gray), (0, 0), size)


def _rows(
    path: Path, columns: set[str], options: Options, *, total: int
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields file and line, and the columns, of the rows of a CSV."""
    try:
        with _text_of(path) as file:
            reader = csv.DictReader(file)
            missing = columns - set(reader.fieldnames or [])
            if missing:
                raise InputError(
                    f"{path}: expected the columns of Open Images, not there: "
                    f"{', '.join(sorted(missing))}"
                )
            for row in reader:
                read = sum(map(len, filter(None, row.values()))) + len(row)  # without the quotes
                options.advance(read, total)
                texts = {k: v or "" for k, v in row.items() if isinstance(k, str)}
                yield f"{path} line {reader.line_num}", texts
    except (csv.Error, OSError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _text_of(path: Path) -> TextIOWrapper:
    return TextIOWrapper(open_regular(path), encoding="utf-8-sig", errors="replace", newline="")


def _file(folder: Path, pattern: str, split: str | None, *, optional: bool = False) -> Path | None:
    """The only file that matches a pattern."""
    found = [p for p in sorted(folder.glob(pattern)) if split is None or split in p.name]
    if len(found) > 1:
        raise InputError(
            f"{folder}: {len(found)} files {pattern}: {', '.join(p.name for p in found[:4])}; "
            "choose with --split train"
        )
    if not found and not optional:
        raise InputError(f"{folder}: expected a file {pattern}, there is none")
    return found[0] if found else None


def _class_names(path: Path | None) -> dict[str, str]:
    """Id of a class, for example /m/01g317, → its name. Only some versions have a header."""
    if path is None:
        return {}
    try:
        with _text_of(path) as file:
            rows = [row for row in csv.reader(file) if len(row) >= 2]
    except (csv.Error, OSError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    return {row[0]: row[1] for row in rows if row[0] != "LabelName"}
