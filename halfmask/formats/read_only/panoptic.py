"""COCO panoptic to COCO: a JSON file, and a PNG of segment ids for each photograph."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfmask.coco.images import opened
from halfmask.coco.records import clip_box, file_name_of, is_id
from halfmask.errors import InputError
from halfmask.formats.coco_like import add_images, categories_of
from halfmask.formats.json_stream import stream_items
from halfmask.formats.read_only.parts import (
    is_file,
    note_keys,
    note_photographs,
    photograph_places,
    plain_values,
)
from halfmask.formats.report import Options
from halfmask.formats.sink import CocoSink, Size
from halfmask.formats.source_files import leads_out
from halfmask.masks.rle import rle_of
from halfmask.text import listed, with_counts

_OF_RECORD = {"image_id", "file_name", "segments_info"}
_OF_SEGMENT = {"id", "category_id", "iscrowd", "bbox", "area"}

Ids = NDArray[np.uint32]


def read_panoptic(source: Path, sink: CocoSink, options: Options) -> None:
    """Adds the segments of things; those of stuff (`isthing: 0`) are only counted.

    A segment is the pixels of its id in the PNG, id = R + 256 G + 65536 B. Images and
    classes keep their ids. Without pixels, the segment's `bbox` is a box-only
    annotation.

    Args:
        source: the JSON file.
        sink: receives them.
        options: `masks` is the folder of the PNGs, by default the one beside the file
            that is called like it.
    Raises:
        InputError: no such file.
    """
    source = _only_file(source)
    reader = _Segments(source, sink, options)
    add_images(source, sink, options)
    first = next(stream_items(source, "images.item"))
    name = file_name_of(first) if isinstance(first, dict) else ""
    for place in photograph_places(source.parent):
        note_photographs(sink, options, place, name=name)
    records = stream_items(source, "annotations.item", options.advance_bytes(source, reads=3))
    for position, record in enumerate(records):
        reader.add_record(record, f"annotation {position}")
    reader.report_rest()


def png_folder(source: Path) -> Path:
    """Returns the folder of the PNGs of a file: the one called like it, else its own."""
    own = source.with_suffix("")
    return own if own.is_dir() else source.parent


def _only_file(source: Path) -> Path:
    if not source.is_dir():
        return source
    files = list(source.glob("*.json"))
    if len(files) != 1:
        raise InputError(f"{source}: expected a panoptic file (.json), or a folder with one only")
    return files[0]


class _Segments:
    """Adds records of `annotations` to a sink."""

    def __init__(self, source: Path, sink: CocoSink, options: Options) -> None:
        self._sink, self._folder = sink, options.masks or png_folder(source)
        records = categories_of(source, options)
        # COCO has isthing as 0 or 1; a class without it is a thing.
        self._things = {r["id"]: r["name"] for r in records if r.get("isthing", 1) not in (0, "0")}
        self._stuff = {r["id"]: r["name"] for r in records if r["id"] not in self._things}
        self._left: Counter[str] = Counter()
        self._seen: set[int] = set()
        names = Counter(self._things.values())
        twice = [name for name, times in names.items() if times > 1]
        sink.report.note("classes of the same name: read as one", listed(twice, 5), len(twice))
        sink.add_categories([r for r in records if r["id"] in self._things])

    def add_record(self, record: Any, where: str) -> None:
        """Adds the segments of one image."""
        report = self._sink.report
        image = record.get("image_id") if isinstance(record, dict) else None
        size = self._sink.size_of(image) if image is not None and is_id(image) else None
        segments = record.get("segments_info") if isinstance(record, dict) else None
        if image is None or size is None or not isinstance(segments, list):
            report.fault("annotations without an image in the file, or segments: left out", where)
            return
        if image in self._seen:
            report.fault("annotations of an image that already has one: left out", where)
            return
        self._seen.add(image)
        note_keys(report, record, _OF_RECORD, what="annotations", where=where)
        ids = self._ids(record.get("file_name"), size, where)
        listed_ids = {0}  # of pixels that belong to no segment
        for position, segment in enumerate(segments):
            place = f"image {image} segment {position}"
            number = segment.get("id") if isinstance(segment, dict) else None
            if is_id(number) and number is not None:
                listed_ids.add(number)
            self._add_segment(segment, image, ids, where=place)
        if ids is not None:
            rest = sorted({*np.unique(ids).tolist()} - listed_ids)
            what = "ids in PNGs that no segment has: left out"
            report.fault(what, f"image {image} id {rest[0] if rest else ''}", len(rest))

    def report_rest(self) -> None:
        """Reports the segments of stuff, by class."""
        what = "segments of stuff classes: left out, they are regions and no objects"
        where = listed(with_counts(self._left), 6)
        self._sink.report.fault(what, where, self._left.total())

    def _add_segment(self, segment: Any, image: int, ids: Ids | None, *, where: str) -> None:
        report = self._sink.report
        number, label = (
            (segment.get("id"), segment.get("category_id"))
            if isinstance(segment, dict)
            else (None, None)
        )
        if not is_id(number) or not is_id(label) or label not in (*self._things, *self._stuff):
            report.fault("segments without an id, or a class in the file: left out", where)
            return
        if label in self._stuff:
            self._left[self._stuff[label]] += 1
            return
        size = self._sink.size_of(image)
        assert size is not None
        found = None if ids is None else ids == number
        rle = None if found is None or not found.any() else rle_of(found, (0, 0), size)
        if found is not None and rle is None:
            report.fault("segments without a pixel in their PNG: the box is kept", where)
        box = segment.get("bbox")
        if rle is not None and clip_box(box, size) is None:
            box = None  # the mask's own
        more = {} if segment.get("iscrowd", 0) in (0, None) else {"iscrowd": 1}
        extra = plain_values({k: v for k, v in segment.items() if k not in _OF_SEGMENT})
        self._sink.add(
            image,
            self._things[label],
            where,
            bbox=box,
            segmentation=rle,
            **more,
            **({"attributes": extra} if extra else {}),
        )

    def _ids(self, name: object, size: Size, where: str) -> Ids | None:
        """The segment ids [H, W] of a PNG; None, and a fault, without one."""
        report = self._sink.report
        if not isinstance(name, str) or leads_out(name):
            what = "PNGs whose file name is missing or leads out: boxes are kept without masks"
            report.fault(what, where)
            return None
        path = self._folder / name
        if not is_file(self._folder, name):
            what = (
                "PNGs that are not there: boxes are kept without masks; name their folder with "
                "--masks"
            )
            report.fault(what, path)
            return None
        try:
            with opened(path) as image:
                mode, found = image.mode, (image.height, image.width)
                fits = mode in ("RGB", "RGBA") and found == size
                pixels = np.asarray(image) if fits else None
        except InputError as error:
            report.fault("PNGs that cannot be read: boxes are kept without masks", error)
            return None
        if pixels is None:
            what = "PNGs that are not RGB of the image's size: boxes are kept without masks"
            report.fault(what, f"{path}: {mode}, {found[1]} × {found[0]}")
            return None
        red, green, blue = (pixels[..., k].astype(np.uint32) for k in range(3))
        return red + 256 * green + 65536 * blue
