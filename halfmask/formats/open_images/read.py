"""Open Images (CSV, and mask PNGs) to COCO."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from halfmask.coco.images import opened
from halfmask.errors import InputError
from halfmask.formats.names import leads_out
from halfmask.formats.open_images.masks import BOX, MaskTable, numbers_of
from halfmask.formats.options import Options
from halfmask.formats.sink import CocoSink, Size
from halfmask.formats.yolo.source import PHOTOGRAPHS
from halfmask.masks.rle import rle_of

_FLAGS = ("IsOccluded", "IsTruncated", "IsDepiction", "IsInside")
_BOXES = {"ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax"}
_MASKS = {"MaskPath", "ImageID", "LabelName", *BOX}


def read_open_images(source: Path, sink: CocoSink, options: Options) -> None:
    """Adds the boxes of one part of Open Images to a sink, each with its mask where
    there is one.

    Looked for in the folder: `*annotations-bbox.csv`; `*class-descriptions*.csv` (names
    of classes), `*object-segmentation.csv` and `masks/` if they are there. `IsGroupOf`
    becomes `iscrowd`. In memory are the ids of images; the table of masks is a file.

    Args:
        source: the folder, or the CSV of boxes in it.
        options: `images` is needed, as the CSV files have no sizes; `split` chooses
            among several files by the start of their names.
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
    reader = _Reader(sink, names, options.images, options.masks or folder / "masks")
    with MaskTable() as table:
        if segments is not None:
            for where, row in _rows(segments, _MASKS, options, _total(boxes, segments)):
                if not table.put(row):
                    sink.tally.fault("rows of masks without a box of four numbers: left out", where)
        for where, row in _rows(boxes, _BOXES, options, _total(boxes, segments)):
            reader.add_box(row, table, where)
        for row in table.left():
            sink.tally.note(
                "masks without a row in the CSV of boxes: added with their own box", row["MaskPath"]
            )
            reader.add_box(row, None, f"mask {row['MaskPath']}")


class _Reader:
    """Adds rows to a sink; knows which images are there."""

    def __init__(self, sink: CocoSink, names: dict[str, str], images: Path, masks: Path) -> None:
        self.sink, self.names, self.images, self.masks = sink, names, images, masks
        self.ids: dict[str, int | None] = {}

    def add_box(self, row: dict[str, str], table: MaskTable | None, where: str) -> None:
        """Adds a row of the CSV of boxes, or, without a table, one of masks."""
        shares = numbers_of(row, ("XMin", "XMax", "YMin", "YMax") if table is not None else BOX)
        image = self._image(row["ImageID"], where)
        if image is None:
            return
        if shares is None:
            self.sink.tally.fault("rows of boxes without four numbers: left out", where)
            return
        size = self.sink.size_of(image)
        assert size is not None
        height, width = size
        x0, x1, y0, y1 = shares
        bbox = [x0 * width, y0 * height, (x1 - x0) * width, (y1 - y0) * height]
        path = (
            row["MaskPath"]
            if table is None
            else table.take(row["ImageID"], row["LabelName"], shares)
        )
        segmentation = None if path is None else self._mask(path, size)
        label = self.names.get(row["LabelName"], row["LabelName"])
        self.sink.add(image, label, where, bbox, segmentation, **_more(row))

    def _image(self, name: str, where: str) -> int | None:
        if name not in self.ids:
            self.ids[name] = self._new_image(name, where)
        elif self.ids[name] is None:
            self.sink.tally.fault(
                "rows of images without a photograph that can be read: left out", where
            )
        return self.ids[name]

    def _new_image(self, name: str, where: str) -> int | None:
        tries = (
            []
            if leads_out(name)
            else [self.images / f"{name}{ending}" for ending in sorted(PHOTOGRAPHS)]
        )
        path = next((p for p in tries if p.is_file()), None)
        try:
            if path is None:
                raise InputError(f"no photograph {name!r}")
            with opened(path) as image:
                return self.sink.add_image(path.name, (image.height, image.width), where)
        except InputError as error:
            self.sink.tally.fault(
                "rows of images without a photograph that can be read: left out",
                f"{where}: {error}",
            )
            return None

    def _mask(self, name: str, size: Size) -> dict[str, object] | None:
        """The RLE of a mask PNG, drawn anew at the image's size where its own is
        another; None, and counted, without one.
        """
        tries = [] if leads_out(name) else [self.masks / name, self.masks / name[:1].upper() / name]
        path = next((p for p in tries if p.is_file()), None)
        if path is None:
            self.sink.tally.fault(
                "masks whose PNG is not there: the box is kept without one", self.masks / name
            )
            return None
        try:
            with opened(path) as image:
                gray = image.convert("L")
                if (gray.height, gray.width) != size:
                    gray = gray.resize((size[1], size[0]), Image.Resampling.NEAREST)
                return rle_of(np.asarray(gray), (0, 0), size)
        except InputError as error:
            self.sink.tally.fault(
                "mask PNGs that cannot be read: the box is kept without one", error
            )
            return None


def _more(row: dict[str, str]) -> dict[str, object]:
    """iscrowd for a group, and the flags that are set as `attributes`."""
    more: dict[str, object] = {"iscrowd": 1} if row.get("IsGroupOf") == "1" else {}
    attributes = {flag: 1 for flag in _FLAGS if row.get(flag) == "1"}
    return more | ({"attributes": attributes} if attributes else {})


def _rows(
    path: Path, columns: set[str], options: Options, total: int
) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV as dictionaries, each with its place."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            reader = csv.DictReader(file)
            missing = columns - set(reader.fieldnames or [])
            if missing:
                raise InputError(
                    f"{path}: expected the columns of Open Images, not there: "
                    f"{', '.join(sorted(missing))}"
                )
            for row in reader:
                options.progress(
                    sum(map(len, filter(None, row.values()))) + len(row), total
                )  # about: without quotes
                yield (
                    f"{path} line {reader.line_num}",
                    {k: v or "" for k, v in row.items() if isinstance(k, str)},
                )
    except (csv.Error, OSError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _total(*files: Path | None) -> int:
    return sum(file.stat().st_size for file in files if file is not None)


def _file(folder: Path, pattern: str, split: str | None, *, optional: bool = False) -> Path | None:
    """The one file of a pattern."""
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
    """Id of a class, such as /m/01g317 → its name. Some versions have a header, some none."""
    if path is None:
        return {}
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = [row for row in csv.reader(file) if len(row) >= 2]
    return {row[0]: row[1] for row in rows if row[0] != "LabelName"}
