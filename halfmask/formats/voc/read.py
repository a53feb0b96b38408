"""Pascal VOC to COCO: Annotations/*.xml, and masks from SegmentationObject/*.png."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from halfmask.coco.images import opened
from halfmask.errors import InputError
from halfmask.formats.report import Options
from halfmask.formats.sink import CocoSink, Size, own_box
from halfmask.formats.source_files import leads_out, size_of_photograph, text_lines
from halfmask.formats.xml_stream import XmlError, elements, numbers_of, text_of, whole_of
from halfmask.masks.rle import rle_of

VOID = 255
"""Value of pixels that belong to no object: borders and difficult regions."""
KINDS = ("Segmentation", "Main")
"""Folders of ImageSets with the lists of the parts."""
SPLITS = ("train", "val", "test")
FLAGS = ("truncated", "difficult", "occluded")


def read_voc(source: Path, sink: CocoSink, options: Options) -> None:
    """Adds a VOC folder to a sink.

    The value i of a mask PNG is the i-th object of the XML. An object without pixels is
    box-only. Classes have the order of labels.txt; without it they are alphabetical
    over all XML files, so that splits agree.

    Raises:
        InputError: no XML files, or no such split.
    """
    annotations = source / "Annotations" if (source / "Annotations").is_dir() else source
    files = sorted(annotations.glob("*.xml")) if annotations.is_dir() else []
    if not files:
        raise InputError(
            f"{source}: expected a VOC folder with Annotations/*.xml, found no XML file"
        )
    for name in _class_names(source, files):
        sink.category(name)
    if options.split is not None:
        stems = _split_stems(source, options.split)
        files = [file for file in files if file.stem in stems]
    split_of = _splits(_root_folder(source))
    masks = options.masks or _root_folder(source) / "SegmentationObject"
    for file in files:
        try:
            root = _root(file)
        except XmlError as error:
            sink.report.fault("XML files that cannot be read: left out", error)
        else:
            split = split_of.get(file.stem)
            more = {} if split is None else {"split": split}
            mask = masks / f"{file.stem}.png"
            _add_file(file, root, mask, sink=sink, options=options, more=more)
        options.advance(1, len(files))


def _class_names(source: Path, files: list[Path]) -> list[str]:
    listed = _root_folder(source) / "labels.txt"
    if listed.is_file():
        return list(dict.fromkeys(text_lines(listed)))
    names = set()
    for file in files:
        try:
            names |= {text_of(thing, "name") for thing in _root(file).findall("object")}
        except XmlError:
            continue  # reported when the file is converted
    return sorted(names - {""})


def _split_stems(source: Path, split: str) -> set[str]:
    kinds = () if leads_out(split) else KINDS
    lists = [_root_folder(source) / "ImageSets" / kind / f"{split}.txt" for kind in kinds]
    found = next((path for path in lists if path.is_file()), None)
    if found is None:
        raise InputError(
            f"{source}: no list ImageSets/Segmentation/{split}.txt or ImageSets/Main/{split}.txt"
        )
    return {_stem(line, _root_folder(source)) for line in text_lines(found)}


def _root_folder(source: Path) -> Path:
    """The folder that holds Annotations."""
    return source.parent if source.name == "Annotations" else source


def _splits(source: Path) -> dict[str, str]:
    """Name of an XML file → its part, from ImageSets; train before val before test."""
    split_of: dict[str, str] = {}
    for split in SPLITS:
        for kind in KINDS:
            path = source / "ImageSets" / kind / f"{split}.txt"
            for line in text_lines(path) if path.is_file() else ():
                split_of.setdefault(_stem(line, source), split)
    return split_of


def _stem(line: str, source: Path) -> str:
    """The XML file that a line of a list names; per-class lists have a -1, 0 or 1 behind it."""
    whole = (source / "Annotations" / f"{line}.xml").is_file()
    return line if whole else line.split()[0]


def _root(file: Path) -> Element:
    root = next(elements(file, {"annotation"}), None)
    if root is None:
        raise XmlError(f"{file}: expected a VOC file, found no element annotation")
    return root


def _add_file(
    file: Path, root: Element, mask: Path, *, sink: CocoSink, options: Options, more: dict[str, Any]
) -> None:
    name = text_of(root, "filename") or f"{file.stem}.jpg"
    size = _size(root, name, options.images)
    number = sink.add_image(name, size, file, **more)
    if number is None:
        return
    values = _mask_values(mask, size, sink)
    things = root.findall("object")
    for position, thing in enumerate(things, 1):
        where = f"{file} object {position}"
        bbox = _checked_box(thing, sink, where, zero_based=options.zero_based)
        if bbox is not None:
            segmentation = _mask_of(values, position, size)
            if segmentation is not None and _inside(segmentation, bbox, size) < 0.5:
                segmentation = None
                sink.report.fault(
                    "masks that lie outside their object's box: the box is kept without one", where
                )
            label, more = text_of(thing, "name"), _attributes(thing)
            sink.add(number, label, where, bbox=bbox, segmentation=segmentation, **more)
    if values is not None:
        found = np.unique(values)
        extra = found[(found > len(things)) & (found != VOID)]
        what = "values in mask PNGs that no object has: left out"
        sink.report.fault(what, mask, times=len(extra))


def _checked_box(
    thing: Element, sink: CocoSink, where: str, *, zero_based: bool
) -> list[float] | None:
    """The box of an object, or None if it has no box or no name; reports both."""
    bbox = _bbox(thing.find("bndbox"), zero_based)
    if bbox is None:
        sink.report.fault("objects without a box of four numbers: left out", where)
        return None
    if not text_of(thing, "name"):
        sink.report.fault("objects without a name: left out", where)
        return None
    if not zero_based and min(bbox[:2]) < 0:
        sink.report.note(
            "boxes that begin at 0, where VOC counts from 1: --zero-based if the file "
            "counts from 0",
            where,
        )
    if thing.find("part") is not None:
        sink.report.note("objects with parts: COCO has no field for the parts", where)
    return bbox


def _size(root: Element, name: str, images: Path | None) -> Size:
    """(H, W) from the XML, else from the photograph; a 0 if neither has it."""
    size = root.find("size")
    height = width = 0
    if size is not None:
        height, width = whole_of(size.findtext("height")), whole_of(size.findtext("width"))
    if height and width:
        return height, width
    return size_of_photograph(images, name) or (height, width)


def _bbox(box: Element | None, zero_based: bool) -> list[float] | None:
    """x, y, width, height. VOC counts pixels from 1 and includes the last one."""
    if box is None:
        return None
    corners = numbers_of(box.findtext(key) for key in ("xmin", "ymin", "xmax", "ymax"))
    if corners is None:
        return None
    x0, y0, x1, y1 = corners
    shift = 0 if zero_based else 1
    return [x0 - shift, y0 - shift, x1 - x0 + shift, y1 - y0 + shift]


def _mask_values(mask: Path, size: Size, sink: CocoSink) -> NDArray[np.uint8] | None:
    if not mask.is_file():
        return None
    try:
        with opened(mask) as image:
            mode, found = image.mode, (image.height, image.width)
            values = np.array(image) if mode in ("P", "L") and found == size else None
    except InputError as error:
        sink.report.fault("mask PNGs that cannot be read: boxes are kept without masks", error)
        return None
    if values is None:
        sink.report.fault(
            "mask PNGs that are not palette or gray images of the image's size: boxes are kept "
            "without masks",
            f"{mask}: {mode}, {found[1]} × {found[0]}",
        )
    return values


def _mask_of(values: NDArray[np.uint8] | None, position: int, size: Size) -> dict[str, Any] | None:
    """The RLE of an object's pixels, or None if it has none."""
    if values is None or position >= VOID:
        return None
    bitmap = values == position
    return rle_of(bitmap, (0, 0), size) if bitmap.any() else None


def _inside(rle: dict[str, Any], outer: list[float], size: Size) -> float:
    """Returns which fraction of a mask's own box lies in a box x, y, width, height."""
    inner = own_box(rle, size)
    assert inner is not None
    width = min(inner[0] + inner[2], outer[0] + outer[2]) - max(inner[0], outer[0])
    height = min(inner[1] + inner[3], outer[1] + outer[3]) - max(inner[1], outer[1])
    return max(width, 0.0) * max(height, 0.0) / (inner[2] * inner[3])


def _attributes(thing: Element) -> dict[str, Any]:
    """The flags that are set, and the pose, as `attributes`."""
    found: dict[str, Any] = {
        flag: 1
        for flag in ("difficult", "truncated", "occluded")
        if text_of(thing, flag) in ("1", "true", "True")
    }
    pose = text_of(thing, "pose")
    if pose and pose != "Unspecified":
        found["pose"] = pose
    return {"attributes": found} if found else {}
