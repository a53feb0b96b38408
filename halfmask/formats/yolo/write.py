"""COCO to a YOLO segment data set: a polygon where there is a mask, a box where there is none."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import yaml

from halfmask.files.atomic import new_folder, put_text
from halfmask.formats.book import Book, Instance
from halfmask.formats.options import Options
from halfmask.formats.report import Report
from halfmask.formats.shapes import one_polygon
from halfmask.formats.sink import Size


def write_yolo(source: Path, out: Path, tally: Report, options: Options) -> str:
    """Writes OUT/data.yaml and OUT/labels/*.txt; with `options.images`, OUT/images is a
    link to the photographs.

    Returns:
        What was written, in a line.
    Raises:
        InputError: no COCO file, OUT is there already, or two images would share a
            label file.
    """
    book = Book.read(source, tally, "YOLO")
    boxes = polygons = 0
    with new_folder(out) as folder:
        for page in book.pages():
            lines = []
            for instance in page.instances:
                line = _line(instance, page.size, tally)
                if line is not None:
                    lines.append(line)
                    polygons += instance.mask is not None
                    boxes += instance.mask is None
            put_text(folder / "labels" / f"{page.stem}.txt", "".join(f"{line}\n" for line in lines))
            options.progress(1, len(book.file.images))
        _put_config(folder, book.names)
        if options.images is not None:
            with suppress(
                OSError
            ):  # a file system without links: the photographs are put there by hand
                (folder / "images").symlink_to(options.images.resolve(), target_is_directory=True)
    if boxes and polygons:
        tally.note(
            "rows that are boxes among polygons: Ultralytics refuses or strips such a mix, "
            "`halfmask complete` fills them",
            times=boxes,
        )
    return f"{out}: {len(book.file.images)} images, {polygons} polygons, {boxes} boxes"


def _line(instance: Instance, size: Size, tally: Report) -> str | None:
    height, width = size
    where = f"annotation {instance.annotation['id']}"
    if instance.crowd:
        tally.note("crowds: left out, YOLO would take them for objects", where)
        return None
    if instance.mask is None:
        x, y, w, h = instance.box
        values = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
    else:
        if instance.polygons is None or len(instance.polygons) > 1:
            tally.note(
                "masks of several parts, or RLE: one outline, parts and holes joined by "
                "bridges of no width",
                where,
            )
        polygon = one_polygon(instance.mask, size)
        values = [min(max(v / (width, height)[i % 2], 0.0), 1.0) for i, v in enumerate(polygon)]
    return " ".join([str(instance.label), *map(_share, values)])


def _share(value: float) -> str:
    """Ten-billionths: a thousandth of a pixel survives on any image."""
    return f"{value:.10f}".rstrip("0").rstrip(".") or "0"


def _put_config(folder: Path, names: list[str]) -> None:
    config = {"path": ".", "train": "images", "val": "images", "names": dict(enumerate(names))}
    put_text(folder / "data.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
