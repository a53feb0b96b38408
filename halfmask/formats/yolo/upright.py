"""Turns annotations in stored pixels, for formats whose tools turn photographs.

Ultralytics, CVAT and Label Studio apply a photograph's EXIF orientation, so that boxes
in stored pixels would lie elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from halfmask.coco.annotations import Annotations
from halfmask.coco.file import CocoFile
from halfmask.coco.images import opened
from halfmask.coco.photographs.orientation import Frame, Orientation, turned
from halfmask.coco.photographs.reader import reader_of, row_of
from halfmask.coco.records import Record
from halfmask.coco.supervision import MaskState, is_box, judge
from halfmask.errors import InputError
from halfmask.formats.report import ConversionReport
from halfmask.formats.shapes import Point, extent, pairs, rectangle, sound_crop
from halfmask.formats.sink import Size
from halfmask.masks.rle import rle_of

TURNING = ("yolo", "cvat", "label-studio")
"""Formats whose tools show and read photographs turned."""


def stored_orientations(
    file: Annotations, folder: Path, report: ConversionReport
) -> dict[int, Orientation]:
    """Returns the orientation of each image that has to be turned, by its id.

    These are images in stored pixels. Photographs that are missing or have another size
    stay as they are.

    Args:
        file: the annotations.
        folder: of the photographs.
        report: counts what is turned.
    """
    ruling = reader_of(file, folder).ruling
    found: dict[int, Orientation] = {}
    for image_id in file.image_ids:
        orientation = _orientation(file, folder, image_id)
        if orientation is None or orientation.turn == 1:
            continue
        if ruling.frame(orientation, file.size_of(image_id)) == Frame.STORED:
            found[image_id] = orientation
            report.note(
                "photographs with an EXIF rotation and boxes in stored pixels: boxes and masks "
                "are written turned, as the tool shows the photograph",
                file.file_name_of(image_id),
            )
    return found


def upright(file: CocoFile, found: dict[int, Orientation]) -> CocoFile:
    """Returns a file in which every image is in the turned frame of its photograph.

    Boxes, polygons and RLE of images in stored pixels are turned, width and height
    exchanged where the photograph lies on its side.

    Args:
        file: the annotations; not changed.
        found: see `stored_orientations`.
    """
    document = {
        **file.document,
        "images": [_image(record, found) for record in file.document["images"]],
        "annotations": [_annotation(record, found) for record in file.document["annotations"]],
    }
    return CocoFile(document, file.name)


def _orientation(file: Annotations, folder: Path, image_id: int) -> Orientation | None:
    row = row_of(file, folder, image_id)
    try:
        with opened(row[0] if row else folder) as image:
            return Orientation.of(image)
    except InputError:  # reported where photographs are needed
        return None


def _image(record: Record, found: dict[int, Orientation]) -> Record:
    orientation = found.get(record["id"])
    if orientation is None:
        return record
    height, width = orientation.turned
    return {**record, "height": height, "width": width}


def _annotation(record: Any, found: dict[int, Orientation]) -> Any:
    key: Any = record.get("image_id") if isinstance(record, dict) else None
    orientation = found.get(key)
    if orientation is None:
        return record
    out = dict(record)
    if is_box(record.get("bbox")):
        out["bbox"] = extent(_points(rectangle(record["bbox"]), orientation))
    whole = {"segmentation": record.get("segmentation")}
    if judge(whole, orientation.stored).state == MaskState.MASK:
        out["segmentation"] = _turned(record["segmentation"], orientation)
    return out


def _turned(segmentation: Any, orientation: Orientation) -> Any:
    """A valid segmentation of the stored frame in the turned one."""
    if isinstance(segmentation, list):
        return [
            [v for point in _points(pairs(part), orientation) for v in point]
            for part in segmentation
        ]
    bitmap, (x, y) = sound_crop(segmentation, orientation.stored)
    corners = rectangle((x, y, bitmap.shape[1], bitmap.shape[0]))
    left, top, _, _ = extent(_points(corners, orientation))
    size: Size = orientation.turned
    return rle_of(turned(bitmap, orientation.turn), (int(left), int(top)), size)


def _points(points: list[Point], orientation: Orientation) -> list[Point]:
    return [orientation.point_turned(point) for point in points]
