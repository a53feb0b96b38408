"""COCO to Label Studio: tasks with a region for each annotation, and a configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from halfmask.coco.locate import is_address
from halfmask.coco.records import file_name_of
from halfmask.coco.supervision import provenance
from halfmask.files.folders import new_folder, put_text
from halfmask.formats.export_parts import ExportImage, ExportInstance, differ
from halfmask.formats.export_source import ExportSource
from halfmask.formats.label_studio.brush import pack_brush
from halfmask.formats.shapes import pairs, sound_crop
from halfmask.formats.sink import Size, pixel_box
from halfmask.formats.xml_stream import indented, xml_text

LOCAL_STORAGE = "/data/local-files/?d="
"""Label Studio's address of files in a local storage."""
_TAGS = {"box": "RectangleLabels", "polygon": "PolygonLabels", "mask": "BrushLabels"}


def write_label_studio(given: ExportSource, out: Path) -> dict[str, int]:
    """Writes OUT/tasks.json and the labelling interface, OUT/label_config.xml.

    A single polygon stays a polygon. Several polygons, and RLE, become one brush mask
    with the same pixels. Label Studio has no field for a crowd, attributes, halfmask's
    note and a box that is not the mask's own: these are in the region's `meta`, and
    `read_label_studio` restores them.

    Returns:
        The numbers of tasks and regions.
    Raises:
        InputError: a file name that leads out of the folder, or OUT exists already.
    """
    regions = 0
    options = given.options
    prefix = options.image_url or LOCAL_STORAGE
    with new_folder(out) as folder:
        with (folder / "tasks.json").open("w", encoding="utf-8", newline="\n") as file:
            for number, image in enumerate(given.images()):
                address = prefix + quote(image.name)
                own = file_name_of(image.record)
                own = str(image.record.get("address") or own)
                if (
                    (is_address(own) or "address" in image.record)
                    and options.images is None
                    and options.image_url is None
                ):
                    address = own
                task = {"id": number + 1, **_task(image, address)}
                regions += len(task["annotations"][0]["result"])
                file.write(("[\n" if number == 0 else ",\n") + json.dumps(task))
            file.write("\n]\n" if len(given) else "[]\n")
        put_text(folder / "label_config.xml", _config(given.classes.names))
    return {"tasks": len(given), "regions": regions}


def _task(image: ExportImage, address: str) -> dict[str, Any]:
    results = [_region(instance) for instance in image.instances]
    split = image.record.get("split")
    data = {"image": address, **({"split": split} if isinstance(split, str) else {})}
    return {"data": data, "annotations": [{"result": results}]}


def _region(instance: ExportInstance) -> dict[str, Any]:
    size = height, width = instance.size
    polygons = instance.polygons
    value: dict[str, Any]
    if instance.mask is None:
        kind, value = "box", _percent_box(instance)
    elif polygons is not None and len(polygons) == 1:
        points = [[_percent(x, width), _percent(y, height)] for x, y in pairs(polygons[0])]
        kind, value = "polygon", {"points": points, "closed": True}
    else:
        if polygons is not None:
            instance.note("masks of several polygons: written as brush masks")
        kind, value = "mask", {"format": "rle", "rle": pack_brush(_canvas(instance.mask, size))}
    labels = _TAGS[kind].lower()
    region = {
        "id": f"annotation-{instance.annotation['id']}",
        "type": labels,
        "from_name": kind,
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {**value, labels: [instance.name]},
    }
    meta = _meta(instance, pixel_box(instance.mask, size) if kind == "mask" else instance.own)
    return {**region, "meta": meta} if meta else region


def _meta(instance: ExportInstance, shape_box: list[float] | None) -> dict[str, Any]:
    """Everything without a field of its own.

    `shape_box` is the box of the shape in Label Studio; a different box is kept.
    """
    annotation = instance.annotation
    meta: dict[str, Any] = {}
    if instance.crowd:
        meta["iscrowd"] = 1
    if shape_box is not None and differ(instance.box, shape_box, 0.02):
        meta |= {"bbox": list(instance.box), "mask_box": shape_box}
    if isinstance(annotation.get("attributes"), dict):
        meta["attributes"] = annotation["attributes"]
    if provenance(annotation) not in (None, "rejected"):
        meta["halfmask"] = annotation["halfmask"]
    return meta


def _percent_box(instance: ExportInstance) -> dict[str, float]:
    keys = ("x", "y", "width", "height")
    sides = zip(keys, instance.box, instance.size[::-1] * 2, strict=True)
    return {**{key: _percent(value, side) for key, value, side in sides}, "rotation": 0}


def _percent(value: float, side: int) -> float:
    return round(100 * value / side, 9)


def _canvas(segmentation: Any, size: Size) -> np.ndarray[Any, Any]:
    bitmap, (x, y) = sound_crop(segmentation, size)
    canvas = np.zeros(size, dtype=np.uint8)
    canvas[y : y + bitmap.shape[0], x : x + bitmap.shape[1]] = bitmap
    return canvas


def _config(names: list[str]) -> str:
    view = Element("View")
    SubElement(view, "Image", name="image", value="$image", zoom="true")
    for kind, tag in _TAGS.items():
        group = SubElement(view, tag, name=kind, toName="image")
        for name in names:
            SubElement(group, "Label", value=xml_text(name))
    return indented(view)
