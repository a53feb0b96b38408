"""Summarises a COCO file and its findings: counts, classes, sizes, advice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from halfmask.coco.doctor.advice import advice
from halfmask.coco.doctor.estimate import estimability
from halfmask.coco.doctor.findings import Findings, kind_counts
from halfmask.coco.doctor.groups import MaskGroups, mask_group
from halfmask.coco.doctor.published import CountComparison
from halfmask.coco.doctor.sizes import sizes
from halfmask.coco.file import CocoFile
from halfmask.coco.problems import FACTS, Facts, Problem, ProblemKind
from halfmask.coco.records import Record
from halfmask.coco.supervision import MaskState, provenance
from halfmask.coco.tightness import box_tightness
from halfmask.text import plural

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


_NO_PROBLEMS = '\n "problems": [],'
"""The only line of a report without findings that begins like this."""


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

    def json_texts(self) -> Iterator[str]:
        """Yields the pieces of `json.dumps(to_json(), indent=1)`; there may be millions."""
        empty = replace(self, problems=[]).to_json()
        before, after = json.dumps(empty, indent=1).split(_NO_PROBLEMS)
        yield before
        if not len(self.problems):
            yield _NO_PROBLEMS + after
            return
        separator = '\n "problems": [\n'
        for problem in self.problems:
            yield separator + problem.json_text()
            separator = ",\n"
        yield "\n ]," + after

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

    def by_kind(self) -> list[tuple[Facts, Sequence[Problem]]]:
        """Returns the findings of each kind that occurs."""
        found = self.problems
        if isinstance(found, Findings):
            groups = [(facts, found.of_kind(kind)) for kind, facts in FACTS.items()]
            return [(facts, rows) for facts, rows in groups if len(rows)]
        of_kind: dict[ProblemKind, list[Problem]] = {}
        for problem in found:
            of_kind.setdefault(problem.kind, []).append(problem)
        return [(facts, of_kind[kind]) for kind, facts in FACTS.items() if kind in of_kind]


@dataclass(frozen=True, kw_only=True)
class FileNumbers:
    """The numbers of a COCO file that its diagnosis needs.

    Attributes:
        name: of the file.
        images, usable_images, images_with_masks: numbers of its images.
        annotations: their number, with unusable ones.
        categories: their records, by id.
        states: category id → number of usable annotations in each MaskState.
        origins: origin of a mask (see `provenance`) → number of annotations.
        sizes: see `sizes`.
        tightness: see `box_tightness`.
    """

    name: str
    images: int
    usable_images: int
    images_with_masks: int
    annotations: int
    categories: Sequence[Record]
    states: Mapping[int, Counter[MaskState]]
    origins: Mapping[str, int]
    sizes: dict[str, Any]
    tightness: float | None

    @classmethod
    def of(cls, file: CocoFile) -> FileNumbers:
        """Counts a file in memory."""
        states = {category["id"]: Counter[MaskState]() for category in file.categories}
        origins: Counter[str] = Counter()
        for _, annotation, state in file.rows():
            states[annotation["category_id"]][state] += 1
            origins[provenance(annotation) or ""] += 1
        return cls(
            name=file.name,
            images=len(file.document["images"]),
            usable_images=len(file.images),
            images_with_masks=len(file.with_masks()),
            annotations=len(file.document["annotations"]),
            categories=file.categories,
            states=states,
            origins=origins,
            sizes=sizes(file),
            tightness=box_tightness(file),
        )


def diagnose(
    file: CocoFile | FileNumbers,
    problems: Sequence[Problem],
    threshold: int = 10,
    *,
    unread: Sequence[str] = (),
    counted: CountComparison | None = None,
) -> Diagnosis:
    """Returns the diagnosis of a file.

    Args:
        file: the annotations, or their numbers.
        problems: the findings of `check` and of `check_photographs`.
        threshold: usable masks from which on a class has many (set A).
        unread: what of a data set in another format could not be read.
        counted: comparison of its counts with published ones.
    """
    numbers = file if isinstance(file, FileNumbers) else FileNumbers.of(file)
    total = sum(numbers.states.values(), Counter[MaskState]())
    skipped = numbers.annotations - total.total()
    counts = kind_counts(problems)
    categories = [_category(c, numbers.states[c["id"]], threshold) for c in numbers.categories]
    used = Counter(c["group"] for c in categories if c["annotations"] > c["crowd"])
    result: dict[str, Any] = {
        "file": numbers.name,
        "ok": not (unread or (counted and counted.differences))
        and not any(counts[kind] and FACTS[kind].severity == "problem" for kind in FACTS),
        "masked_threshold": threshold,
        "images": _images(numbers, counts),
        "annotations": {"total": numbers.annotations, **_named(total), "skipped": skipped},
        "provenance": {
            k: numbers.origins.get(k, 0) for k in ("filled", "accepted", "rejected", "redrawn")
        },
        "categories": categories,
        "training": _training(numbers.usable_images, total, skipped),
        "sizes": numbers.sizes,
        "tightness": numbers.tightness,
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


def _images(numbers: FileNumbers, counts: Counter[ProblemKind]) -> dict[str, int]:
    return {
        "total": numbers.images,
        "usable": numbers.usable_images,
        "with_masks": numbers.images_with_masks,
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


def _training(images: int, total: Counter[MaskState], skipped: int) -> dict[str, int]:
    boxes = total.total() - total[MaskState.CROWD]
    return {
        "images": images,
        "boxes": boxes,
        "masks": total[MaskState.MASK],
        "boxes_without_mask": boxes - total[MaskState.MASK],
        "crowds_left_out": total[MaskState.CROWD],
        "unusable_left_out": skipped,
    }
