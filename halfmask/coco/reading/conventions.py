"""Suspects that a whole file writes its boxes, polygons or crowds unlike COCO.

Nothing here changes a file; `halfmask.coco.reading.read_as` does, when it is asked to.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from halfmask.coco.problems import Problem, ProblemKind
from halfmask.coco.reading.boxes import BOX_FORMS, FEWEST, Array, BoxCounts, as_xywh
from halfmask.coco.records import Record
from halfmask.coco.supervision import all_finite, is_crowd, is_missing
from halfmask.masks.rle import box_iou
from halfmask.text import listed, plural

STICKS_OUT = 1.0
"""Pixels by which a box may reach beyond its image unreported: exporters round."""
LIKELY, UNLIKELY = 0.8, 0.3
"""Shares of masks that must agree with their boxes, and may under COCO's own reading."""
_COMPARED = 2000
"""Masks whose extent is compared with their box; more would say the same."""
_AGREES = 0.6  # IoU of a box with the extent of its polygons
_UNIT_SLACK = 0.01  # share of an image by which a box from 0 to 1 may reach beyond it


class ConventionCheck:
    """Counts what the annotations of a file say about its conventions; `found` sums it up."""

    def __init__(self) -> None:
        self._pixel, self._unit = BoxCounts(), BoxCounts()
        self._compared = 0
        self._agree: Counter[tuple[str, str, str]] = Counter()
        self._turned: list[int] = []
        self._forms: Counter[str] = Counter()
        self._crowds: Counter[int] = Counter()
        self._masks: Counter[int] = Counter()
        self._all: Counter[int] = Counter()

    def add(self, record: Record, image_size: tuple[int, int], *, form: str, turned: bool) -> None:
        """Counts an annotation with a usable box.

        Args:
            record: as `standard_record` returns it.
            image_size: (H, W).
            form: of its mask, see `StandardRecord`.
            turned: whether its box was turned.
        """
        bbox, segmentation = record["bbox"], record.get("segmentation")
        self._all[record["category_id"]] += 1
        if not is_missing(segmentation):
            counts = self._crowds if is_crowd(record) else self._masks
            counts[record["category_id"]] += 1
        if form:
            self._forms[form] += 1
        if turned:
            self._turned.append(record["id"])
            return
        self._pixel.add(bbox, image_size, STICKS_OUT)
        if max(bbox) <= 1 + _UNIT_SLACK and min(image_size) > 4:
            self._unit.add(bbox, (1.0, 1.0), _UNIT_SLACK)
        if self._compared < _COMPARED and not is_crowd(record):
            self.compare(bbox, segmentation, image_size)

    @property
    def wanted(self) -> int:
        """Number of masks that are still compared with their box."""
        return _COMPARED - self._compared

    def add_many(
        self, boxes: Array, sizes: Array, *, categories: Array, masked: Array, crowd: Array
    ) -> None:
        """Counts annotations with usable boxes as `add` does, and compares no masks.

        Args:
            boxes: float64 [n, 4], x, y, width, height as in the file.
            sizes: [n, 2], H and W of their images.
            categories: int64 [n], ids.
            masked: bool [n], the annotation has a mask.
            crowd: bool [n].
        """
        for counts, chosen in (
            (self._all, np.ones(len(boxes), dtype=bool)),
            (self._crowds, masked & crowd),
            (self._masks, masked & ~crowd),
        ):
            ids, times = np.unique(categories[chosen], return_counts=True)
            counts.update(dict(zip(ids.tolist(), times.tolist(), strict=True)))
        self._pixel.add_many(boxes, sizes, STICKS_OUT)
        unit = (boxes.max(axis=1, initial=-np.inf) <= 1 + _UNIT_SLACK) & (sizes.min(axis=1) > 4)
        self._unit.add_many(boxes[unit], np.ones((int(unit.sum()), 2)), _UNIT_SLACK)

    def compare(self, bbox: list[float], segmentation: Any, size: tuple[int, int]) -> None:
        """Compares a box with the extent of its polygons, in each form and scale.

        `add` does so for the first `wanted`; after `add_many` they are compared here.
        """
        extent = _extent(segmentation)
        if extent is None:
            return
        self._compared += 1
        for form in BOX_FORMS:
            x, y, w, h = as_xywh(bbox, form)
            for box_scale, (sx, sy) in _scales(size, "pixel", "unit").items():
                box = (x * sx, y * sy, (x + w) * sx, (y + h) * sy)
                for scale, (px, py) in _scales(size, "pixel", "unit", "percent").items():
                    x0, y0, x1, y1 = extent
                    own = (x0 * px, y0 * py, x1 * px, y1 * py)
                    if box_iou(box, own) >= _AGREES:
                        self._agree[form, box_scale, scale] += 1

    def compare_many(self, boxes: Array, sizes: Array, extents: Array) -> None:
        """Compares boxes with the extents of their polygons, as `add` does.

        Args:
            boxes: float64 [n, 4], x, y, width, height as in the file, at most `wanted`.
            sizes: [n, 2], H and W of their images.
            extents: float64 [n, 4], x0, y0, x1, y1 of all points of each mask.
        """
        self._compared += len(boxes)
        size, own = (sizes[:, 0], sizes[:, 1]), extents.T
        for form in BOX_FORMS:
            x, y, w, h = as_xywh(boxes.T, form)
            for box_scale, (sx, sy) in _scales(size, "pixel", "unit").items():
                box = (x * sx, y * sy, (x + w) * sx, (y + h) * sy)
                for scale, (px, py) in _scales(size, "pixel", "unit", "percent").items():
                    scaled = (own[0] * px, own[1] * py, own[2] * px, own[3] * py)
                    agree = int((_ious(box, scaled) >= _AGREES).sum())
                    if agree:
                        self._agree[form, box_scale, scale] += agree

    def found(self, name: str, known: set[int]) -> list[Problem]:
        """Returns the findings of the file.

        Args:
            name: of the file.
            known: ids of its categories.
        """
        found = [*self._boxes(), *self._polygons(), *self._crowd_masks(known)]
        if self._turned:
            few = listed(self._turned, 4)
            found.append(
                (
                    ProblemKind.BOXES_TURNED,
                    f"{plural(len(self._turned), 'box', 'es')} turned by attributes.rotation: the "
                    f"upright box around each is used (annotations {few})",
                )
            )
        if self._forms:
            forms = [f"{n} as {form}" for form, n in self._forms.most_common()]
            what = f"masks in another form, read as COCO's: {', '.join(forms)}"
            found.append((ProblemKind.MASK_FORM, what))
        return [Problem(kind, (), f"{name}: {message}") for kind, message in found]

    def _boxes(self) -> list[tuple[ProblemKind, str]]:
        boxes = self._pixel.boxes
        unit = self._unit.boxes == boxes >= FEWEST and self._unit_form()
        if unit:
            return [
                (
                    ProblemKind.BOXES_UNIT,
                    f"all {boxes} boxes are from 0 to 1, shares of their image: read them with "
                    f"--read-as {unit}, or multiply them by the image's width and height",
                )
            ]
        form = self._box_form(self._pixel, "pixel")
        if form == "xyxy":
            return [
                (
                    ProblemKind.BOXES_XYXY,
                    f"{self._pixel.sticking['xywh']} of {boxes} boxes reach beyond their image "
                    "when read as x, y, width, height, none when read as x1, y1, x2, y2: read "
                    "them with --read-as xyxy, or replace the last two numbers by width = x2 − "
                    "x1 and height = y2 − y1",
                )
            ]
        if form == "cxcywh":
            return [
                (
                    ProblemKind.BOXES_CENTRE,
                    f"{self._pixel.sticking['xywh']} of {boxes} boxes reach beyond their image "
                    "when read as x, y, width, height, none when read as centre and size: read "
                    "them with --read-as cxcywh, or subtract half the width from x and half the "
                    "height from y",
                )
            ]
        return []

    def _unit_form(self) -> str:
        form = self._box_form(self._unit, "unit") or "xywh"
        return f"unit-{form}" if self._unit.fits(form) else ""

    def _box_form(self, counts: BoxCounts, scale: str) -> str:
        """Returns the form of the boxes if it is surely not COCO's; else ""."""
        for form, least in (("xyxy", 0.5), ("cxcywh", 0.2)):
            if not counts.fits(form) or self._masks_say("xywh", scale) >= UNLIKELY:
                continue
            masks_agree = self._masks_say(form, scale) >= LIKELY
            out = counts.sticking["xywh"]
            if masks_agree or (out > least * counts.boxes and out >= 2):
                return form
        return ""

    def _masks_say(self, form: str, box_scale: str) -> float:
        """Share of compared masks that agree with their box; 0 for too few."""
        if self._compared < FEWEST:
            return 0.0
        return max(
            self._agree[form, box_scale, scale] / self._compared
            for scale in ("pixel", "unit", "percent")
        )

    def _polygons(self) -> list[tuple[ProblemKind, str]]:
        if self._compared < FEWEST:
            return []
        boxes = "unit" if self._unit.boxes == self._pixel.boxes else "pixel"
        share = {
            scale: max(self._agree[form, boxes, scale] for form in BOX_FORMS) / self._compared
            for scale in ("pixel", "unit", "percent")
        }
        best = max(("unit", "percent"), key=lambda scale: share[scale])
        if share[best] < LIKELY or share["pixel"] > UNLIKELY:
            return []
        words = "from 0 to 1, shares of their image" if best == "unit" else "in percent"
        return [
            (
                ProblemKind.POLYGONS_SCALED,
                f"polygons are {words}: read them with --read-as {best}-polygons, or multiply "
                f"them by the image's width and height{'' if best == 'unit' else ' / 100'}",
            )
        ]

    def _crowd_masks(self, known: set[int]) -> list[tuple[ProblemKind, str]]:
        """Suspects classes half of which are crowds with a mask.

        A fifth is enough if the class has no other mask.

        In COCO few objects of a class are crowds. CVAT and SAM tools write every mask
        that is an RLE with iscrowd 1.
        """
        classes = [c for c in self._crowds if c in known and self._is_suspect(c)]
        masks = sum(self._crowds[c] for c in classes)
        if masks < FEWEST:
            return []
        return [
            (
                ProblemKind.CROWD_MASKS,
                f"{masks} masks of {plural(len(classes), 'class', 'es')} have iscrowd 1, as CVAT "
                "writes masks drawn with a brush: if they are single objects, read them with "
                "--crowd-masks, or set iscrowd to 0; crowds are left out",
            )
        ]

    def _is_suspect(self, category_id: int) -> bool:
        crowds, objects = self._crowds[category_id], self._all[category_id]
        alone = self._masks[category_id] == 0 and crowds >= FEWEST - 1
        return 2 * crowds >= objects or (alone and 5 * crowds >= objects)


def _ious(one: tuple[Array, ...], other: tuple[Array, ...]) -> Array:
    """Returns `box_iou` of n pairs of boxes, each side an array [n]."""
    width = np.minimum(one[2], other[2]) - np.maximum(one[0], other[0])
    height = np.minimum(one[3], other[3]) - np.maximum(one[1], other[1])
    common = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    first, second = ((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other))
    ious: Array = common / np.maximum(first + second - common, 1e-9)
    return ious


def _scales(size: tuple[Any, Any], *names: str) -> dict[str, tuple[Any, Any]]:
    """Scale → what x and y are multiplied by to be pixels."""
    height, width = size
    factors = {"pixel": (1.0, 1.0), "unit": (width, height), "percent": (width / 100, height / 100)}
    return {name: factors[name] for name in names}


def _extent(segmentation: Any) -> tuple[float, float, float, float] | None:
    """The corners of all points of polygons; None for anything else."""
    if not isinstance(segmentation, list) or not segmentation:
        return None
    if not all(isinstance(p, list) and len(p) >= 6 and not len(p) % 2 for p in segmentation):
        return None
    if not all(all_finite(part) for part in segmentation):
        return None
    xs = [x for part in segmentation for x in part[0::2]]
    ys = [y for part in segmentation for y in part[1::2]]
    x0, y0, x1, y1 = min(xs), min(ys), max(xs), max(ys)
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None
