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
from halfmask.formats.source_files import size_of_photograph
from halfmask.formats.voc.files import VocFiles, size_of_xml
from halfmask.formats.voc.objects import VocObject, read_object
from halfmask.formats.xml_stream import XmlError, root_of, unknown_children
from halfmask.masks.rle import rle_of

VOID = 255
"""Value of pixels that belong to no object: borders and difficult regions."""
_KNOWN = {"folder", "filename", "path", "source", "owner", "size", "segmented", "object"}


def read_voc(source: Path, sink: CocoSink, options: Options) -> None:
    """Adds a VOC folder to a sink.

    The value i of a mask PNG is the i-th object of the XML. An object without pixels
    has the mask of its polygons, else it is box-only. Classes have the order of
    labels.txt; without it they are alphabetical over all XML files, so that splits
    agree.

    Raises:
        InputError: no XML files, or no such split.
    """
    found = VocFiles.find(source, options.images)
    for name in found.class_names():
        sink.category(name)
    chosen = options.split
    files = found.files if chosen is None else found.chosen(chosen, sink.report)
    split_of = found.splits(sink.report) if chosen is None else dict.fromkeys(files, chosen)
    masks = options.masks or found.root / "SegmentationObject"
    for file in files:
        try:
            root = root_of(file, "annotation")
        except XmlError as error:
            sink.report.fault("XML files that cannot be read: left out", error)
        else:
            split = split_of.get(file)
            more = {} if split is None else {"split": split}
            mask = _mask_file(masks, file, found)
            _add_file(file, root, mask, sink=sink, options=options, found=found, more=more)
        options.advance(1, len(files))
    _count_unused(masks, found, sink, asked=options.masks is not None)


def _mask_file(masks: Path, file: Path, found: VocFiles) -> Path:
    """The PNG of an XML file: in the same folder below the masks, else among them."""
    below = masks / file.relative_to(found.annotations).with_suffix(".png")
    return below if below.is_file() else masks / f"{file.stem}.png"


def _count_unused(masks: Path, found: VocFiles, sink: CocoSink, *, asked: bool) -> None:
    """Counts mask PNGs that no XML file has, and folders of masks that are not read."""
    if asked and not masks.is_dir():
        raise InputError(f"{masks}: expected the folder of the mask PNGs, there is no such folder")
    own = {_mask_file(masks, file, found) for file in found.files}
    extra = sorted(set(masks.rglob("*.png")) - own)
    what = "mask PNGs without an XML file of their name: left out"
    sink.report.fault(what, next(iter(extra), ""), times=len(extra))
    semantic = found.root / "SegmentationClass"
    if not masks.is_dir() and semantic.is_dir():
        files = sorted(semantic.glob("*.png"))
        sink.report.fault(
            "PNGs in SegmentationClass without SegmentationObject: left out, their pixels have "
            "a class and no object",
            next(iter(files), ""),
            times=len(files),
        )


def _add_file(
    file: Path,
    root: Element,
    mask: Path,
    *,
    sink: CocoSink,
    options: Options,
    found: VocFiles,
    more: dict[str, Any],
) -> None:
    name = found.name_of(file, root, sink.report)
    size = _size(root, name, found)
    number = sink.add_image(name, size, file, **more)
    if number is None:
        return
    for tag in unknown_children(root, _KNOWN):
        sink.report.fault(f"elements <{tag}> of a VOC file: not known, not read", file)
    values = _mask_values(mask, size, sink)
    things = root.findall("object")
    for position, thing in enumerate(things, 1):
        where = f"{file} object {position}"
        one = read_object(thing, sink.report, where, zero_based=options.zero_based)
        if one is not None:
            segmentation = _segmentation(one, values, position, size=size, sink=sink, where=where)
            sink.add(number, one.name, where, bbox=one.bbox, segmentation=segmentation, **one.more)
    if values is not None:
        extra = np.unique(values)
        extra = extra[(extra > len(things)) & (extra != VOID)]
        what = "values in mask PNGs that no object has: left out"
        sink.report.fault(what, mask, times=len(extra))


def _segmentation(
    one: VocObject,
    values: NDArray[np.uint8] | None,
    position: int,
    *,
    size: Size,
    sink: CocoSink,
    where: str,
) -> Any:
    """The object's pixels in the mask PNG, else its polygons; None without both."""
    mask = _mask_of(values, position, size)
    if mask is not None and one.bbox is not None and _inside(mask, one.bbox, size) < 0.5:
        what = "masks that lie outside their object's box: the box is kept without one"
        sink.report.fault(what, where)
        mask = None
    if mask is not None and one.polygons is not None:
        sink.report.note("objects with pixels and a polygon: the pixels are used", where)
    return one.polygons if mask is None else mask


def _size(root: Element, name: str, found: VocFiles) -> Size:
    """(H, W) from the XML, else from the photograph; a 0 if neither has it."""
    size = size_of_xml(root)
    folder = None if found.photographs is None else found.photographs.folder
    return size if min(size) > 0 else size_of_photograph(folder, name) or size


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
