"""COCO to a YOLO segment data set: a polygon for each mask, a box for each object without one."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import yaml

from halfmask.files.atomic import new_folder, put_text
from halfmask.formats.export_source import ExportInstance, ExportSource
from halfmask.formats.shapes import one_polygon
from halfmask.masks.outline import TOLERANCE


def write_yolo(given: ExportSource, out: Path) -> dict[str, int]:
    """Writes OUT/data.yaml and OUT/labels/*.txt.

    With the option images, OUT/images is a link to the photographs.

    Returns:
        The numbers of images, polygons and boxes.
    Raises:
        InputError: OUT exists already, or two images would share a label file.
    """
    boxes = polygons = 0
    wanted = given.options.tolerance
    tolerance = TOLERANCE if wanted is None else wanted
    with new_folder(out) as folder:
        for image in given.images():
            lines = [line for one in image.instances for line in _lines(one, tolerance)]
            masked = sum(i.mask is not None and not i.crowd for i in image.instances)
            polygons, boxes = polygons + masked, boxes + len(lines) - masked
            text = "".join(f"{line}\n" for line in lines)
            put_text(folder / "labels" / f"{image.stem}.txt", text)
        config = {"path": ".", "train": "images", "val": "images"}
        text = yaml.safe_dump(
            {**config, "names": dict(enumerate(given.names))}, sort_keys=False, allow_unicode=True
        )
        put_text(folder / "data.yaml", text)
        if (photographs := given.options.images) is not None:
            with suppress(OSError):  # a file system without links: the user copies them
                (folder / "images").symlink_to(photographs.resolve(), target_is_directory=True)
    if boxes and polygons:
        given.report.note(
            "rows that are boxes among polygons: Ultralytics refuses or strips such a mix, "
            "`halfmask complete` fills them",
            times=boxes,
        )
    return {"images": len(given), "polygons": polygons, "boxes": boxes}


def _lines(instance: ExportInstance, tolerance: float) -> list[str]:
    """The label line of an annotation; none for a crowd.

    The tolerance is for outlines of masks that no person drew.
    """
    height, width = instance.size
    if instance.crowd:
        instance.note("crowds: left out, YOLO would read them as objects")
        return []
    if instance.mask is None:
        x, y, w, h = instance.box
        values = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
    else:
        if instance.polygons is None or len(instance.polygons) > 1:
            instance.note(
                "masks of several parts, or RLE: one outline, parts and holes joined by "
                "bridges of no width"
            )
        polygon = one_polygon(instance.mask, instance.size, tolerance if instance.by_model else 0.0)
        values = [min(max(v / (width, height)[i % 2], 0.0), 1.0) for i, v in enumerate(polygon)]
    return [" ".join([str(instance.label), *map(_fraction, values)])]


def _fraction(value: float) -> str:
    """Ten decimals: 0.001 pixels survive on any image."""
    return f"{value:.10f}".rstrip("0").rstrip(".") or "0"
