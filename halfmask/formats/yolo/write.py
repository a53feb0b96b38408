"""COCO to a YOLO segment data set: a polygon for each mask, a box for each object without one."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import yaml

from halfmask.files.atomic import new_folder, put_text
from halfmask.formats.export_source import ExportImage, ExportInstance, ExportSource
from halfmask.formats.report import ConversionReport, Options
from halfmask.formats.shapes import one_polygon
from halfmask.formats.sink import Size


def write_yolo(
    source: Path, out: Path, report: ConversionReport, options: Options
) -> dict[str, int]:
    """Writes OUT/data.yaml and OUT/labels/*.txt.

    With `options.images`, OUT/images is a link to the photographs.

    Returns:
        The numbers of images, polygons and boxes.
    Raises:
        InputError: not a COCO file, OUT exists already, or two images would share a
            label file.
    """
    given = ExportSource.read(source, report, "YOLO")
    boxes = polygons = 0
    with new_folder(out) as folder:
        for image in given.images():
            lines = _lines(image, report)
            masked = sum(i.mask is not None and not i.crowd for i in image.instances)
            polygons, boxes = polygons + masked, boxes + len(lines) - masked
            text = "".join(f"{line}\n" for line in lines)
            put_text(folder / "labels" / f"{image.stem}.txt", text)
            options.advance(1, len(given))
        _put_config(folder, given.names)
        if options.images is not None:
            with suppress(OSError):  # a file system without links: the user copies them
                (folder / "images").symlink_to(options.images.resolve(), target_is_directory=True)
    if boxes and polygons:
        report.note(
            "rows that are boxes among polygons: Ultralytics refuses or strips such a mix, "
            "`halfmask complete` fills them",
            times=boxes,
        )
    return {"images": len(given), "polygons": polygons, "boxes": boxes}


def _lines(image: ExportImage, report: ConversionReport) -> list[str]:
    lines = []
    for instance in image.instances:
        if instance.crowd:
            report.note("crowds: left out, YOLO would take them for objects", instance.where)
        else:
            lines.append(_line(instance, image.size, report))
    return lines


def _line(instance: ExportInstance, size: Size, report: ConversionReport) -> str:
    height, width = size
    if instance.mask is None:
        x, y, w, h = instance.box
        values = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
    else:
        if instance.polygons is None or len(instance.polygons) > 1:
            report.note(
                "masks of several parts, or RLE: one outline, parts and holes joined by "
                "bridges of no width",
                instance.where,
            )
        polygon = one_polygon(instance.mask, size)
        values = [min(max(v / (width, height)[i % 2], 0.0), 1.0) for i, v in enumerate(polygon)]
    return " ".join([str(instance.label), *map(_fraction, values)])


def _fraction(value: float) -> str:
    """Ten decimals: 0.001 pixels survive on any image."""
    return f"{value:.10f}".rstrip("0").rstrip(".") or "0"


def _put_config(folder: Path, names: list[str]) -> None:
    config = {"path": ".", "train": "images", "val": "images", "names": dict(enumerate(names))}
    put_text(folder / "data.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
