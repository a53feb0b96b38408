"""COCO to Label Studio tasks: a rectangle, a polygon or a brush for each annotation,
and the labelling configuration.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

from halfmask.coco.supervision import provenance
from halfmask.files.atomic import new_folder, put_text
from halfmask.formats.book import Book, Instance, Page, differ
from halfmask.formats.label_studio.brush import pack_brush
from halfmask.formats.options import Options
from halfmask.formats.report import Report
from halfmask.formats.sink import Size, pixel_box
from halfmask.formats.xml_stream import xml_text
from halfmask.masks.rle import crop_of

_TAGS = {"box": "RectangleLabels", "polygon": "PolygonLabels", "mask": "BrushLabels"}


def write_label_studio(source: Path, out: Path, tally: Report, options: Options) -> str:
    """Writes OUT/tasks.json, to be imported, and OUT/label_config.xml, for the
    project's labelling interface.

    A single polygon stays one; several polygons, and RLE, become one brush mask, pixel
    by pixel the same. What Label Studio has no field for (crowd, attributes, halfmask's
    note, a box that is not the mask's own) is in the region's `meta`, where
    `read_label_studio` finds it again.

    Returns:
        What was written, in a line.
    Raises:
        InputError: no COCO file, a file name that leads out of the folder, or OUT is
            there already.
    """
    book = Book.read(
        source, tally, "Label Studio", frozenset({"crowd", "loose", "attributes", "halfmask"})
    )
    regions = 0
    with new_folder(out) as folder:
        with (folder / "tasks.json").open("w", encoding="utf-8", newline="\n") as file:
            for number, page in enumerate(book.pages()):
                task = _task(page, options.image_url, tally)
                regions += len(task["annotations"][0]["result"])
                file.write(("[\n" if number == 0 else ",\n") + json.dumps(task))
                options.progress(1, len(book.file.images))
            file.write("[]\n" if not book.file.images else "\n]\n")
        put_text(folder / "label_config.xml", _config(book.names))
    return f"{out}: {len(book.file.images)} tasks, {regions} regions"


def _task(page: Page, image_url: str, tally: Report) -> dict[str, Any]:
    address = image_url + quote(page.name.replace("\\", "/"))
    results = [_region(instance, page.size, tally) for instance in page.instances]
    return {"data": {"image": address}, "annotations": [{"result": results}]}


def _region(instance: Instance, size: Size, tally: Report) -> dict[str, Any]:
    height, width = size
    polygons = instance.polygons
    value: dict[str, Any]
    if instance.mask is None:
        kind, value = "box", _percent_box(instance, size)
    elif polygons is not None and len(polygons) == 1:
        points = zip(polygons[0][0::2], polygons[0][1::2], strict=True)
        kind, value = (
            "polygon",
            {
                "points": [[_percent(x, width), _percent(y, height)] for x, y in points],
                "closed": True,
            },
        )
    else:
        if polygons is not None:
            tally.note(
                "masks of several polygons: written as brush masks",
                f"annotation {instance.annotation['id']}",
            )
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


def _meta(instance: Instance, shape_box: list[float] | None) -> dict[str, Any]:
    """What has no field of its own. `shape_box` is that of the shape in Label Studio:
    the box is kept where it is another.
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


def _percent_box(instance: Instance, size: Size) -> dict[str, float]:
    (x, y, w, h), (height, width) = instance.box, size
    sides = {
        "x": _percent(x, width),
        "y": _percent(y, height),
        "width": _percent(w, width),
        "height": _percent(h, height),
    }
    return {**sides, "rotation": 0}


def _percent(value: float, side: int) -> float:
    return round(100 * value / side, 9)


def _canvas(segmentation: Any, size: Size) -> np.ndarray[Any, Any]:
    crop = crop_of(segmentation, size)
    assert crop is not None, "a mask without pixels is broken"
    bitmap, (x, y) = crop
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
    indent(view)
    return tostring(view, encoding="unicode") + "\n"
