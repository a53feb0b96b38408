"""Pascal VOC to COCO: Annotations/*.xml, and masks from SegmentationObject/*.png for
the images that have one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from halfmask.coco.images import opened
from halfmask.errors import InputError
from halfmask.formats.names import leads_out
from halfmask.formats.options import Options
from halfmask.formats.sink import CocoSink, Size, own_box
from halfmask.formats.xml_stream import XmlError, elements, number_of, text_of, whole_of
from halfmask.masks.rle import rle_of

VOID = 255
"""The value of pixels that count for nobody: borders and what is too hard."""
_FLAGS = ("difficult", "truncated", "occluded")


def read_voc(source: Path, sink: CocoSink, options: Options) -> None:
    """Adds a VOC folder to a sink. The value i of a mask PNG is the i-th object of the
    XML; an object without pixels is box-only.

    Classes are in the order of labels.txt, where there is one, else alphabetical over
    all XML files, so that splits agree.

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
    masks = options.masks or source / "SegmentationObject"
    for file in files:
        try:
            root = _root(file)
        except XmlError as error:
            sink.tally.fault("XML files that cannot be read: left out", error)
        else:
            _add_file(file, root, masks / f"{file.stem}.png", sink, options)
        options.progress(1, len(files))


def _class_names(source: Path, files: list[Path]) -> list[str]:
    listed = source / "labels.txt"
    if listed.is_file():
        lines = listed.read_text(encoding="utf-8", errors="replace").splitlines()
        return list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    names = set()
    for file in files:
        try:
            names |= {text_of(thing, "name") for thing in _root(file).findall("object")}
        except XmlError:
            continue  # told when it is converted
    return sorted(names - {""})


def _split_stems(source: Path, split: str) -> set[str]:
    places = (
        []
        if leads_out(split)
        else [source / "ImageSets" / kind / f"{split}.txt" for kind in ("Segmentation", "Main")]
    )
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise InputError(
            f"{source}: no list ImageSets/Segmentation/{split}.txt or ImageSets/Main/{split}.txt"
        )
    lines = found.read_text(encoding="utf-8", errors="replace").splitlines()
    return {line.split()[0] for line in lines if line.strip()}


def _root(file: Path) -> Element:
    root = next(elements(file, {"annotation"}), None)
    if root is None:
        raise XmlError(f"{file}: expected a VOC file, found no element annotation")
    return root


def _add_file(file: Path, root: Element, mask: Path, sink: CocoSink, options: Options) -> None:
    name = text_of(root, "filename") or f"{file.stem}.jpg"
    size = _size(root, name, options.images)
    number = sink.add_image(name, size, file)
    if number is None:
        return
    values = _mask_values(mask, size, sink)
    things = root.findall("object")
    for position, thing in enumerate(things, 1):
        where = f"{file} object {position}"
        bbox = _bbox(thing.find("bndbox"), options.zero_based)
        if bbox is None:
            sink.tally.fault("objects without a box of four numbers: left out", where)
            continue
        if not text_of(thing, "name"):
            sink.tally.fault("objects without a name: left out", where)
            continue
        if not options.zero_based and min(bbox[:2]) < 0:
            sink.tally.note(
                "boxes that begin at 0, where VOC counts from 1: --zero-based if the file "
                "counts from 0",
                where,
            )
        if thing.find("part") is not None:
            sink.tally.note("objects with parts: COCO has no place for the parts", where)
        segmentation = _mask_of(values, position, bbox, size, sink, where)
        sink.add(number, text_of(thing, "name"), where, bbox, segmentation, **_attributes(thing))
    if values is not None:
        beyond = np.unique(values)
        extra = beyond[(beyond > len(things)) & (beyond != VOID)]
        sink.tally.fault("values in mask PNGs that no object has: left out", mask, times=len(extra))


def _size(root: Element, name: str, images: Path | None) -> Size:
    """(H, W) from the XML, else from the photograph; (0, 0) where neither tells it."""
    size = root.find("size")
    height, width = (
        (0, 0)
        if size is None
        else (whole_of(size.findtext("height")), whole_of(size.findtext("width")))
    )
    if (
        (not height or not width)
        and images is not None
        and not leads_out(name)
        and (images / name).is_file()
    ):
        with opened(images / name) as image:
            return image.height, image.width
    return height, width


def _bbox(box: Element | None, zero_based: bool) -> list[float] | None:
    """x, y, width, height. VOC counts pixels from 1 and the last one belongs to the box."""
    if box is None:
        return None
    x0, y0, x1, y1 = (number_of(box.findtext(key)) for key in ("xmin", "ymin", "xmax", "ymax"))
    if x0 is None or y0 is None or x1 is None or y1 is None:
        return None
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
        sink.tally.fault("mask PNGs that cannot be read: boxes are kept without masks", error)
        return None
    if values is None:
        what = "mask PNGs that are no palette or gray image of the image's size: boxes are kept without masks"
        sink.tally.fault(what, f"{mask}: {mode}, {found[1]} × {found[0]}")
    return values


def _mask_of(
    values: NDArray[np.uint8] | None,
    position: int,
    bbox: list[float],
    size: Size,
    sink: CocoSink,
    where: str,
) -> dict[str, Any] | None:
    """The RLE of an object's pixels; None where it has none, or where they lie outside its box."""
    if values is None or position >= VOID:
        return None
    bitmap = values == position
    if not bitmap.any():
        return None
    rle = rle_of(bitmap, (0, 0), size)
    own = own_box(rle, size)
    assert own is not None
    if _share_inside(own, bbox) < 0.5:
        sink.tally.fault(
            "masks that lie outside their object's box: the box is kept without one", where
        )
        return None
    return rle


def _share_inside(inner: list[float], outer: list[float]) -> float:
    """The share of a box, x, y, width, height, that lies in another."""
    width = min(inner[0] + inner[2], outer[0] + outer[2]) - max(inner[0], outer[0])
    height = min(inner[1] + inner[3], outer[1] + outer[3]) - max(inner[1], outer[1])
    return max(width, 0.0) * max(height, 0.0) / (inner[2] * inner[3])


def _attributes(thing: Element) -> dict[str, Any]:
    """difficult, truncated, occluded where they are set, and the pose, as `attributes`."""
    found: dict[str, Any] = {
        flag: 1 for flag in _FLAGS if text_of(thing, flag) in ("1", "true", "True")
    }
    pose = text_of(thing, "pose")
    if pose and pose != "Unspecified":
        found["pose"] = pose
    return {"attributes": found} if found else {}
