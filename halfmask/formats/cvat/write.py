"""COCO to CVAT for images 1.1: polygons stay polygons, RLE becomes CVAT's own masks,
what has no mask is a box.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

from halfmask.coco.supervision import is_crowd, provenance
from halfmask.files.atomic import new_file
from halfmask.formats.book import Book, Instance, Page
from halfmask.formats.options import Options
from halfmask.formats.report import Report
from halfmask.formats.sink import Size
from halfmask.formats.xml_stream import xml_text
from halfmask.masks.rle import crop_of

_OWN = ("occluded", "z_order")
"""Attributes that CVAT keeps on the shape itself."""


def write_cvat(source: Path, out: Path, tally: Report, options: Options) -> str:
    """Writes one XML file, to be imported as "CVAT 1.1".

    Parts of one mask share a group. So do a mask and its box where the box is not the
    mask's own. A crowd has the attribute `is_crowd`, and a mask that halfmask filled in
    `halfmask_state`, `halfmask_score` and `halfmask_model`, to filter by.

    Returns:
        What was written, in a line.
    Raises:
        InputError: no COCO file, a file name that leads out of the folder, or OUT
            cannot be written.
    """
    book = Book.read(source, tally, "CVAT", frozenset({"crowd", "loose", "attributes", "halfmask"}))
    shapes = 0
    with new_file(out) as file:
        file.write(
            '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
        )
        file.write(_text(_meta(book)))
        for number, page in enumerate(book.pages()):
            image = _image(number, page, tally)
            shapes += len(image)
            file.write(_text(image))
            options.progress(1, len(book.file.images))
        file.write("</annotations>\n")
    return f"{out}: {len(book.file.images)} images, {shapes} shapes"


def _text(element: Element) -> str:
    indent(element)
    lines = tostring(element, encoding="unicode").splitlines()
    return "".join(f"  {line}\n" for line in lines)


def _meta(book: Book) -> Element:
    meta = Element("meta")
    labels = SubElement(SubElement(meta, "task"), "labels")
    used = _attribute_names(book)
    for category in book.file.categories:
        label = SubElement(labels, "label")
        SubElement(label, "name").text = xml_text(category["name"])
        attributes = SubElement(label, "attributes")
        for name in sorted(used[category["id"]]):
            attribute = SubElement(attributes, "attribute")
            values = {
                "name": name,
                "mutable": "False",
                "input_type": "text",
                "default_value": "",
                "values": "",
            }
            for tag, value in values.items():
                SubElement(attribute, tag).text = value
    return meta


def _attribute_names(book: Book) -> dict[int, set[str]]:
    """Category id → the attributes its annotations have: CVAT wants them declared."""
    used: dict[int, set[str]] = {category: set() for category in book.file.label_of}
    for image in book.file.images:
        for annotation in book.file.annotations_of(image["id"]):
            used[annotation["category_id"]] |= set(_attributes(annotation))
    return used


def _attributes(annotation: dict[str, Any]) -> dict[str, str]:
    """Name → value of what CVAT shows as attributes."""
    attributes = annotation.get("attributes")
    found = {
        xml_text(key): xml_text(value)
        for key, value in (attributes if isinstance(attributes, dict) else {}).items()
        if key not in _OWN and isinstance(value, str | int | float)
    }
    if is_crowd(annotation):
        found["is_crowd"] = "true"
    state = provenance(annotation)
    if state not in (None, "rejected"):
        found["halfmask_state"] = str(state)
        score = annotation["halfmask"].get("score")
        found |= {"halfmask_score": str(score)} if isinstance(score, int | float) else {}
        model = annotation["halfmask"].get("model")
        found |= {"halfmask_model": xml_text(model)} if isinstance(model, str) else {}
    return found


def _image(number: int, page: Page, tally: Report) -> Element:
    height, width = page.size
    image = Element(
        "image", id=str(number), name=xml_text(page.name), width=str(width), height=str(height)
    )
    group = 0
    for instance in page.instances:
        shapes = list(_shapes(instance, page.size))
        group += len(shapes) > 1
        for shape in shapes:
            _describe(shape, instance, group if len(shapes) > 1 else 0, tally)
            image.append(shape)
    return image


def _shapes(instance: Instance, size: Size) -> Iterator[Element]:
    if instance.polygons is not None:
        for polygon in instance.polygons:
            pairs = zip(polygon[0::2], polygon[1::2], strict=True)
            yield Element(
                "polygon", points=";".join(f"{_number(x)},{_number(y)}" for x, y in pairs)
            )
    elif instance.mask is not None:
        crop = crop_of(instance.mask, size)
        assert crop is not None, "a mask without pixels is broken"
        bitmap, (left, top) = crop
        height, width = bitmap.shape
        place = {"left": left, "top": top, "width": width, "height": height}
        runs = ", ".join(map(str, _runs(bitmap)))
        yield Element("mask", {"rle": runs, **{key: str(value) for key, value in place.items()}})
    if instance.mask is None or instance.loose:
        x, y, w, h = instance.box
        corners = {"xtl": x, "ytl": y, "xbr": x + w, "ybr": y + h}
        yield Element("box", {key: _number(value) for key, value in corners.items()})


def _runs(bitmap: np.ndarray[Any, Any]) -> list[int]:
    """Lengths of the runs along the rows, the first of background."""
    bits = np.concatenate([[0], bitmap.reshape(-1), [1 - int(bitmap[-1, -1])]])
    edges = np.flatnonzero(np.diff(bits))
    runs: list[int] = np.diff(np.concatenate([[0], edges])).tolist()
    return runs


def _describe(shape: Element, instance: Instance, group: int, tally: Report) -> None:
    annotation = instance.annotation
    attributes = annotation.get("attributes")
    attributes = attributes if isinstance(attributes, dict) else {}
    filled = provenance(annotation) == "filled" and instance.mask is not None
    shape.set("label", xml_text(instance.name))
    shape.set("source", "auto" if filled else "manual")
    shape.set("occluded", str(int(attributes.get("occluded") in (1, True, "1", "true"))))
    z_order = attributes.get("z_order")
    shape.set("z_order", str(z_order if type(z_order) is int else 0))
    if group:
        shape.set("group_id", str(group))
    for name, value in _attributes(annotation).items():
        SubElement(shape, "attribute", name=name).text = value
    for key, value in attributes.items():
        if key not in _OWN and not isinstance(value, str | int | float):
            tally.note(
                f"attributes {key[:40]!r} that are no text or number: CVAT has no place for them",
                f"annotation {annotation['id']}",
            )


def _number(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".")
