"""COCO to CVAT for images 1.1.

Polygons stay polygons, RLE becomes CVAT's masks, and an annotation without a mask is a
box.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from halfmask.coco.supervision import is_crowd, provenance
from halfmask.files.atomic import new_file
from halfmask.formats.export_parts import ExportImage, ExportInstance
from halfmask.formats.export_source import ExportSource
from halfmask.formats.shapes import pairs, sound_crop
from halfmask.formats.xml_stream import indented, xml_text

_OWN = ("occluded", "z_order")
"""Attributes that CVAT keeps on the shape itself."""


def write_cvat(given: ExportSource, out: Path) -> dict[str, int]:
    """Writes one XML file for CVAT's import format "CVAT 1.1".

    Parts of one mask share a group, as do a mask and its box if the box is not the
    mask's own. A crowd has the attribute `is_crowd`. A mask that halfmask filled in has
    `halfmask_state`, `halfmask_score` and `halfmask_model`, to filter by.

    Returns:
        The numbers of images and shapes.
    Raises:
        InputError: a file name that leads out of the folder, or OUT cannot be written.
    """
    shapes = 0
    with new_file(out) as file:
        file.write(
            '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
        )
        file.write(_text(_meta(given)))
        for number, image in enumerate(given.images()):
            element = _image(number, image)
            shapes += len(element)
            file.write(_text(element))
        file.write("</annotations>\n")
    return {"images": len(given), "shapes": shapes}


def _text(element: Element) -> str:
    return "".join(f"  {line}\n" for line in indented(element).splitlines())


def _meta(given: ExportSource) -> Element:
    """The labels, and the parts: as in CVAT's exports, each is a task of a project.

    Readers such as Datumaro take the images of the parts that are named here.
    """
    meta = Element("meta")
    splits = [image.get("split") for image in given.file.images]
    parts = Counter(split for split in splits if isinstance(split, str))
    whole = SubElement(meta, "project" if parts else "task")
    labels = SubElement(whole, "labels")
    if parts:
        SubElement(whole, "subsets").text = xml_text("\n".join(parts))
        tasks = SubElement(whole, "tasks")
        for part, size in parts.items():
            task = SubElement(tasks, "task")
            for tag, value in {"name": part, "size": size, "subset": part}.items():
                SubElement(task, tag).text = xml_text(value)
    used = _attribute_names(given)
    for number, name in enumerate(given.classes.names):
        label = SubElement(labels, "label")
        SubElement(label, "name").text = xml_text(name)
        attributes = SubElement(label, "attributes")
        for name in sorted(used[number]):
            attribute = SubElement(attributes, "attribute")
            values = {"name": name, "mutable": "False", "input_type": "text"}
            for tag, value in {**values, "default_value": "", "values": ""}.items():
                SubElement(attribute, tag).text = value
    return meta


def _attribute_names(given: ExportSource) -> dict[int, set[str]]:
    """Label → attributes of its annotations, which CVAT wants declared."""
    used: dict[int, set[str]] = {label: set() for label in range(len(given.classes.names))}
    for image in given.file.images:
        for annotation in given.file.annotations_of(image["id"]):
            label = given.classes.index_of[annotation["category_id"]]
            used[label] |= set(_attributes(annotation))
    return used


def _attributes(annotation: dict[str, Any]) -> dict[str, str]:
    """Name → value of everything that CVAT shows as attributes."""
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


def _image(number: int, image: ExportImage) -> Element:
    height, width = image.size
    element = Element(
        "image", id=str(number), name=xml_text(image.name), width=str(width), height=str(height)
    )
    split = image.record.get("split")
    if isinstance(split, str):
        element.set("subset", xml_text(split))
    group = 0
    for instance in image.instances:
        shapes = list(_shapes(instance))
        group += len(shapes) > 1
        for shape in shapes:
            _describe(shape, instance, group if len(shapes) > 1 else 0)
            element.append(shape)
    return element


def _shapes(instance: ExportInstance) -> Iterator[Element]:
    if instance.polygons is not None:
        for polygon in instance.polygons:
            points = (f"{_number(x)},{_number(y)}" for x, y in pairs(polygon))
            yield Element("polygon", points=";".join(points))
    elif instance.mask is not None:
        bitmap, (left, top) = sound_crop(instance.mask, instance.size)
        height, width = bitmap.shape
        place = {"left": left, "top": top, "width": width, "height": height}
        runs = ", ".join(map(str, _runs(bitmap)))
        yield Element("mask", {"rle": runs, **{key: str(value) for key, value in place.items()}})
    if instance.mask is None or instance.loose:
        x, y, w, h = instance.box
        corners = {"xtl": x, "ytl": y, "xbr": x + w, "ybr": y + h}
        yield Element("box", {key: _number(value) for key, value in corners.items()})


def _runs(bitmap: np.ndarray[Any, Any]) -> list[int]:
    """Lengths of the runs along the rows; the first run is background."""
    bits = np.concatenate([[0], bitmap.reshape(-1), [1 - int(bitmap[-1, -1])]])
    edges = np.flatnonzero(np.diff(bits))
    runs: list[int] = np.diff(np.concatenate([[0], edges])).tolist()
    return runs


def _describe(shape: Element, instance: ExportInstance, group: int) -> None:
    filled = provenance(instance.annotation) == "filled" and instance.mask is not None
    z_order = instance.attributes.get("z_order")
    shape.set("label", xml_text(instance.name))
    shape.set("source", "auto" if filled else "manual")
    shape.set("occluded", str(instance.flag("occluded")))
    shape.set("z_order", str(z_order if type(z_order) is int else 0))
    if group:
        shape.set("group_id", str(group))
    for name, value in _attributes(instance.annotation).items():
        SubElement(shape, "attribute", name=name).text = value
    for key, value in instance.attributes.items():
        if key not in _OWN and not isinstance(value, str | int | float):
            instance.note(
                f"attributes {key[:40]!r} that are not text or numbers: CVAT has no field for them"
            )


def _number(value: float) -> str:
    """All digits: a corner at the border between two pixels stays on its side."""
    return str(np.format_float_positional(float(value), trim="-"))
