"""The numbers of a model on a COCO file: box and mask AP, and mask IoU on given boxes,
for masked classes, box-only classes and all.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import Tensor

from halfmask._version import __version__
from halfmask.coco.annotations import Annotations
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
from halfmask.evaluation.measures.truth import read_truth
from halfmask.masks.crops import MaskCrops, decode, iou
from halfmask.structures import Detection

Result = dict[str, Any]
GivenBoxes = tuple[int, Tensor, Detection]
"""Image id, annotation ids int64 [n], and what the model drew into the boxes of these
annotations, row by row.
"""

MAX_DETECTIONS = 100


def evaluate(
    file: Annotations,
    detections: Iterable[tuple[int, Detection]] | None = None,
    given: Iterable[GivenBoxes] | None = None,
    masked: Collection[int] = (),
    use: Use = "annotated",
    model: str = "",
    max_detections: int = MAX_DETECTIONS,
    ious: IouTable | None = None,
) -> Result:
    """Evaluates; the result is the JSON contract of `halfmask evaluate --json`.

    The images that occur in `detections` (for AP) and in `given` (for IoU) are the ones
    evaluated. Both are consumed one image at a time, so pass generators: `seconds` then
    includes the model.

    `mask_over_box` is mask AP divided by box AP, how much of the boxes' AP is left in
    masks; null where either is null or box AP is 0. Each AP has its own truth:
    annotations without a usable mask count in box AP alone.

    Args:
        file: the truth.
        detections: image id and what the model found; labels are file.label_of's. None:
            AP is null.
        given: the masks that the model drew into the file's own boxes, for
            `given_boxes` (IoU) and `quality` (how far the model's own estimates of
            these IoUs can be trusted: `reliability.reliability`) and `ambiguous`
            (`AmbiguousTable.block`), for all, A and B. None: all are null.
        masked: category ids of set A; the rest of the file's classes is B.
        use: which of halfmask's own masks count as truth.
        model: a name for the result.
        max_detections: kept for each image, by score over all classes together, as the
            paper does (COCO's rule would be 100 a class; it applies besides).
        ious: an empty table, where the caller wants to have a row for each instance of
            `given` afterwards.
    Raises:
        InputError: an image id that the file does not have.
    """
    start = time.perf_counter()
    box_table = mask_table = None
    images: set[int] = set()
    if detections is not None:
        box_table, mask_table, images = _detection_tables(file, detections, use, max_detections)
    ious = IouTable() if ious is None else ious
    ambiguous, given_images = _given_tables(file, given or (), use, ious)
    every = {category["id"] for category in file.categories}
    in_a = every & set(masked)
    sets = {"all": None, "A": in_a, "B": every - in_a}
    boxes, masks = (
        {name: _block(t, members) for name, members in sets.items()}
        for t in (box_table, mask_table)
    )
    return {
        "box": boxes,
        "mask": masks,
        "mask_over_box": {name: _ratio(masks[name]["AP"], boxes[name]["AP"]) for name in sets},
        "given_boxes": {name: ious.block(members) for name, members in sets.items()},
        "quality": {name: ious.quality(members) for name, members in sets.items()},
        "ambiguous": {name: ambiguous.block(members) for name, members in sets.items()},
        "per_category": [
            {
                "id": category["id"],
                "name": category["name"],
                "masked": category["id"] in in_a,
                "box_AP": _block(box_table, {category["id"]})["AP"],
                "mask_AP": _block(mask_table, {category["id"]})["AP"],
                "miou": ious.block({category["id"]})["miou"],
            }
            for category in file.categories
        ],
        "images": len(images | given_images),
        "seconds": round(time.perf_counter() - start, 3),
        "model": model,
        "version": __version__,
    }


def _block(
    table: PrecisionTable | None, members: Collection[int] | None
) -> dict[str, float | None]:
    return empty_block() if table is None else table.block(members)


def _ratio(mask_ap: float | None, box_ap: float | None) -> float | None:
    """What is left of box AP when the masks have to be right too: where boxes are weak,
    mask AP alone says little about masks.
    """
    return None if mask_ap is None or not box_ap else mask_ap / box_ap


def _detection_tables(
    file: Annotations, detections: Iterable[tuple[int, Detection]], use: Use, limit: int
) -> tuple[PrecisionTable, PrecisionTable, set[int]]:
    categories = [{"id": c["id"], "name": c["name"]} for c in file.categories]
    category_ids = [c["id"] for c in categories]
    boxes, masks = PrecisionStream(categories, "bbox"), PrecisionStream(categories, "segm")
    image_ids: set[int] = set()
    number = 1
    for image_id, found in detections:
        image_ids.add(image_id)
        truth = read_truth(file, image_id, use, number)
        number += len(truth.boxes)
        results = as_results(image_id, found, category_ids, limit)
        boxes.add(truth.image, truth.boxes, [without(record, "segmentation") for record in results])
        masks.add(truth.image, truth.masks, [without(record, "bbox") for record in results])
    return boxes.table(), masks.table(), image_ids


def as_results(
    image_id: int, found: Detection, category_ids: list[int], limit: int | None = None
) -> list[Record]:
    """COCO results (bbox xywh, RLE, score, category id) of one image, best first.

    Args:
        image_id: the file's.
        found: labels 1…K−1; rows of label 0 have no class and are left out.
        category_ids: category id of label i + 1.
        limit: how many to keep over all classes together.
    """
    order = torch.argsort(found.scores, descending=True, stable=True)
    order = order[found.labels[order] > 0][:limit]
    kept = found.select(order)
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
    file: Annotations, given: Iterable[GivenBoxes], use: Use, table: IouTable
) -> tuple[AmbiguousTable, set[int]]:
    ambiguous = AmbiguousTable()
    images: set[int] = set()
    for image_id, annotation_ids, drawn in given:
        images.add(image_id)
        rows = _annotations(file, image_id, annotation_ids.tolist())
        usable = [i for i, row in enumerate(rows) if file.state_of(row, use) is MaskState.MASK]
        crops = [decode(rows[i]["segmentation"], drawn.image_size) for i in usable]
        truth = MaskCrops.from_bitmaps(
            [c[0] for c in crops], [c[1] for c in crops], drawn.image_size
        )
        predicted = drawn.select(torch.tensor(usable, dtype=torch.int64)).crops()
        # The file's boxes, however loose those are that the model was given.
        corners = [
            clip_box(rows[i]["bbox"], drawn.image_size) or (0.0, 0.0, 0.0, 0.0) for i in usable
        ]
        boxes = torch.tensor(corners).reshape(-1, 4)
        ambiguous.add_image([rows[i]["category_id"] for i in usable], boxes, truth, predicted)
        for i, value, area in zip(
            usable, iou(truth, predicted).tolist(), truth.areas().tolist(), strict=True
        ):
            score = float(drawn.quality[i])
            from_rle = isinstance(rows[i]["segmentation"], dict)
            table.add(rows[i]["category_id"], value, area, from_rle, score, (image_id, i))
    return ambiguous, images


def _annotations(file: Annotations, image_id: int, numbers: list[int]) -> list[Record]:
    """The annotations of these ids. Where a file uses an id twice, they are taken in
    file order, as data sets give them.
    """
    waiting: dict[int, list[Record]] = {}
    for annotation in file.annotations_of(image_id):
        if not is_crowd(annotation):
            waiting.setdefault(annotation["id"], []).append(annotation)
    return [waiting[number].pop(0) for number in numbers]
