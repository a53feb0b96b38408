"""COCO to a YOLO segment data set: a polygon for each mask, a box for each object without one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import yaml

from halfmask.coco.supervision import provenance
from halfmask.errors import InputError
from halfmask.files.folders import new_folder, put_text
from halfmask.formats.export_parts import ExportImage, ExportInstance, PhotographLinks, differ
from halfmask.formats.export_source import ExportSource
from halfmask.formats.shapes import extent, one_polygon, pairs
from halfmask.formats.source_files import PHOTOGRAPHS
from halfmask.formats.yolo.layout import YoloLayout, label_place, part_of
from halfmask.masks.outline import TOLERANCE


def write_yolo(given: ExportSource, out: Path) -> dict[str, int]:
    """Writes OUT/data.yaml, label files and, with the option images, photographs.

    A file that was read from a YOLO data set gets its folders, parts and class numbers
    again. Of another file with parts, each gets its own folder.

    Returns:
        The numbers of images, polygons and boxes.
    Raises:
        InputError: OUT exists already, or two images would share a label file.
    """
    wanted = given.options.tolerance
    tolerance = TOLERANCE if wanted is None else wanted
    layout = YoloLayout.of(given)
    counts: Counter[str] = Counter()
    placed: list[tuple[PurePosixPath, object]] = []
    used: dict[PurePosixPath, str] = {}
    with new_folder(out) as folder:
        links = PhotographLinks(given.photographs, folder, given.report, copy=given.options.copy)
        for image in given.images():
            part = part_of(image.record)
            place = layout.photograph(image.name, part)
            labels = label_place(place)
            if used.setdefault(labels, image.name) != image.name:
                raise InputError(
                    f"{given.file.name}: {used[labels]!r} and {image.name!r} would share one "
                    f"label file {labels}; rename one of them"
                )
            lines = _label_lines(image, layout, counts, tolerance=tolerance)
            put_text(folder / labels, "".join(f"{line}\n" for line in lines))
            links.put(image.name, place)
            placed.append((place, part))
        text = yaml.safe_dump(
            layout.config(given.classes.names), sort_keys=False, allow_unicode=True
        )
        put_text(folder / "data.yaml", text)
        for name, rows in layout.lists(placed).items():
            put_text(folder / name, "".join(f"{row}\n" for row in rows))
    _note_losses(given, layout, counts, placed=placed)
    return {"images": len(given), "polygons": counts["polygons"], "boxes": counts["boxes"]}


def _note_losses(
    given: ExportSource,
    layout: YoloLayout,
    counts: Counter[str],
    *,
    placed: list[tuple[PurePosixPath, object]],
) -> None:
    if counts["boxes"] and counts["polygons"]:
        given.report.note(
            "rows that are boxes among polygons: Ultralytics refuses or strips such a mix, "
            "`halfmask complete` fills them",
            times=counts["boxes"],
        )
    if layout.parts and not layout.keeps_names:
        stray = [str(place) for place, split in placed if split not in layout.parts]
        what = "images of no part, or of one that YOLO has no key for: written to the first"
        given.report.note(what, next(iter(stray), ""), times=len(stray))
    for part in layout.absent:
        there = "; data.yaml names those of train for it" if layout.absent == ["val"] else ""
        given.report.note(f"parts without images ({part}), which Ultralytics needs{there}")
    odd = [str(place) for place, _ in placed if place.suffix.lower() not in PHOTOGRAPHS]
    what = "photographs whose ending YOLO readers do not know: they are not found with their labels"
    given.report.note(what, next(iter(odd), ""), times=len(odd))


def _label_lines(
    image: ExportImage, layout: YoloLayout, counts: Counter[str], *, tolerance: float
) -> list[str]:
    """The lines of an image, in the order of its annotations; counts them."""
    found = [
        line
        for one in image.instances
        for line in _lines(
            one, layout.numbers[one.label], exact=layout.is_yolo, tolerance=tolerance
        )
    ]
    masked = sum(i.mask is not None and not i.crowd for i in image.instances)
    counts.update(polygons=masked, boxes=len(found) - masked)
    return found


def _lines(instance: ExportInstance, number: int, *, exact: bool, tolerance: float) -> list[str]:
    """The label line of an annotation; none for a crowd.

    Args:
        instance: the annotation.
        number: of its class.
        exact: whether its coordinates are fractions that came from label files.
        tolerance: for outlines of masks that no person drew.
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
        if instance.loose or differ(instance.box, extent(pairs(polygon))):
            instance.note("boxes that are not their mask's own: YOLO uses the mask's")
        values = _shares(polygon, instance.size)
    write = _same_fraction if exact and not provenance(instance.annotation) else _fraction
    return [" ".join([str(number), *map(write, values)])]


def _fraction(value: float) -> str:
    """Ten decimals: 0.001 pixels survive on any image."""
    return f"{value:.10f}".rstrip("0").rstrip(".") or "0"


def label_line(number: int, polygon: Sequence[float], size: tuple[int, int]) -> str:
    """Returns the line of a polygon x1, y1, x2, y2, … on an image of a size (H, W).

    Args:
        number: of its class.
        polygon: in pixels.
        size: of the image.
    """
    return " ".join([str(number), *map(_fraction, _shares(polygon, size))])


def _shares(polygon: Sequence[float], size: tuple[int, int]) -> list[float]:
    height, width = size
    return [v / (width, height)[i % 2] for i, v in enumerate(polygon)]


def _same_fraction(value: float) -> str:
    """Fifteen digits: those of the label file that the value was read from."""
    return str(np.format_float_positional(float(f"{value:.15g}"), trim="-"))
