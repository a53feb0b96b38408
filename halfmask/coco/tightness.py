"""How tightly a file's boxes fit their masks, and `tighten`, which replaces the loose ones."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from halfmask.coco.file import CocoFile
from halfmask.coco.records import Record, clip_box
from halfmask.coco.supervision import MaskState, Use
from halfmask.files.atomic import write_json
from halfmask.files.guard import Output, guard
from halfmask.files.kinds import COCO, report
from halfmask.masks.rle import box_iou, box_of

ENOUGH = 500
"""Number of objects to measure; the mean of more hardly differs."""
SMALLEST = 16
"""Smallest height and width in pixels.

A smaller mask ends at pixel borders, so no box agrees well with it.
"""
LOOSE_BELOW = 0.88
"""Mean IoU of a box with its mask's tight box, below which boxes count as loose.

Corners that are off by up to 5 % of the side either way give 0.91, by up to 10 % 0.82;
careful annotation gives 0.95 and more.
"""
SLACK = 1.0
"""Pixels by which a side of a tight box may differ from its mask's.

Tools round, or include or exclude the last pixel.
"""
WORST = 20
"""How many of the loosest boxes are named."""
REPORT = report("tighten", "boxes", "loose", "worst")

Corners = tuple[float, float, float, float]


def box_tightness(
    file: CocoFile, use: Use = "annotated", classes: Collection[int] | None = None
) -> float | None:
    """Returns the mean IoU of boxes with their masks' tight boxes; None without masks.

    Args:
        use: which of halfmask's own masks count.
        classes: category ids of the objects to measure; None: all.
    """
    found = list(islice(_agreements(file, use, classes), ENOUGH))
    return sum(found) / len(found) if found else None


def boxes_are_loose(tightness: float | None) -> bool:
    """Whether boxes of this tightness are loose; unmeasured boxes count as tight."""
    return tightness is not None and tightness < LOOSE_BELOW


def _agreements(file: CocoFile, use: Use, classes: Collection[int] | None) -> Iterator[float]:
    # In an order that depends only on their number: files are often sorted by origin.
    for image in random.Random(0).sample(file.images, len(file.images)):
        size = file.size_of(image["id"])
        rows = zip(file.annotations_of(image["id"]), file.states_of(image["id"], use), strict=True)
        for annotation, state in rows:
            wanted = classes is None or annotation["category_id"] in classes
            if state is not MaskState.MASK or not wanted:
                continue
            box, own = clip_box(annotation["bbox"], size), box_of(annotation["segmentation"], size)
            if box and own and min(own[2] - own[0], own[3] - own[1]) >= SMALLEST:
                yield box_iou(box, own)


@dataclass(frozen=True, kw_only=True)
class Tightening:
    """What `tighten` found, and wrote if it was asked to.

    Attributes:
        out: the written file; None: nothing was written.
        boxes: boxes of objects with a mask that counts.
        loose: those with a side more than a pixel from their mask's.
        mean_iou: of the loose boxes with their masks' boxes; None without any.
        worst: the loosest boxes, each with id, iou, box and mask_box (x, y, width,
            height), the loosest first.
        classes: for each class with a mask its name, boxes, loose and mean_iou.
        left_out: objects without a mask that counts, by state of their mask.
        unusable: names of annotations without a usable box, image or class.
    """

    out: str | None
    boxes: int
    loose: int
    mean_iou: float | None
    worst: list[dict[str, Any]]
    classes: list[dict[str, Any]]
    left_out: dict[str, int]
    unusable: list[str]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class BoxAndMask:
    """An annotation, the corners of its mask's box, and their IoU with the box on the image."""

    annotation: Record
    own: Corners
    iou: float
    loose: bool


def tighten(
    data: str | Path,
    *,
    out: str | Path | None = None,
    filled: bool = False,
    json: str | Path | None = None,
) -> Tightening:
    """Replaces loose boxes by those of their masks, and reports them.

    A box is loose if a side is more than a pixel from its mask's. Masks of the file,
    and those that a reviewer accepted or drew, count. The old box is kept below
    `halfmask.box`; every other value stays, also `area`, which is the mask's. Crowds
    stay.

    Args:
        data: COCO file.
        out: file to write; never the input. None: only the report.
        filled: masks that halfmask filled in and nobody reviewed count too.
        json: writes the report to this JSON file.
    Raises:
        InputError: `data` is no COCO file, or an output is the input, something else,
            or cannot be written (see `guard`).
    """
    guard([Output(out, "--out", COCO), Output(json, "--json", REPORT)], inputs=[data])
    file = CocoFile.read(Path(data))
    use: Use = "filled" if filled else "accepted"
    found = list(_measured(file, use))
    if out is not None:
        changed = {file.position_of(one.annotation): one for one in found if one.loose}
        rows = [
            _tightened(row, changed[k]) if k in changed else row
            for k, row in enumerate(file.document["annotations"])
        ]
        write_json(out, file.document | {"annotations": rows})
    done = _report(file, found, None if out is None else str(out), use=use)
    if json is not None:
        write_json(json, done.to_json(), indent=1)
    return done


def _measured(file: CocoFile, use: Use) -> Iterator[BoxAndMask]:
    for image, annotation, state in file.rows(use):
        if state is not MaskState.MASK:
            continue
        size = file.size_of(image["id"])
        box, own = clip_box(annotation["bbox"], size), _own_box(annotation["segmentation"], size)
        assert box is not None, annotation["id"]
        off = max(abs(a - b) for a, b in zip(box, own, strict=True))
        pixels = box_of(annotation["segmentation"], size) or own
        off = min(off, max(abs(a - b) for a, b in zip(box, pixels, strict=True)))
        yield BoxAndMask(annotation, own, box_iou(box, own), off > SLACK)


def _own_box(segmentation: Any, size: tuple[int, int]) -> Corners:
    """The corners of a mask: of polygons their extent on the image, else of its pixels."""
    if isinstance(segmentation, list):
        xs = [x for part in segmentation for x in part[0::2]]
        ys = [y for part in segmentation for y in part[1::2]]
        x, y = min(xs), min(ys)
        extent = clip_box([x, y, max(xs) - x, max(ys) - y], size)
        if extent is not None:
            return extent
    own = box_of(segmentation, size)
    assert own is not None, "a usable mask has pixels"
    return own


def _tightened(row: Record, one: BoxAndMask) -> Record:
    note = row.get("halfmask")
    note = note if isinstance(note, dict) else {}
    # The reviewer's own box, or the one before an earlier run, stays.
    kept = note if "box" in note else {**note, "box": row["bbox"]}
    return row | {"bbox": _xywh(one.own), "halfmask": kept}


def _xywh(corners: Corners) -> list[float]:
    x0, y0, x1, y1 = corners
    values = [round(value, 2) for value in (x0, y0, x1 - x0, y1 - y0)]
    return [int(value) if value == int(value) else value for value in values]


def _report(file: CocoFile, found: list[BoxAndMask], out: str | None, *, use: Use) -> Tightening:
    loose = sorted((one for one in found if one.loose), key=lambda one: one.iou)
    left_out: dict[str, int] = {}
    for _, _, state in file.rows(use):
        if state is not MaskState.MASK:
            left_out[str(state)] = left_out.get(str(state), 0) + 1
    return Tightening(
        out=out,
        boxes=len(found),
        loose=len(loose),
        mean_iou=_mean(loose),
        worst=[
            {
                "id": one.annotation["id"],
                "iou": round(one.iou, 4),
                "box": one.annotation["bbox"],
                "mask_box": _xywh(one.own),
            }
            for one in loose[:WORST]
        ],
        classes=list(_classes(file, found)),
        left_out=left_out,
        unusable=[problem.message for problem in file.structure],
    )


def _classes(file: CocoFile, found: list[BoxAndMask]) -> Iterator[dict[str, Any]]:
    of_class: dict[int, list[BoxAndMask]] = {}
    for one in found:
        of_class.setdefault(one.annotation["category_id"], []).append(one)
    for category in file.categories:
        if rows := of_class.get(category["id"]):
            loose = [one for one in rows if one.loose]
            counts = {"boxes": len(rows), "loose": len(loose), "mean_iou": _mean(loose)}
            yield {"name": category["name"], **counts}


def _mean(rows: list[BoxAndMask]) -> float | None:
    return round(sum(one.iou for one in rows) / len(rows), 4) if rows else None
