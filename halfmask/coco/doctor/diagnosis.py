"""What `doctor` says of a COCO file, as JSON values: counts, classes, what training
will use, problems.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any

from halfmask.coco.doctor.advice import advice
from halfmask.coco.doctor.estimate import estimability
from halfmask.coco.file import CocoFile
from halfmask.coco.problems import FACTS, Problem, ProblemKind
from halfmask.coco.records import clip_box
from halfmask.coco.supervision import MaskState, provenance
from halfmask.masks.rle import area_of


def diagnose(file: CocoFile, problems: Sequence[Problem], threshold: int = 10) -> dict[str, Any]:
    """The diagnosis of a file.

    Args:
        file: the annotations.
        problems: the findings of `check`, and those about photographs.
        threshold: usable masks from which on a class counts as masked (set A).
    Returns:
        `ok`: no finding is a problem (notes do not count); `images`, `annotations` (how
            many are in each MaskState, and `skipped`: not
        usable at all), `provenance` (what became of halfmask's own masks), `categories`
        (the same for each class), `training` (what it uses and leaves out), `sizes` (of
        boxes and masks), `estimate` (can the quality on box-only classes be measured,
        and how), `advice` (lines for a person), `counts` (findings of each kind),
        `problems` (each finding).
    """
    states, origins, with_masks = _count(file)
    total = sum(states.values(), Counter[MaskState]())
    skipped = len(file.document["annotations"]) - total.total()
    counts = Counter(problem.kind for problem in problems)
    categories = [_category(c, states[c["id"]], threshold) for c in file.categories]
    box_only = sum(c["set"] == "B" and c["annotations"] > c["crowd"] for c in categories)
    result = {
        "file": file.name,
        "ok": not any(problem.facts.severity == "problem" for problem in problems),
        "masked_threshold": threshold,
        "images": {
            "total": len(file.document["images"]),
            "usable": len(file.images),
            "with_masks": with_masks,
            "without_annotations": counts[ProblemKind.IMAGE_EMPTY],
        },
        "annotations": {
            "total": len(file.document["annotations"]),
            **_named(total),
            "skipped": skipped,
        },
        "provenance": {
            state: origins[state] for state in ("filled", "accepted", "rejected", "redrawn")
        },
        "categories": categories,
        "training": _training(file, total, skipped),
        "sizes": sizes(file),
        "estimate": estimability({c["id"]: c["mask"] for c in categories}, box_only, threshold),
        "counts": {str(kind): counts[kind] for kind in FACTS if counts[kind]},
        "problems": [problem.as_dict() for problem in problems],
    }
    return result | {"advice": advice(result)}


def _count(file: CocoFile) -> tuple[dict[int, Counter[MaskState]], Counter[str], int]:
    """Category id → states of its annotations; what became of halfmask's own masks;
    images with a mask.
    """
    states = {category["id"]: Counter[MaskState]() for category in file.categories}
    origins: Counter[str] = Counter()
    with_masks = 0
    for image in file.images:
        rows = file.annotations_of(image["id"])
        known = file.states_of(image["id"])
        with_masks += MaskState.MASK in known
        for annotation, state in zip(rows, known, strict=True):
            states[annotation["category_id"]][state] += 1
            origins[provenance(annotation) or ""] += 1
    return states, origins, with_masks


def _named(states: Counter[MaskState]) -> dict[str, int]:
    return {str(state): states[state] for state in MaskState}


def _category(
    category: dict[str, Any], states: Counter[MaskState], threshold: int
) -> dict[str, Any]:
    return {
        "id": category["id"],
        "name": category["name"],
        "set": "A" if states[MaskState.MASK] >= threshold else "B",
        "annotations": states.total(),
        **_named(states),
    }


def _training(file: CocoFile, total: Counter[MaskState], skipped: int) -> dict[str, int]:
    return {
        "images": len(file.images),
        "boxes": total.total() - total[MaskState.CROWD],
        "masks": total[MaskState.MASK],
        "boxes_without_mask": total.total() - total[MaskState.CROWD] - total[MaskState.MASK],
        "crowds_left_out": total[MaskState.CROWD],
        "unusable_left_out": skipped,
    }


SMALL, LARGE = 32**2, 96**2
"""COCO's borders between S, M and L, square pixels."""


def sizes(file: CocoFile) -> dict[str, Any]:
    """Sizes of all boxes (clipped to their image) and of all usable masks, crowds left
    out.

    Returns:
        `boxes` and `masks`: `count`; `S`, `M`, `L`, how many are of each size by COCO's
            borders; `median_area`, square pixels;
        `fill`, the median share of its box that a mask covers (masks only). A value of
            nothing is null.
    """
    boxes: list[float] = []
    masks: list[float] = []
    fills: list[float] = []
    for image in file.images:
        size = file.size_of(image["id"])
        for annotation, state in zip(
            file.annotations_of(image["id"]), file.states_of(image["id"]), strict=True
        ):
            box = clip_box(annotation["bbox"], size)
            if state == MaskState.CROWD or box is None:
                continue
            boxes.append((box[2] - box[0]) * (box[3] - box[1]))
            if state == MaskState.MASK:
                masks.append(area_of(annotation["segmentation"], size))
                fills.append(masks[-1] / boxes[-1])
    return {
        "boxes": _block(boxes),
        "masks": _block(masks) | {"fill": median(fills) if fills else None},
    }


def _block(areas: Sequence[float]) -> dict[str, Any]:
    small, large = sum(a < SMALL for a in areas), sum(a >= LARGE for a in areas)
    middle = median(areas) if areas else None
    return {
        "count": len(areas),
        "S": small,
        "M": len(areas) - small - large,
        "L": large,
        "median_area": middle,
    }
