"""COCO to Pascal VOC: Annotations/*.xml, SegmentationObject/*.png where there are
masks, labels.txt and ImageSets.
"""

from __future__ import annotations

import colorsys
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
from PIL import Image

from halfmask.files.atomic import new_folder, put_text
from halfmask.formats.book import Book, Instance, Page
from halfmask.formats.options import Options
from halfmask.formats.report import Report
from halfmask.formats.sink import Size
from halfmask.formats.voc.read import VOID
from halfmask.formats.xml_stream import xml_text
from halfmask.masks.rle import crop_of

_FLAGS = ("truncated", "difficult", "occluded")
_HELD = {*_FLAGS, "pose"}


def write_voc(source: Path, out: Path, tally: Report, options: Options) -> str:
    """Writes a VOC folder. Boxes are rounded to whole pixels, counted from 1; a crowd
    is a `difficult` object without a mask.

    Returns:
        What was written, in a line.
    Raises:
        InputError: no COCO file, OUT is there already, or two images would share an XML
            file.
    """
    book = Book.read(source, tally, "VOC", frozenset({"loose", "attributes"}))
    masked: list[str] = []
    names: list[str] = []
    masks = 0
    with new_folder(out) as folder:
        for page in book.pages():
            stem = page.stem.replace("/", "_")
            if stem in names:
                stem = f"{stem}_{page.record['id']}"
            names.append(stem)
            drawn = _put_mask(folder / "SegmentationObject" / f"{stem}.png", page, tally)
            masks += drawn
            masked += [stem] if drawn else []
            put_text(folder / "Annotations" / f"{stem}.xml", _xml(page, drawn > 0, tally))
            options.progress(1, len(book.file.images))
        put_text(folder / "labels.txt", "".join(f"{name}\n" for name in book.names))
        put_text(folder / "ImageSets" / "Main" / "all.txt", "".join(f"{name}\n" for name in names))
        put_text(
            folder / "ImageSets" / "Segmentation" / "all.txt",
            "".join(f"{name}\n" for name in masked),
        )
    return f"{out}: {len(names)} images, {masks} masks in {len(masked)} PNGs"


def _xml(page: Page, segmented: bool, tally: Report) -> str:
    root = Element("annotation")
    height, width = page.size
    SubElement(root, "folder").text = "JPEGImages"
    SubElement(root, "filename").text = xml_text(page.name)
    size = SubElement(root, "size")
    for tag, value in (("width", width), ("height", height), ("depth", 3)):
        SubElement(size, tag).text = str(value)
    SubElement(root, "segmented").text = str(int(segmented))
    for instance in page.instances:
        root.append(_object(instance, page.size, tally))
    indent(root)
    return tostring(root, encoding="unicode") + "\n"


def _object(instance: Instance, size: Size, tally: Report) -> Element:
    where = f"annotation {instance.annotation['id']}"
    thing = Element("object")
    attributes = instance.annotation.get("attributes")
    attributes = attributes if isinstance(attributes, dict) else {}
    for key in sorted(set(attributes) - _HELD):
        tally.note(f"attributes {key[:40]!r}: VOC has no place for them", where)
    SubElement(thing, "name").text = xml_text(instance.name)
    SubElement(thing, "pose").text = xml_text(attributes.get("pose", "Unspecified"))
    flags = {flag: int(attributes.get(flag) in (1, True, "1", "true")) for flag in _FLAGS}
    if instance.crowd:
        flags["difficult"] = 1
        tally.note("crowds: written as difficult objects without a mask", where)
    for flag, value in flags.items():
        SubElement(thing, flag).text = str(value)
    corners = _corners(instance.box, size)
    if max(abs(a - b) for a, b in zip(corners, _exact(instance.box), strict=True)) > 1e-3:
        tally.note("boxes rounded to whole pixels", where)
    box = SubElement(thing, "bndbox")
    for tag, corner in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
        SubElement(box, tag).text = str(corner)
    return thing


def _exact(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x, y, w, h = box
    return x + 1, y + 1, x + w, y + h


def _corners(box: tuple[float, float, float, float], size: Size) -> tuple[int, int, int, int]:
    """xmin, ymin, xmax, ymax: from 1, the last pixel included, on the image, one pixel at least."""
    height, width = size
    x0, y0, x1, y1 = (round(v) for v in _exact(box))
    x0, y0 = min(max(x0, 1), width), min(max(y0, 1), height)
    return x0, y0, min(max(x1, x0), width), min(max(y1, y0), height)


def _put_mask(path: Path, page: Page, tally: Report) -> int:
    """Draws the masks of an image, the small ones over the large; returns how many have
    a pixel left.
    """
    crops = {}
    for position, instance in enumerate(page.instances, 1):
        where = f"annotation {instance.annotation['id']}"
        if instance.mask is None or instance.crowd:
            continue
        if instance.suspect:
            tally.note(
                "polygons that repeat their box: written as boxes, a PNG would make masks of them",
                where,
            )
        elif position >= VOID:
            tally.note(
                f"masks beyond the {VOID - 1}th object of an image: the box is written without one",
                where,
            )
        else:
            crop = crop_of(instance.mask, page.size)
            assert crop is not None, "a mask without pixels is broken"
            crops[position] = crop
    if not crops:
        return 0
    values = np.zeros(page.size, dtype=np.uint8)
    for position in sorted(crops, key=lambda p: -int(crops[p][0].sum())):
        bitmap, (x, y) = crops[position]
        values[y : y + bitmap.shape[0], x : x + bitmap.shape[1]][bitmap > 0] = position
    left = np.bincount(values.reshape(-1), minlength=VOID)
    for position, (bitmap, _) in crops.items():
        where = f"annotation {page.instances[position - 1].annotation['id']}"
        if left[position] == 0:
            tally.note(
                "masks wholly under others, as a pixel holds one object: the box is written "
                "without one",
                where,
            )
        elif left[position] < int(bitmap.sum()):
            tally.note("masks with pixels under another's, as a pixel holds one object", where)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values, mode="P")
    image.putpalette(_palette())
    image.save(path)
    return int((left[1:VOID] > 0).sum())


def _palette() -> list[int]:
    """256 colours to look at: neighbouring values far apart, 0 black, 255 a light gray."""
    colours = [(0.0, 0.0, 0.0)]
    colours += [
        colorsys.hsv_to_rgb(i * 0.618034 % 1, 0.9, 0.55 + 0.45 * (i % 3) / 2)
        for i in range(1, VOID)
    ]
    colours.append((0.88, 0.88, 0.75))
    return [round(255 * channel) for colour in colours for channel in colour]
