"""COCO to Pascal VOC: Annotations, SegmentationObject and -Class, ImageSets, lists of classes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, SubElement

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from halfmask.files.folders import new_folder, put_text
from halfmask.formats.export_parts import ExportImage, ExportInstance, PhotographLinks
from halfmask.formats.export_source import ExportSource
from halfmask.formats.shapes import sound_crop
from halfmask.formats.sink import Size
from halfmask.formats.voc.files import SPLITS
from halfmask.formats.voc.objects import FLAGS
from halfmask.formats.voc.read import VOID
from halfmask.formats.xml_stream import indented, xml_text
from halfmask.masks.rle import Bitmap, Place

Corners = tuple[float, float, float, float]


def _colour(value: int) -> tuple[int, int, int]:
    """VOC's colour of a value, as in VOCdevkit's colour map.

    Bits 0, 1, 2 of the value are the highest bits of red, green, blue, the next three
    the bits below, and so on.
    """
    channels = [sum((value >> 3 * i + c & 1) << 7 - i for i in range(3)) for c in range(3)]
    return channels[0], channels[1], channels[2]


COLOURS = tuple(map(_colour, range(256)))
"""The palette of VOC's PNGs; readers that decode to RGB know an object by its colour."""


def write_voc(given: ExportSource, out: Path) -> dict[str, int]:
    """Writes a VOC folder, with links to the photographs if the option images is given.

    Boxes are rounded to whole pixels, counted from 1. A crowd is a `difficult` object
    without a mask.

    Returns:
        The numbers of images, masks and mask PNGs.
    Raises:
        InputError: OUT exists already, or two images would share an XML file.
    """
    masked: list[str] = []
    names: list[str] = []
    taken: set[str] = set()
    split_of: dict[str, str] = {}
    masks = 0
    with new_folder(out) as folder:
        links = PhotographLinks(given.photographs, folder, given.report, copy=given.options.copy)
        for image in given.images():
            stem = _free(image.stem.replace("/", "_"), taken)
            names.append(stem)
            taken.add(stem)
            drawn = _put_mask(folder, stem, image, names=given.classes.names)
            masks += drawn
            masked += [stem] if drawn else []
            put_text(folder / "Annotations" / f"{stem}.xml", _xml(image, drawn > 0))
            links.put(image.name, PurePosixPath("JPEGImages") / image.name)
            split = image.record.get("split")
            if isinstance(split, str) and split in SPLITS:
                split_of[stem] = split
            elif split is not None:
                what = "images of parts that VOC's readers do not know (not train, val, test)"
                given.report.note(f"{what}: only in all.txt", f"{image.name}: {split}")
        _put_classes(folder, given)
        for kind, stems in (("Main", names), ("Segmentation", masked)):
            for part, lines in _lists(stems, split_of).items():
                place = folder / "ImageSets" / kind / f"{part}.txt"
                put_text(place, "".join(f"{line}\n" for line in lines))
    return {"images": len(names), "masks": masks, "pngs": len(masked)}


def _free(stem: str, taken: set[str]) -> str:
    """A name that no other XML file has: `a/b.jpg` and `a_b.jpg` are two."""
    tries = (f"{stem}_{number}" for number in count(2))
    return stem if stem not in taken else next(name for name in tries if name not in taken)


def _lists(stems: list[str], split_of: dict[str, str]) -> dict[str, list[str]]:
    """Name of a list → its images: `all`, and each part of the file."""
    parts = {part: [s for s in stems if split_of.get(s) == part] for part in SPLITS}
    return {"all": stems, **{p: rows for p, rows in parts.items() if p in split_of.values()}}


def _xml(image: ExportImage, segmented: bool) -> str:
    root = Element("annotation")
    height, width = image.size
    SubElement(root, "folder").text = "JPEGImages"
    SubElement(root, "filename").text = xml_text(image.name)
    size = SubElement(root, "size")
    for tag, value in (("width", width), ("height", height), ("depth", 3)):
        SubElement(size, tag).text = str(value)
    SubElement(root, "segmented").text = str(int(segmented))
    root.extend(map(_object, image.instances))
    return indented(root)


def _object(instance: ExportInstance) -> Element:
    thing = Element("object")
    for key in sorted(set(instance.attributes) - {*FLAGS, "pose"}):
        instance.note(f"attributes {key[:40]!r}: VOC has no field for them")
    SubElement(thing, "name").text = xml_text(instance.name)
    SubElement(thing, "pose").text = xml_text(instance.attributes.get("pose", "Unspecified"))
    flags = {flag: instance.flag(flag) for flag in FLAGS}
    if instance.crowd:
        flags["difficult"] = 1
        instance.note("crowds: written as difficult objects without a mask")
    for flag, value in flags.items():
        SubElement(thing, flag).text = str(value)
    exact = _corners(instance.box)
    corners = _rounded(exact, instance.size)
    if max(abs(a - b) for a, b in zip(corners, exact, strict=True)) > 1e-3:
        instance.note("boxes rounded to whole pixels")
    box = SubElement(thing, "bndbox")
    for tag, corner in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
        SubElement(box, tag).text = str(corner)
    return thing


def _corners(box: Corners) -> Corners:
    """xmin, ymin, xmax, ymax, counted from 1 and including the last pixel."""
    x, y, w, h = box
    return x + 1, y + 1, x + w, y + h


def _rounded(corners: Corners, size: Size) -> tuple[int, int, int, int]:
    """Whole corners on the image, at least one pixel apart."""
    height, width = size
    (x0, x1), (y0, y1) = _pixels(corners[0::2], width), _pixels(corners[1::2], height)
    return x0, y0, x1, y1


def _pixels(ends: tuple[float, ...], side: int) -> tuple[int, int]:
    """The first and last pixel; of a box that rounding would empty, the one in its middle."""
    first, last = (round(v) for v in ends)
    if last < first:
        first = last = math.floor(sum(ends) / 2 + 0.5)
    first = min(max(first, 1), side)
    return first, min(max(last, first), side)


def _put_classes(folder: Path, given: ExportSource) -> None:
    """Writes labels.txt, and labelmap.txt with the colours, which CVAT and Datumaro read."""
    names = given.classes.names
    put_text(folder / "labels.txt", "".join(f"{name}\n" for name in names))
    if len(names) >= VOID:
        what = f"classes beyond the {VOID - 1}th: no labelmap.txt and no SegmentationClass"
        given.report.note(what, names[VOID - 1])
        return
    broken = [name for name in names if ":" in name or name.startswith("#")]
    given.report.note(
        "class names with a colon or a # in front: no labelmap.txt, which cannot hold them",
        repr(next(iter(broken), "")),
        times=len(broken),
    )
    if not broken:
        rows = ["# label:color_rgb:parts:actions"]
        rows += [
            f"{name}:{','.join(map(str, COLOURS[i]))}::"
            for i, name in enumerate(["background", *names])
        ]
        put_text(folder / "labelmap.txt", "".join(f"{row}\n" for row in rows))


def _put_mask(folder: Path, stem: str, image: ExportImage, *, names: list[str]) -> int:
    """Draws the masks of an image, small ones over large ones.

    SegmentationObject has the position of an object in the XML file as the value of its
    pixels, SegmentationClass that of its class in labels.txt, both from 1.

    Returns:
        The number of masks with at least one visible pixel.
    """
    crops = dict(_crops(image))
    if not crops:
        return 0
    values = np.zeros(image.size, dtype=np.uint8)
    for position in sorted(crops, key=lambda p: -int(crops[p][0].sum())):
        bitmap, (x, y) = crops[position]
        values[y : y + bitmap.shape[0], x : x + bitmap.shape[1]][bitmap > 0] = position
    left = np.bincount(values.reshape(-1), minlength=VOID)
    for position, (bitmap, _) in crops.items():
        note = image.instances[position - 1].note
        if left[position] == 0:
            note(
                "masks completely under others, as a pixel holds one object: the box is written "
                "without one"
            )
        elif left[position] < int(bitmap.sum()):
            note("masks with pixels under another's, as a pixel holds one object")
    _draw(folder / "SegmentationObject" / f"{stem}.png", values)
    if len(names) < VOID:
        classes = np.zeros(VOID + 1, dtype=np.uint8)
        for position, instance in enumerate(image.instances[: VOID - 1], 1):
            classes[position] = names.index(instance.name) + 1
        _draw(folder / "SegmentationClass" / f"{stem}.png", classes[values])
    return int((left[1:VOID] > 0).sum())


def _draw(path: Path, values: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing = Image.fromarray(values, mode="P")
    drawing.putpalette([channel for colour in COLOURS for channel in colour])
    drawing.save(path)


def _crops(image: ExportImage) -> Iterator[tuple[int, tuple[Bitmap, Place]]]:
    """Yields the position, from 1, and the pixels of each mask that a PNG can hold."""
    for position, instance in enumerate(image.instances, 1):
        if instance.mask is None or instance.crowd:
            continue
        if instance.suspect:
            instance.note(
                "polygons that repeat their box: written as boxes, a PNG would make masks of them"
            )
        elif position >= VOID:
            instance.note(
                f"masks beyond the {VOID - 1}th object of an image: the box is written without one"
            )
        else:
            yield position, sound_crop(instance.mask, image.size)
