"""The objects that `complete --add-objects` adds to a COCO file."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from halfmask.coco.categories import labels_by_name
from halfmask.coco.file import CocoFile
from halfmask.coco.records import Box, clip_box, is_id
from halfmask.coco.supervision import is_crowd
from halfmask.inference.complete.plan import Record
from halfmask.masks.rle import box_iou

OVERLAP = 0.5
"""A detection is new if its IoU with every box of the photograph is below this."""
IN_CROWD = 0.5
"""A detection with this share of its area in a crowd's box is one of the crowd."""

Found = tuple[str, list[float], float]
"""Class name, box xyxy, score: a detection as the journal keeps it."""


@dataclass(kw_only=True)
class Additions:
    """What a detector adds to a file.

    Attributes:
        detector: its name and digest, or the name of the results file.
        rows: the annotations to add, with new ids.
        added: class → how many of them.
        unknown: class that the file lacks → its detections, which are not added.
        known_already: detections of objects that the file has.
        in_crowd: detections within crowds.
        skipped: one line for each photograph that cannot be read.
    """

    detector: str
    rows: list[Record] = field(default_factory=list)
    added: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    known_already: int = 0
    in_crowd: int = 0
    skipped: list[str] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """Of the detector and the rows: the output's bytes depend on them."""
        text = json.dumps([self.detector, self.rows], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Returns the part of `halfmask complete --json`."""
        return {
            "detector": self.detector,
            "added": dict(self.added),
            "unknown_classes": dict(self.unknown),
            "known_already": self.known_already,
            "in_crowd": self.in_crowd,
        }


def with_additions(file: CocoFile, found: Additions) -> CocoFile:
    """Returns the file with the added annotations at its end."""
    rows = [*file.document["annotations"], *found.rows]
    return CocoFile.from_document({**file.document, "annotations": rows}, file.name)


def add_new(
    out: Additions, file: CocoFile, image: Record, *, found: list[Found], numbers: Iterator[int]
) -> None:
    """Adds the detections of an image that are new.

    Args:
        out: receives them.
        file: the file as it is.
        image: a record of it.
        found: the detections, best first.
        numbers: new annotation ids.
    """
    size, rows = file.size_of(image["id"]), file.annotations_of(image["id"])
    boxes = [(clip_box(row["bbox"], size), is_crowd(row)) for row in rows]
    crowds = [box for box, crowd in boxes if crowd and box is not None]
    taken = [box for box, crowd in boxes if not crowd and box is not None]
    names = {str(c["name"]): k for k, c in enumerate(file.categories, 1)}
    labels = labels_by_name([name for name, _, _ in found], names)
    for (name, (x0, y0, x1, y1), score), label in zip(found, labels, strict=True):
        box = (x0, y0, x1, y1)
        if any(box_iou(box, other) >= OVERLAP for other in taken):
            out.known_already += 1
        elif any(_share_within(box, crowd) >= IN_CROWD for crowd in crowds):
            out.in_crowd += 1
        elif not label:
            out.unknown[name] += 1
        else:
            taken.append(box)
            category = file.categories[label - 1]
            out.added[category["name"]] += 1
            bbox = [round(v, 2) for v in (x0, y0, x1 - x0, y1 - y0)]
            note = {"added": True, "detector": out.detector, "detector_score": score}
            out.rows.append(
                {
                    "id": next(numbers),
                    "image_id": image["id"],
                    "category_id": category["id"],
                    "bbox": bbox,
                    "area": round(bbox[2] * bbox[3], 2),
                    "iscrowd": 0,
                    "halfmask": note,
                }
            )


def _share_within(box: Box, region: Box) -> float:
    """Share of a box's area that lies in a region."""
    width = min(box[2], region[2]) - max(box[0], region[0])
    height = min(box[3], region[3]) - max(box[1], region[1])
    area = (box[2] - box[0]) * (box[3] - box[1])
    return max(width, 0.0) * max(height, 0.0) / area if area > 0 else 0.0


def new_ids(file: CocoFile) -> Iterator[int]:
    """Ids after the largest of the file."""
    rows = [a for a in file.document["annotations"] if isinstance(a, dict)]
    return count(max((row["id"] for row in rows if is_id(row.get("id"))), default=0) + 1)
