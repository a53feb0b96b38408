"""Takes images and annotations of any format, in any order, and writes one COCO file;
what is in memory are ids and sizes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from halfmask.coco.records import clip_box, fault_of_box, is_id
from halfmask.coco.stream import CocoStream, json_text
from halfmask.coco.supervision import MaskState, judge
from halfmask.files.atomic import writing
from halfmask.formats.names import leads_out
from halfmask.formats.report import Report
from halfmask.masks.rle import area_of, box_of

Size = tuple[int, int]

MOST_PIXELS = 1 << 28
"""Masks of larger images are refused: a hostile size must not make a canvas of it."""


class CocoSink:
    """A COCO file in the making; it is written when the `with` block ends well,
    otherwise nothing is left.

    Args:
        path: the file.
        tally: where what cannot be used is counted.
        about: `info.description`.
    """

    def __init__(self, path: Path, tally: Report, about: str) -> None:
        self.path, self.tally = path, tally
        self._info = {"description": about}
        self._categories: list[dict[str, Any]] = []
        self._id_of: dict[str, int] = {}
        self._sizes: dict[int, Size] = {}
        self._names: set[str] = set()
        self.annotations = self.masks = 0
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._images, self._rows = self._spool(), self._spool()

    @property
    def images(self) -> int:
        """How many there are so far."""
        return len(self._sizes)

    @property
    def categories(self) -> list[str]:
        """The names of the classes so far."""
        return [str(record["name"]) for record in self._categories]

    @property
    def category_ids(self) -> set[int]:
        """The ids of the classes so far."""
        return {record["id"] for record in self._categories}

    def category(self, name: str) -> int:
        """The id of a class, 1, 2, … in the order of first use."""
        if name not in self._id_of:
            self.add_categories([{"id": len(self._categories) + 1, "name": name}])
        return self._id_of[name]

    def add_categories(self, records: list[dict[str, Any]]) -> None:
        """Takes over category records with ids of their own; to be called before any is
        added by name.
        """
        self._categories += records
        self._id_of |= {str(record["name"]): record["id"] for record in records}

    def add_image(self, file_name: str, size: Size, where: object, **more: Any) -> int | None:
        """The id of a new image of size (H, W); None, and counted, where its name, or
        size, cannot be used.
        """
        if leads_out(file_name):
            self.tally.fault("images whose file name leads out of the folder: left out", where)
        elif file_name in self._names:
            self.tally.fault("images that were there already: left out", where)
        elif (
            not all(type(side) is int and side > 0 for side in size)
            or size[0] * size[1] >= MOST_PIXELS
        ):
            self.tally.fault("images without a usable width and height: left out", where)
        else:
            number = len(self._sizes) + 1
            self._sizes[number] = size
            self._names.add(file_name)
            self._put(
                self._images,
                {"id": number, "file_name": file_name, "width": size[1], "height": size[0], **more},
            )
            return number
        return None

    def add_image_record(self, record: dict[str, Any], size: Size) -> None:
        """Takes over a record with an id of its own, which was checked."""
        assert is_id(record["id"])
        self._sizes[record["id"]] = size
        self._put(self._images, record)

    def size_of(self, image: int) -> Size | None:
        """(H, W) of an image that was added."""
        return self._sizes.get(image)

    def add(
        self,
        image: int,
        label: str,
        where: object,
        bbox: list[float] | None = None,
        segmentation: Any = None,
        **more: Any,
    ) -> None:
        """Adds an annotation: a box, a mask or both. Without a box the mask's own is
        taken; an unusable mask leaves a box-only row.

        Args:
            image: as `add_image` gave it.
            label: the name of its class.
            where: what the report should name: file and line, or an id.
            bbox: x, y, width, height in pixels; clipped to the image where it sticks
                out by less than a pixel.
            segmentation: polygons or RLE, sound or not.
            more: further keys.
        """
        size = self._sizes[image]
        segmentation = self._usable(segmentation, size, where)
        if bbox is None and segmentation is not None:
            bbox = own_box(segmentation, size)
        if bbox is None or clip_box(bbox, size) is None:
            reason = (
                "no box and no mask"
                if bbox is None
                else f"a bad box ({fault_of_box(bbox, size)[0]})"
            )
            self.tally.fault(f"annotations with {reason}: left out", where)
            return
        bbox = [tidy(v) for v in _snapped(bbox, size)]
        self.annotations += 1
        row = {
            "id": self.annotations,
            "image_id": image,
            "category_id": self.category(label),
            "bbox": bbox,
        }
        row |= {"area": tidy(bbox[2] * bbox[3]), "iscrowd": 0, **more}
        if segmentation is not None:
            row |= {"area": area_of(segmentation, size), "segmentation": segmentation}
            self.masks += 1
        self._put(self._rows, row)

    def add_row(self, row: dict[str, Any]) -> None:
        """Takes over an annotation with ids of its own."""
        self.annotations += 1
        self.masks += bool(row.get("segmentation"))
        self._put(self._rows, row)

    def __enter__(self) -> CocoSink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                head = {"info": self._info, "categories": self._categories}
                images = (json.loads(text) for text in _lines(self._images))
                with writing(self.path), CocoStream(self.path, head, images) as stream:
                    stream.extend(_lines(self._rows))
        finally:
            for spool in (self._images, self._rows):
                with suppress(
                    OSError
                ):  # what it could not write to a full disk, it cannot write now
                    spool.close()

    def _usable(self, segmentation: Any, size: Size, where: object) -> Any:
        """The segmentation where it is sound; else None, and counted."""
        verdict = judge({"segmentation": segmentation}, size)
        if verdict.state == MaskState.BROKEN:
            self.tally.fault(
                "masks that are broken: the box is kept without one", f"{where}: {verdict.reason}"
            )
        return segmentation if verdict.state == MaskState.MASK else None

    def _spool(self) -> IO[str]:
        return tempfile.TemporaryFile(
            "w+", encoding="utf-8", errors="replace", newline="\n", dir=self.path.parent
        )

    def _put(self, spool: IO[str], record: dict[str, Any]) -> None:
        with writing(self.path):
            spool.write(json_text(record) + "\n")


def own_box(segmentation: Any, image_size: Size) -> list[float] | None:
    """x, y, width, height of a sound segmentation: the extent of polygons, the pixels of an RLE."""
    if isinstance(segmentation, list):
        xs = [x for part in segmentation for x in part[0::2]]
        ys = [y for part in segmentation for y in part[1::2]]
        return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    return pixel_box(segmentation, image_size)


def pixel_box(segmentation: Any, image_size: Size) -> list[float] | None:
    """x, y, width, height of the pixels of a sound segmentation."""
    box = box_of(segmentation, image_size)
    return None if box is None else [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def tidy(value: float) -> float:
    """A coordinate to a thousandth of a pixel, whole where it is whole: normalised
    formats give 240.86016 for 240.86.
    """
    rounded = round(value, 3)
    return int(rounded) if rounded == int(rounded) else rounded


def _snapped(bbox: list[float], size: Size) -> list[float]:
    """The box without what rounding put beyond the image: under a pixel on each side."""
    x, y, w, h = bbox
    x1, y1 = x + w, y + h
    x, y = (0.0 if -1 < v < 0 else v for v in (x, y))
    x1 = size[1] if size[1] < x1 < size[1] + 1 else x1
    y1 = size[0] if size[0] < y1 < size[0] + 1 else y1
    return [x, y, x1 - x, y1 - y]


def _lines(spool: IO[str]) -> Iterator[str]:
    spool.seek(0)
    return (line.rstrip("\n") for line in spool)
