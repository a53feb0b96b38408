"""The table of formats: the functions that convert them, and the options they use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from halfmask.formats.coco_like import read_coco_like, write_coco
from halfmask.formats.cvat.read import read_cvat
from halfmask.formats.cvat.write import write_cvat
from halfmask.formats.export_source import ExportSource
from halfmask.formats.label_studio.read import read_label_studio
from halfmask.formats.label_studio.write import write_label_studio
from halfmask.formats.open_images.read import read_open_images
from halfmask.formats.read_only.datumaro import read_datumaro
from halfmask.formats.read_only.labelme import read_labelme
from halfmask.formats.read_only.panoptic import read_panoptic
from halfmask.formats.read_only.supervisely import read_supervisely
from halfmask.formats.read_only.via import read_via
from halfmask.formats.report import Options
from halfmask.formats.sink import CocoSink
from halfmask.formats.voc.read import read_voc
from halfmask.formats.voc.write import write_voc
from halfmask.formats.yolo.read import read_yolo
from halfmask.formats.yolo.write import write_yolo


@dataclass(frozen=True)
class FormatReader:
    """A format that converts to COCO.

    Attributes:
        read: adds the source to a sink.
        source: what the source is, for messages.
        objects: where its objects are looked for, for messages.
        options: the options that it uses.
    """

    read: Callable[[Path, CocoSink, Options], None]
    source: str
    objects: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FormatWriter:
    """A format that COCO converts to.

    Attributes:
        write: writes a COCO file to a target; returns the counts of what is written.
        name: the format, for messages.
        summary: the counts in words.
        options: the options that it uses.
        holds: see `ExportSource`.
    """

    write: Callable[[ExportSource, Path], dict[str, int]]
    name: str
    summary: str
    options: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()


READERS = {
    "yolo": FormatReader(
        read_yolo, "a YOLO folder or its data.yaml", "rows of label files", ("--images", "--split")
    ),
    "voc": FormatReader(
        read_voc,
        "a Pascal VOC folder",
        "elements object with a bndbox or polygon, below annotation",
        ("--images", "--masks", "--split", "--zero-based"),
    ),
    "cvat": FormatReader(
        read_cvat,
        "annotations.xml of CVAT for images 1.1",
        "elements box, polygon, mask and ellipse below image",
    ),
    "label-studio": FormatReader(
        read_label_studio,
        "an export of Label Studio as JSON",
        "results with a label, of annotations that were not cancelled",
        ("--images", "--predictions"),
    ),
    "labelme": FormatReader(
        read_labelme, "a folder of labelme's JSON files", "shapes", options=("--images",)
    ),
    "via": FormatReader(
        read_via, "a project or annotations of VIA (JSON or CSV)", "regions", options=("--images",)
    ),
    "supervisely": FormatReader(
        read_supervisely,
        "the folder of a Supervisely project",
        "objects of ann/*.json",
        options=("--images", "--split"),
    ),
    "datumaro": FormatReader(
        read_datumaro,
        "Datumaro's JSON, or its folder",
        "annotations of items",
        options=("--images", "--split"),
    ),
    "coco-panoptic": FormatReader(
        read_panoptic,
        "a COCO panoptic file",
        "the list annotations and segments_info",
        options=("--masks",),
    ),
    "lvis": FormatReader(read_coco_like, "an LVIS file", "the list annotations"),
    "objects365": FormatReader(read_coco_like, "an Objects365 file", "the list annotations"),
    "open-images": FormatReader(
        read_open_images,
        "a folder with Open Images' CSV files",
        "rows of *annotations-bbox.csv and *object-segmentation.csv",
        ("--images", "--masks", "--split"),
    ),
}
WRITERS = {
    "to-coco": FormatWriter(
        write=write_coco,
        name="COCO",
        summary="{images} images, {annotations} annotations, {masks} of them with masks",
        holds=("loose", "attributes", "halfmask", "polygons", "keys"),
    ),
    "to-yolo": FormatWriter(
        write=write_yolo,
        name="YOLO",
        summary="{images} images, {polygons} polygons, {boxes} boxes",
        options=("--images", "--copy", "--tolerance"),
    ),
    "to-voc": FormatWriter(
        write=write_voc,
        name="VOC",
        summary="{images} images, {masks} masks in {pngs} PNGs",
        options=("--images", "--copy"),
        holds=("attributes",),
    ),
    "to-cvat": FormatWriter(
        write=write_cvat,
        name="CVAT",
        summary="{images} images, {shapes} shapes",
        options=("--images", "--tolerance"),
        holds=("attributes", "halfmask", "polygons"),
    ),
    "to-label-studio": FormatWriter(
        write=write_label_studio,
        name="Label Studio",
        summary="{tasks} tasks, {regions} regions",
        options=("--images", "--image-url", "--tolerance"),
        holds=("attributes", "halfmask", "polygons"),
    ),
}
