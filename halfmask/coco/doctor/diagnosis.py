"""Summarises a COCO file and its findings: counts, classes, sizes, advice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from halfmask.coco.doctor.advice import advice
from halfmask.coco.doctor.estimate import estimability
from halfmask.coco.doctor.groups import MaskGroups, mask_group
from halfmask.coco.doctor.published import CountComparison
from halfmask.coco.file import CocoFile
from halfmask.coco.problems import FACTS, Facts, Problem, ProblemKind
from halfmask.coco.records import Record, clip_box
from halfmask.coco.supervision import MaskState, provenance
from halfmask.coco.tightness import box_tightness
from halfmask.masks.rle import area_of
from halfmask.text import plural

SMALL, LARGE = 32**2, 96**2
"""COCO's limits between S, M and L, square pixels."""
HEADINGS = {
    "mask": "masked",
    "missing": "box only",
    "suspect": "suspect",
    "broken": "broken",
    "filled": "filled",
    "rejected": "rejected",
    "crowd": "crowd",
}
"""Mask states in the order of a table's columns, and their headings."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The diagnosis of a COCO file.

    Attributes:
        file: its name.
        ok: whether no finding is a problem (notes do not count), all could be read, and
            no published count differs.
        masked_threshold: usable masks from which on a class has many (set A).
        images: numbers of images.
        annotations: annotations in each MaskState; `skipped` cannot be used at all.
        provenance: masks that halfmask filled in, by what became of them.
        categories: for each class its set, its group (no_masks, few or many masks) and
            its annotations in each MaskState.
        training: what training uses and leaves out.
        sizes: of boxes and masks, see `sizes`.
        tightness: mean IoU of boxes with their masks' boxes, see `box_tightness`.
        estimate: whether quality on classes without masks can be measured, and how.
        counts: findings of each kind.
        problems: each finding.
        advice: sentences for a reader.
        unread: a line for each kind of content of another format that is left out.
        counted: comparison with published counts, if one was asked for.
    """

    file: str
    ok: bool
    masked_threshold: int
    images: dict[str, int]
    annotations: dict[str, int]
    provenance: dict[str, int]
    categories: list[dict[str, Any]]
    training: dict[str, int]
    sizes: dict[str, Any]
    tightness: float | None
    estimate: dict[str, Any]
    counts: dict[str, int]
    problems: Sequence[Problem]
    advice: list[str]
    unread: list[str] = field(default_factory=list)
    counted: CountComparison | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            **vars(self),
            "problems": [problem.as_dict() for problem in self.problems],
            "counted": self.counted and self.counted.to_json(),
        }

    def groups(self) -> MaskGroups:
        """Returns the classes that the file uses by the number of their usable masks."""
        return MaskGroups({c["id"]: c["mask"] for c in self.used()}, self.masked_threshold)

    def headings(self) -> dict[str, str]:
        """Returns the mask states worth a column, and their headings."""
        return {
            state: heading
            for state, heading in HEADINGS.items()
            if state in ("mask", "missing") or self.annotations[state]
        }

    def used(self) -> list[dict[str, Any]]:
        """Returns the classes that have a usable annotation."""
        return [category for category in self.categories if category["annotations"]]

    def used_in_training(self) -> str:
        """Says what training takes from the file, and what it leaves."""
        numbers = self.training
        return (
            f"Training uses {plural(numbers['boxes'], 'box', 'es')} and "
            f"{plural(numbers['masks'], 'mask')}. Boxes without a mask: "
            f"{numbers['boxes_without_mask']:,}. Left out: "
            f"{plural(numbers['crowds_left_out'], 'crowd')}, "
            f"{plural(numbers['unusable_left_out'], 'unusable annotation')}."
        )

    def by_kind(self) -> list[tuple[Facts, list[Problem]]]:
        """Returns the findings of each kind that occurs."""
        groups = [(f, [p for p in self.problems if p.kind == kind]) for kind, f in FACTS.items()]
        return [(facts, rows) for facts, rows in groups if rows]


def diagnose(
    file: CocoFile,
    problems: Sequence[Problem],
    threshold: int = 10,
    *,
    unread: Sequence[str] = (),
    counted: CountComparison | None = None,
) -> Diagnosis:
    """Returns the diagnosis of a file.

    Args:
        file: the annotations.
        problems: the findings of `check` and of `check_photographs`.
        threshold: usable masks from which on a class has many (set A).
        unread: what of a data set in another format could not be read.
        counted: comparison of its counts with published ones.
    """
    states = {category["id"]: Counter[MaskState]() for category in file.categories}
    origins: Counter[str] = Counter()
    for _, annotation, state in file.rows():
        states[annotation["category_id"]][state] += 1
        origins[provenance(annotation) or ""] += 1
    total = sum(states.values(), Counter[MaskState]())
    skipped = len(file.document["annotations"]) - total.total()
    counts = Counter(problem.kind for problem in problems)
    categories = [_category(c, states[c["id"]], threshold) for c in file.categories]
    used = Counter(c["group"] for c in categories if c["annotations"] > c["crowd"])
    result: dict[str, Any] = {
        "file": file.name,
        "ok": not (unread or (counted and counted.differences))
        and not any(p.facts.severity == "problem" for p in problems),
        "masked_threshold": threshold,
        "images": _images(file, counts),
        "annotations": {
            "total": len(file.document["annotations"]),
            **_named(total),
            "skipped": skipped,
        },
        "provenance": {k: origins[k] for k in ("filled", "accepted", "rejected", "redrawn")},
        "categories": categories,
        "training": _training(file, total, skipped),
        "sizes": sizes(file),
        "tightness": box_tightness(file),
        "estimate": estimability(
            {c["id"]: c["mask"] for c in categories},
            without=used["no_masks"],
            few=used["few"],
            threshold=threshold,
        ),
        "counts": {str(kind): counts[kind] for kind in FACTS if counts[kind]},
        "problems": problems,
    }
    return Diagnosis(**result, advice=advice(result), unread=[*unread], counted=counted)


def _images(file: CocoFile, counts: Counter[ProblemKind]) -> dict[str, int]:
    return {
        "total": len(file.document["images"]),
        "usable": len(file.images),
        "with_masks": len(file.with_masks()),
        "without_annotations": counts[ProblemKind.IMAGE_EMPTY],
    }


def _named(states: Counter[MaskState]) -> dict[str, int]:
    return {str(state): states[state] for state in MaskState}


def _category(category: Record, states: Counter[MaskState], threshold: int) -> dict[str, Any]:
    return {
        "id": category["id"],
        "name": category["name"],
        "group": mask_group(states[MaskState.MASK], threshold),
        "set": "A" if states[MaskState.MASK] >= threshold else "B",
        "annotations": states.total(),
        **_named(states),
    }


def _training(file: CocoFile, total: Counter[MaskState], skipped: int) -> dict[str, int]:
    boxes = total.total() - total[MaskState.CROWD]
    return {
        "images": len(file.images),
        "boxes": boxes,
        "masks": total[MaskState.MASK],
        "boxes_without_mask": boxes - total[MaskState.MASK],
        "crowds_left_out": total[MaskState.CROWD],
        "unusable_left_out": skipped,
    }


def sizes(file: CocoFile) -> dict[str, Any]:
    """Returns the sizes of all boxes (clipped to their image) and all usable masks.

    Crowds are left out.

    Returns:
        `boxes` and `masks`: `count`; `S`, `M`, `L`, the number of each of COCO's sizes;
            `median_area`, square pixels; for masks also `fill`, the median share of its
            box that a mask covers. Medians of nothing are null.
    """
    boxes: list[float] = []
    masks: list[float] = []
    fills: list[float] = []
    for image, annotation, state in file.rows():
        size = file.size_of(image["id"])
        box = clip_box(annotation["bbox"], size)
        if state == MaskState.CROWD or box is None:
            continue
        boxes.append((box[2] - box[0]) * (box[3] - box[1]))
        if state == MaskState.MASK:
            masks.append(area_of(annotation["segmentation"], size))
            fills.append(masks[-1] / boxes[-1])
    fill = median(fills) if fills else None
    return {"boxes": _block(boxes), "masks": _block(masks) | {"fill": fill}}


def _block(areas: Sequence[float]) -> dict[str, Any]:
    small, large = sum(a < SMALL for a in areas), sum(a >= LARGE for a in areas)
    return {
        "count": len(areas),
        "S": small,
        "M": len(areas) - small - large,
        "L": large,
        "median_area": median(areas) if areas else None,
    }
