"""Reads a COCO file whose boxes, polygons or crowds are written unlike COCO."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from halfmask.coco.file import CocoFile
from halfmask.coco.reading.boxes import as_xywh
from halfmask.coco.reading.forms import standard_record
from halfmask.coco.records import Document, Record, is_id
from halfmask.coco.supervision import all_finite, is_box, is_missing
from halfmask.errors import InputError

BOXES = ("xywh", "xyxy", "cxcywh", "unit-xywh", "unit-xyxy", "unit-cxcywh")
POLYGONS = ("unit-polygons", "percent-polygons")


@dataclass(frozen=True)
class ReadAs:
    """How a COCO file is to be read.

    Attributes:
        crowd_masks: masks with iscrowd 1 are masks of single objects.
        boxes: one of BOXES; `unit` boxes are shares of their image.
        polygons: one of POLYGONS; "": in pixels.
    """

    crowd_masks: bool = False
    boxes: str = "xywh"
    polygons: str = ""

    @classmethod
    def of(cls, crowd_masks: bool = False, forms: str | None = None) -> ReadAs:
        """Reads the options `--crowd-masks` and `--read-as`.

        Raises:
            InputError: `forms` has another word than those of BOXES and POLYGONS, or
                two of one kind.
        """
        words = [word.strip() for word in (forms or "").split(",") if word.strip()]
        unknown = [word for word in words if word not in (*BOXES, *POLYGONS)]
        boxes = [word for word in words if word in BOXES]
        polygons = [word for word in words if word in POLYGONS]
        if unknown or len(boxes) > 1 or len(polygons) > 1:
            found = unknown[0] if unknown else " and ".join(words)
            raise InputError(
                f"--read-as: expected one of {', '.join(BOXES)}, or one of "
                f"{', '.join(POLYGONS)}, or one of each with a comma, found {found}"
            )
        return cls(crowd_masks, *(boxes or ["xywh"]), *polygons)

    @property
    def label(self) -> str:
        """What differs from COCO, as a part of a file name."""
        words = [*["crowd-masks"] * self.crowd_masks, self.boxes, self.polygons]
        return ".".join(word for word in words if word not in ("xywh", ""))

    @property
    def flags(self) -> list[str]:
        """The options of the command line that say the same."""
        words = [word for word in (self.boxes, self.polygons) if word not in ("xywh", "")]
        forms = ["--read-as", ",".join(words)] if words else []
        return [*["--crowd-masks"] * self.crowd_masks, *forms]

    @property
    def changes(self) -> bool:
        """Whether the file is read in another way than as COCO."""
        return self != ReadAs()

    def applied(self, file: CocoFile) -> tuple[Document, dict[str, int]]:
        """Returns the document of a file as COCO writes it, and what that changes.

        Args:
            file: the file, which is not changed.
        Returns:
            The document; and for each part of the options in words how often it was
                read otherwise, 0 for an option without effect.
        """
        changed: Counter[str] = Counter()
        rows = [
            self._standard(row, file, changed) if isinstance(row, dict) else row
            for row in file.document["annotations"]
        ]
        asked = {
            self._words["boxes"]: self.boxes != "xywh",
            self._words["polygons"]: bool(self.polygons),
            self._words["crowds"]: self.crowd_masks,
        }
        counts = {what: changed[what] for what, wanted in asked.items() if wanted}
        return file.document | {"annotations": rows}, counts

    @property
    def _words(self) -> dict[str, str]:
        return {
            "boxes": f"boxes read as {self.boxes}",
            "polygons": f"masks read from {self.polygons}",
            "crowds": "masks with iscrowd 1 read as masks of single objects",
        }

    def _standard(self, row: Record, file: CocoFile, changed: Counter[str]) -> Record:
        image: Any = row.get("image_id")
        if not is_id(image) or image not in file:
            return row
        size = file.size_of(image)
        if self.polygons:
            row = self._with_polygons(row, size, changed)
        if self.boxes != "xywh" and is_box(row.get("bbox")):
            row = self._with_box(row, size)
            changed[self._words["boxes"]] += 1
        if self.crowd_masks and row.get("iscrowd") == 1 and not is_missing(row.get("segmentation")):
            row = row | {"iscrowd": 0}
            changed[self._words["crowds"]] += 1
        return row

    def _with_box(self, row: Record, size: tuple[int, int]) -> Record:
        scale, _, form = self.boxes.rpartition("-")
        x, y, w, h = as_xywh([float(v) for v in row["bbox"]], form)
        if not scale:
            return row | {"bbox": [x, y, w, h]}
        height, width = size
        bbox = [round(v, 4) for v in (x * width, y * height, w * width, h * height)]
        return row | {"bbox": bbox} | _area_in_pixels(row, size)

    def _with_polygons(self, row: Record, size: tuple[int, int], changed: Counter[str]) -> Record:
        mask = standard_record(row, size).record.get("segmentation")
        if not isinstance(mask, list) or not all(
            isinstance(part, list) and all_finite(part) for part in mask
        ):
            return row
        changed[self._words["polygons"]] += bool(mask)
        share = 1.0 if self.polygons == "unit-polygons" else 0.01
        factors = (size[1] * share, size[0] * share)
        scaled = [[round(v * factors[k % 2], 4) for k, v in enumerate(part)] for part in mask]
        return row | {"segmentation": scaled} | _area_in_pixels(row, size)


def _area_in_pixels(row: Record, size: tuple[int, int]) -> dict[str, Any]:
    """The area of a row in pixels, if it is a share of the image."""
    area = row.get("area")
    if not all_finite([area]) or not 0 < float(area or 0) <= 1:
        return {}
    return {"area": round(float(area or 0) * size[0] * size[1], 4)}
