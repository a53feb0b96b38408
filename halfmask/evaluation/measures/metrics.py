"""Measures masks and boxes against a COCO file: AP, and IoU in given boxes.

Each number exists for a set of classes A, the others (B) and all, and for the three
groups of classes by the masks that the model was given of them.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from halfmask._version import __version__
from halfmask.coco.annotations import Annotations
from halfmask.coco.doctor.groups import MaskGroups, masks_in
from halfmask.coco.supervision import Use
from halfmask.evaluation.measures.ambiguous import AmbiguousTable
from halfmask.evaluation.measures.average_precision import (
    PrecisionStream,
    PrecisionTable,
    Record,
    empty_block,
    without,
)
from halfmask.evaluation.measures.boundary_precision import BoundaryStream
from halfmask.evaluation.measures.given_boxes import GivenMasks, IouTable, measure_given
from halfmask.evaluation.measures.protocol import Rules, rules_of
from halfmask.evaluation.measures.truth import read_truth
from halfmask.structures import Detection

Result = dict[str, Any]
KINDS = ("box", "mask", "boundary")
"""Kinds of AP: by box IoU, by mask IoU, and by the lesser of mask and boundary IoU."""


def compute_metrics(
    file: Annotations,
    detections: Iterable[tuple[int, Detection]] | None = None,
    given: Iterable[GivenMasks] | None = None,
    *,
    masked: Collection[int] = (),
    groups: MaskGroups | None = None,
    use: Use = "annotated",
    model: str = "",
    ious: IouTable | None = None,
    rules: Rules | None = None,
) -> Result:
    """Measures a model; the result is the JSON of `halfmask evaluate --json`.

    Exactly the images in `detections` (for AP) and in `given` (for IoU) count. Both are
    consumed one image at a time: with generators, `seconds` includes the model.

    AP is by box IoU (`box`), by mask IoU (`mask`), and by the lesser of mask and
    boundary IoU (`boundary`).

    `mask_over_box` is mask AP divided by box AP, null where either is null or box AP is
    0. Each AP has its own truth: annotations without a usable mask count in box AP
    alone.

    Args:
        file: The truth.
        detections: Image id and the objects that the model found, with the labels of
            `file.label_of`. None: AP is null.
        given: The masks that the model drew into the file's own boxes, for
            `given_boxes` (`IouTable.block`), `quality` (`reliability`) and `ambiguous`
            (`AmbiguousTable.block`). None: all three are null.
        masked: Category ids of set A; the file's other classes are set B.
        groups: The file's classes by the masks that the model was given. None: not
            recorded, and `groups` in the result is null.
        use: Which masks of halfmask's own count as truth.
        model: The name in the result.
        ious: An empty table to fill, for callers that need a row for each instance of
            `given`.
        rules: The rules of AP. None: `rules_of` the file. Where they are not COCO's
            alone, the result has `protocol`.
    Raises:
        InputError: An image id is not in the file.
    """
    start = time.perf_counter()
    rules = rules_of(file) if rules is None else rules
    precision: dict[str, PrecisionTable] = {}
    images: set[int] = set()
    if detections is not None:
        precision, images = _detection_tables(file, detections, use, rules=rules)
    ious = IouTable() if ious is None else ious
    shown = rules.counted(file.categories)
    ambiguous, given_images = measure_given(
        file, given or (), use, table=ious, ignored=rules.ignored
    )
    tables = _Tables(precision, ious, ambiguous)
    every = {category["id"] for category in shown}
    in_a = every & set(masked)
    sets = {"all": None, "A": in_a, "B": every - in_a}
    blocks = {name: tables.blocks(members) for name, members in sets.items()}
    return {
        **{key: {name: blocks[name][key] for name in sets} for key in blocks["all"]},
        "groups": None if groups is None else _by_group(tables, groups),
        "per_category": [_of_category(tables, c, masked=in_a, groups=groups) for c in shown],
        "images": len(images | given_images),
        "seconds": round(time.perf_counter() - start, 3),
        "model": model,
        "version": __version__,
        **_protocol(rules, file, tables),
    }


@dataclass(frozen=True)
class _Tables:
    """What was measured, for the numbers of any set of classes."""

    precision: dict[str, PrecisionTable]
    ious: IouTable
    ambiguous: AmbiguousTable

    def blocks(self, members: Collection[int] | None) -> dict[str, Any]:
        """All measures over some classes (None: all)."""
        found = {kind: self.average_precision(kind, members) for kind in KINDS}
        return {
            **found,
            "mask_over_box": _ratio(found["mask"]["AP"], found["box"]["AP"]),
            "given_boxes": self.ious.block(members),
            "quality": self.ious.quality(members),
            "ambiguous": self.ambiguous.block(members),
        }

    def average_precision(
        self, kind: str, members: Collection[int] | None
    ) -> dict[str, float | None]:
        """AP of one of `KINDS`; null where nothing was detected."""
        return self.precision[kind].block(members) if self.precision else empty_block()


def _protocol(rules: Rules, file: Annotations, tables: _Tables) -> Result:
    """The rules, if not COCO's alone, and by LVIS's the AP of rare, common, frequent classes."""
    if rules == Rules():
        return {}
    found = rules.to_json()
    if rules.ignored:
        found["ignored"] = [str(c["name"]) for c in file.categories if c["id"] in rules.ignored]
    often = {c["id"]: c.get("frequency") for c in file.categories}
    if rules.protocol == "lvis" and set(often.values()) & {"r", "c", "f"}:
        members = {letter: {i for i, f in often.items() if f == letter} for letter in "rcf"}
        for kind in KINDS:
            values = {f"AP{k}": tables.average_precision(kind, m)["AP"] for k, m in members.items()}
            found[kind] = values
    return {"protocol": found}


def _by_group(tables: _Tables, groups: MaskGroups) -> dict[str, dict[str, Any]]:
    """For each group its classes, the range of their masks, and all measures."""
    found: dict[str, dict[str, Any]] = {}
    for group, members in groups.members().items():
        masks = masks_in(group, groups.threshold)
        head = {"classes": len(members), "masks": None if masks is None else list(masks)}
        if group == "no_masks":
            head["unknown"] = len(groups.unknown)
        found[group] = head | tables.blocks(members)
    return found


def _of_category(
    tables: _Tables, category: Record, *, masked: Collection[int], groups: MaskGroups | None
) -> dict[str, Any]:
    number = category["id"]
    count = None if groups is None else groups.counts.get(number)
    given = tables.ious.block({number})
    return {
        "id": number,
        "name": category["name"],
        "masked": number in masked,
        "masks_in_training": count,
        "group": None if groups is None or count is None else groups.group_of(number),
        **{f"{kind}_AP": tables.average_precision(kind, {number})["AP"] for kind in KINDS},
        "miou": given["miou"],
        "boundary_iou": given["boundary"]["miou"],
    }


def _ratio(mask_ap: float | None, box_ap: float | None) -> float | None:
    """Mask AP divided by box AP: where boxes are weak, mask AP alone says little of masks."""
    return None if mask_ap is None or not box_ap else mask_ap / box_ap


def _detection_tables(
    file: Annotations, detections: Iterable[tuple[int, Detection]], use: Use, *, rules: Rules
) -> tuple[dict[str, PrecisionTable], set[int]]:
    """A table of each of `KINDS`, and the ids of the images."""
    category_ids = [c["id"] for c in file.categories]
    categories = [{"id": c["id"], "name": c["name"]} for c in rules.counted(file.categories)]
    lvis = rules.protocol == "lvis"
    boxes = PrecisionStream(categories, "bbox", lvis=lvis)
    masks = PrecisionStream(categories, "segm", lvis=lvis)
    borders = BoundaryStream(categories, lvis=lvis)
    limit = None if rules.ignored else rules.limit
    image_ids: set[int] = set()
    for image_id, found in detections:
        image_ids.add(image_id)
        results = as_results(image_id, found, category_ids, limit=limit)
        results = [r for r in results if r["category_id"] not in rules.ignored][: rules.limit]
        classes = {r["category_id"] for r in results}
        truth = rules.apply(read_truth(file, image_id, use), classes)
        boxes.add(truth.image, truth.boxes, [without(record, "segmentation") for record in results])
        masks.add(truth.image, truth.masks, [without(record, "bbox") for record in results])
        borders.add(truth.image, truth.masks, results)
    tables = (boxes.table(), masks.table(), borders.table())
    return dict(zip(KINDS, tables, strict=True)), image_ids


def as_results(
    image_id: int, found: Detection, category_ids: list[int], *, limit: int | None = None
) -> list[Record]:
    """COCO results of one image (bbox xywh, RLE, score, category id), best first.

    Args:
        image_id: The file's id.
        found: Labels 1…K−1. Rows of label 0 have no class and are left out.
        category_ids: The category id of label i + 1 at position i.
        limit: Most results, over all classes together.
    """
    order = torch.argsort(found.scores, descending=True, stable=True)
    kept = found.select(order[found.labels[order] > 0][:limit])
    rows = zip(
        kept.boxes.tolist(), kept.labels.tolist(), kept.scores.tolist(), kept.rle(), strict=True
    )
    return [
        {
            "image_id": image_id,
            "category_id": category_ids[label - 1],
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "score": score,
            "segmentation": rle,
        }
        for (x0, y0, x1, y1), label, score, rle in rows
    ]
