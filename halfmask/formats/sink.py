"""Writes one COCO file from images and annotations in any order.

Only ids and sizes are kept in memory.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from halfmask.coco.categories import names_regions_to_ignore
from halfmask.coco.records import clip_box, fault_of_box, is_id, size_of_record
from halfmask.coco.stream import CocoStream, json_text
from halfmask.coco.supervision import MaskState, judge
from halfmask.files.atomic import writing
from halfmask.formats.report import ConversionReport
from halfmask.formats.shapes import extent, pairs
from halfmask.formats.source_files import leads_out
from halfmask.masks.rle import area_of, box_of

Size = tuple[int, int]


class CocoSink:
    """A COCO file that is written when the `with` block succeeds.

    Nothing is written if the block fails.

    Args:
        path: the file.
        report: counts what cannot be used.
        about: `info.description`.
    Attributes:
        origin: where the content comes from; `info.halfmask.source` of the file.
    """

    def __init__(self, path: Path, report: ConversionReport, about: str) -> None:
        self.path, self.report = path, report
        self._info: dict[str, Any] = {"description": about}
        self.origin: dict[str, Any] = {}
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
        """Number of images so far."""
        return len(self._sizes)

    @property
    def category_ids(self) -> set[int]:
        """Ids of the classes so far."""
        return {record["id"] for record in self._categories}

    def category(self, name: str) -> int:
        """Returns the id of a class; new classes get 1, 2, … in the order of first use."""
        if name not in self._id_of:
            self.add_categories([{"id": len(self._categories) + 1, "name": name}])
        return self._id_of[name]

    def add_categories(self, records: list[dict[str, Any]]) -> None:
        """Adds category records with their own ids, before any class is added by name."""
        self._categories += records
        self._id_of |= {str(record["name"]): record["id"] for record in records}

    def add_image(self, file_name: str, size: Size, where: object, **more: Any) -> int | None:
        """Adds an image.

        Args:
            file_name: its name below the photographs' folder.
            size: (H, W).
            where: source of the image, for the report.
            more: further keys.
        Returns:
            Its id, or None, and a fault in the report, if the name or size is unusable.
        """
        if leads_out(file_name):
            self.report.fault("images whose file name leads out of the folder: left out", where)
        elif file_name in self._names:
            self.report.fault("images that occur twice: left out", where)
        elif usable_size(*size) is None:
            self.report.fault("images without a usable width and height: left out", where)
        else:
            number = len(self._sizes) + 1
            self._names.add(file_name)
            image = {"id": number, "file_name": file_name, "width": size[1], "height": size[0]}
            self.add_image_record({**image, **more}, size)
            return number
        return None

    def add_image_record(self, record: dict[str, Any], size: Size) -> None:
        """Adds a checked image record with its own id."""
        assert is_id(record["id"])
        self._sizes[record["id"]] = size
        self._put(self._images, record)

    def size_of(self, image: int) -> Size | None:
        """Returns (H, W) of an added image."""
        return self._sizes.get(image)

    def add(
        self,
        image: int,
        label: str | int,
        where: object,
        *,
        bbox: list[float] | None = None,
        segmentation: Any = None,
        **more: Any,
    ) -> None:
        """Adds an annotation with a box, a mask or both.

        Without a box the mask's own box is used. With a broken mask only the box is
        kept.

        Args:
            image: an id from `add_image`.
            label: name of the class, or the id of one that `add_categories` added.
            where: file and line or id, for the report.
            bbox: x, y, width, height in pixels; clipped to the image if it extends
                beyond it by less than a pixel.
            segmentation: polygons or RLE, valid or not.
            more: further keys.
        """
        size = self._sizes[image]
        segmentation = self._usable(segmentation, size, where)
        if bbox is None and segmentation is not None:
            bbox = own_box(segmentation, size)
        if bbox is None:
            self.report.fault("annotations with no box and no mask: left out", where)
            return
        if clip_box(bbox, size) is None:
            reason = fault_of_box(bbox, size)[0]
            self.report.fault(f"annotations with a bad box ({reason}): left out", where)
            return
        bbox = [tidy(v) for v in _snapped(bbox, size)]
        row = {
            "id": self.annotations + 1,
            "image_id": image,
            "category_id": label if isinstance(label, int) else self.category(label),
            "bbox": bbox,
            "area": tidy(bbox[2] * bbox[3]),
            "iscrowd": 0,
            **more,
        }
        if segmentation is not None:
            row |= {"area": area_of(segmentation, size), "segmentation": segmentation}
        self.add_row(row)

    def add_row(self, row: dict[str, Any]) -> None:
        """Adds an annotation record with its own ids."""
        self.annotations += 1
        self.masks += bool(row.get("segmentation"))
        self._put(self._rows, row)

    def _note_ignored(self) -> None:
        """Counts the classes that box regions to ignore."""
        for record in self._categories:
            if names_regions_to_ignore(str(record["name"])):
                self.report.note(
                    "classes that box regions to ignore, by their name: kept as classes; "
                    "`evaluate` counts no detection in such a region as wrong, `train` learns them",
                    record["name"],
                )

    def count_nothing(self, objects: str) -> None:
        """Counts the images as a fault if none of them has an annotation.

        Args:
            objects: where annotations were looked for.
        """
        if not self.annotations:
            what = f"images and not one annotation: looked for {objects}"
            self.report.fault(what, times=self.images)

    def counts(self) -> dict[str, int]:
        """Returns the numbers of images, annotations, masks and classes so far."""
        return {
            "images": self.images,
            "annotations": self.annotations,
            "masks": self.masks,
            "classes": len(self._categories),
        }

    def __enter__(self) -> CocoSink:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._note_ignored()
                if self.origin:
                    self._info["halfmask"] = {"source": self.origin}
                head = {"info": self._info, "categories": self._categories}
                images = (json.loads(text) for text in _lines(self._images))
                with writing(self.path), CocoStream(self.path, head, images) as stream:
                    stream.extend(_lines(self._rows))
        finally:
            for spool in (self._images, self._rows):
                with suppress(OSError):  # a full disk does not take the rest of the buffer
                    spool.close()

    def _usable(self, segmentation: Any, size: Size, where: object) -> Any:
        """Returns a valid segmentation, else None; a broken one is counted."""
        verdict = judge({"segmentation": segmentation}, size)
        if verdict.state == MaskState.BROKEN:
            self.report.fault(
                "broken masks: the box is kept without one", f"{where}: {verdict.reason}"
            )
        return segmentation if verdict.state == MaskState.MASK else None

    def _spool(self) -> IO[str]:
        return tempfile.TemporaryFile(
            "w+", encoding="utf-8", errors="replace", newline="\n", dir=self.path.parent
        )

    def _put(self, spool: IO[str], record: dict[str, Any]) -> None:
        with writing(self.path):
            spool.write(json_text(record) + "\n")


def usable_size(height: object, width: object) -> Size | None:
    """Returns (H, W) of whole pixels; None if a COCO file could not have an image of it."""
    if type(height) is not int or type(width) is not int:
        return None
    return size_of_record({"height": height, "width": width})


def own_box(segmentation: Any, image_size: Size) -> list[float] | None:
    """Returns x, y, width, height of a valid segmentation: of polygons, their extent."""
    if isinstance(segmentation, list):
        return extent(point for part in segmentation for point in pairs(part))
    return pixel_box(segmentation, image_size)


def pixel_box(segmentation: Any, image_size: Size) -> list[float] | None:
    """Returns x, y, width, height of the pixels of a valid segmentation."""
    box = box_of(segmentation, image_size)
    return None if box is None else [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def tidy(value: float) -> float:
    """Rounds a coordinate to 0.001 pixels, and to an int if it is whole.

    Normalised formats give 240.86016 for 240.86.
    """
    rounded = round(value, 3)
    return int(rounded) if rounded == int(rounded) else rounded


def _snapped(bbox: list[float], size: Size) -> list[float]:
    """The box without a rounding error of less than a pixel beyond a side of the image."""
    x, y, w, h = bbox
    x1, y1 = x + w, y + h
    x, y = (0.0 if -1 < v < 0 else v for v in (x, y))
    x1 = size[1] if size[1] < x1 < size[1] + 1 else x1
    y1 = size[0] if size[0] < y1 < size[0] + 1 else y1
    return [x, y, x1 - x, y1 - y]


def _lines(spool: IO[str]) -> Iterator[str]:
    spool.seek(0)
    return (line.rstrip("\n") for line in spool)
