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
from torch import Tensor

from halfmask._version import __version__
from halfmask.coco.annotations import Annotations
from halfmask.coco.doctor.groups import MaskGroups, masks_in
from halfmask.coco.records import clip_box
from halfmask.coco.supervision import MaskState, Use, is_crowd
from halfmask.evaluation.measures.ambiguous import AmbiguousTable
from halfmask.evaluation.measures.average_precision import (
    PrecisionStream,
    PrecisionTable,
    Record,
    empty_block,
    without,
)
from halfmask.evaluation.measures.given_boxes import IouTable
from halfmask.evaluation.measures.protocol import Rules, rules_of
from halfmask.evaluation.measures.truth import read_truth
from halfmask.masks.crops import MaskCrops, decode, iou
from halfmask.structures import Detection

Result = dict[str, Any]
GivenMasks = tuple[int, Tensor, Detection]
"""Image id, annotation ids int64 [n], and the masks drawn into these annotations' boxes."""


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
    box_table = mask_table = None
    images: set[int] = set()
    if detections is not None:
        box_table, mask_table, images = _detection_tables(file, detections, use, rules=rules)
    ious = IouTable() if ious is None else ious
    shown = rules.counted(file.categories)
    ambiguous, given_images = _given_tables(
        file, given or (), use, table=ious, ignored=rules.ignored
    )
    tables = _Tables(box_table, mask_table, ious, ambiguous)
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
        **_protocol(rules, file, {"box": box_table, "mask": mask_table}),
    }


@dataclass(frozen=True)
class _Tables:
    """What was measured, for the numbers of any set of classes."""

    box: PrecisionTable | None
    mask: PrecisionTable | None
    ious: IouTable
    ambiguous: AmbiguousTable

    def blocks(self, members: Collection[int] | None) -> dict[str, Any]:
        """All measures over some classes (None: all)."""
        box, mask = _block(self.box, members), _block(self.mask, members)
        return {
            "box": box,
            "mask": mask,
            "mask_over_box": _ratio(mask["AP"], box["AP"]),
            "given_boxes": self.ious.block(members),
            "quality": self.ious.quality(members),
            "ambiguous": self.ambiguous.block(members),
        }


def _protocol(rules: Rules, file: Annotations, tables: dict[str, PrecisionTable | None]) -> Result:
    """The rules, if not COCO's alone, and by LVIS's the AP of rare, common, frequent classes."""
    if rules == Rules():
        return {}
    found = rules.to_json()
    if rules.ignored:
        found["ignored"] = [str(c["name"]) for c in file.categories if c["id"] in rules.ignored]
    often = {c["id"]: c.get("frequency") for c in file.categories}
    if rules.protocol == "lvis" and set(often.values()) & {"r", "c", "f"}:
        for kind, table in tables.items():
            found[kind] = {
                f"AP{letter}": _block(table, {i for i, f in often.items() if f == letter})["AP"]
                for letter in "rcf"
            }
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
    return {
        "id": number,
        "name": category["name"],
        "masked": number in masked,
        "masks_in_training": count,
        "group": None if groups is None or count is None else groups.group_of(number),
        "box_AP": _block(tables.box, {number})["AP"],
        "mask_AP": _block(tables.mask, {number})["AP"],
        "miou": tables.ious.block({number})["miou"],
    }


def _block(
    table: PrecisionTable | None, members: Collection[int] | None
) -> dict[str, float | None]:
    return empty_block() if table is None else table.block(members)


def _ratio(mask_ap: float | None, box_ap: float | None) -> float | None:
    """Mask AP divided by box AP: where boxes are weak, mask AP alone says little of masks."""
    return None if mask_ap is None or not box_ap else mask_ap / box_ap


def _detection_tables(
    file: Annotations, detections: Iterable[tuple[int, Detection]], use: Use, *, rules: Rules
) -> tuple[PrecisionTable, PrecisionTable, set[int]]:
    """Tables of boxes and of masks, and the ids of the images."""
    category_ids = [c["id"] for c in file.categories]
    categories = [{"id": c["id"], "name": c["name"]} for c in rules.counted(file.categories)]
    lvis = rules.protocol == "lvis"
    boxes = PrecisionStream(categories, "bbox", lvis=lvis)
    masks = PrecisionStream(categories, "segm", lvis=lvis)
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
    return boxes.table(), masks.table(), image_ids


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


def _given_tables(
    file: Annotations,
    given: Iterable[GivenMasks],
    use: Use,
    *,
    table: IouTable,
    ignored: Collection[int],
) -> tuple[AmbiguousTable, set[int]]:
    """Fills `table`; returns the table of ambiguous boxes and the ids of the images."""
    ambiguous = AmbiguousTable()
    images: set[int] = set()
    for image_id, annotation_ids, drawn in given:
        images.add(image_id)
        rows = _annotations(file, image_id, annotation_ids.tolist())
        usable = [
            i
            for i, row in enumerate(rows)
            if file.state_of(row, use) is MaskState.MASK and row["category_id"] not in ignored
        ]
        size, kept = drawn.image_size, [rows[i] for i in usable]
        crops = [decode(row["segmentation"], size) for row in kept]
        truth = MaskCrops.from_bitmaps([c[0] for c in crops], [c[1] for c in crops], size)
        predicted = drawn.select(torch.tensor(usable, dtype=torch.int64)).crops()
        # The file's own boxes, even if the model was given loosened ones.
        corners = [clip_box(row["bbox"], size) or (0.0, 0.0, 0.0, 0.0) for row in kept]
        boxes = torch.tensor(corners).reshape(-1, 4)
        labels = [row["category_id"] for row in kept]
        ambiguous.add_image(labels, boxes, truth=truth, predicted=predicted)
        values, areas = iou(truth, predicted).tolist(), truth.areas().tolist()
        for i, row, value, area in zip(usable, kept, values, areas, strict=True):
            table.add(
                row["category_id"],
                value,
                area,
                from_rle=isinstance(row["segmentation"], dict),
                score=float(drawn.quality[i]),
                instance=(image_id, i),
            )
    return ambiguous, images


def _annotations(file: Annotations, image_id: int, numbers: list[int]) -> list[Record]:
    """The annotations with these ids; a repeated id means them in file order."""
    waiting: dict[int, list[Record]] = {}
    for annotation in file.annotations_of(image_id):
        if not is_crowd(annotation):
            waiting.setdefault(annotation["id"], []).append(annotation)
    return [waiting[number].pop(0) for number in numbers]
