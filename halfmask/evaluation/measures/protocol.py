"""What AP leaves out of account: LVIS's classes of an image, and regions to ignore."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from halfmask.coco.annotations import Annotations
from halfmask.coco.categories import names_regions_to_ignore
from halfmask.coco.records import is_id
from halfmask.errors import InputError
from halfmask.evaluation.measures.truth import Truth
from halfmask.text import listed

ApProtocol = Literal["auto", "coco", "lvis"]
"""The rules of AP. auto: LVIS's if the file's images have its lists."""
Record = dict[str, Any]

NEGATIVE, NOT_EXHAUSTIVE = "neg_category_ids", "not_exhaustive_category_ids"
LIMITS = {"coco": 100, "lvis": 300}
"""Detections of an image that count, the best over all classes together."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The rules of AP on a file.

    Attributes:
        protocol: coco or lvis.
        lists: image id → `neg_category_ids` and `not_exhaustive_category_ids`; empty
            for COCO.
        without: Images that have neither list: by LVIS's rules only the classes of
            their own truth count there.
        unreadable: Images with a list that is no list of category ids; it counts as
            empty.
        ignored: Category ids whose boxes are regions to ignore.
    """

    protocol: str = "coco"
    lists: dict[int, tuple[list[int], list[int]]] = field(default_factory=dict)
    without: int = 0
    unreadable: int = 0
    ignored: frozenset[int] = frozenset()

    @property
    def limit(self) -> int:
        """Detections of an image that count, over all classes together."""
        return LIMITS[self.protocol]

    def counted(self, categories: list[Record]) -> list[Record]:
        """Returns the categories that are measured."""
        return [c for c in categories if c["id"] not in self.ignored]

    def counted_names(self, file: Annotations, names: list[str]) -> list[str]:
        """Returns those of some class names that are measured."""
        ignored = {c["name"] for c in file.categories if c["id"] in self.ignored}
        return [name for name in names if name not in ignored]

    def image(self, record: Record) -> Record:
        """Returns an image record with its lists, as LVIS's evaluation needs it."""
        if self.protocol == "coco":
            return record
        negative, open_ = self.lists.get(record["id"], ([], []))
        return record | {NEGATIVE: negative, NOT_EXHAUSTIVE: open_}

    def apply(self, truth: Truth, found: Iterable[int]) -> Truth:
        """Returns an image's truth with regions to ignore as crowds of every class.

        Args:
            truth: The truth of one image.
            found: Category ids of its detections; classes without one need no crowd.
        """
        image = self.image(truth.image)
        if not self.ignored:
            return Truth(image, truth.boxes, truth.masks)
        classes = set(found) - self.ignored
        if self.protocol == "lvis":
            # A crowd must not make a class one of the image's own.
            classes &= {r["category_id"] for r in truth.boxes} | {*image[NEGATIVE]}
        boxes, masks = (
            [r for r in records if r["category_id"] not in self.ignored]
            + [
                r | {"category_id": category, "iscrowd": 1}
                for r in records
                if r["category_id"] in self.ignored
                for category in sorted(classes)
            ]
            for records in (truth.boxes, truth.masks)
        )
        return Truth(image, boxes, masks)

    def to_json(self) -> dict[str, Any]:
        """The JSON of an evaluation's `protocol`."""
        lvis = {"images_without_lists": self.without, "unreadable_lists": self.unreadable}
        return {"name": self.protocol, "limit": self.limit} | (
            lvis if self.protocol == "lvis" else {}
        )


def rules_of(file: Annotations, protocol: ApProtocol = "auto", ignored: str | None = None) -> Rules:
    """Returns the rules of AP on a file.

    Args:
        file: The truth.
        protocol: coco, lvis, or auto: LVIS's where an image has one of its lists.
        ignored: Names `a,b` of the classes whose boxes are regions to ignore; `none`:
            no class; None: classes with a name such as DontCare or ignored regions.
    Raises:
        InputError: lvis, and no image has a list; or a name that is no class.
    """
    members = _ignored(file, ignored)
    if protocol == "coco":
        return Rules(ignored=members)
    lists: dict[int, tuple[list[int], list[int]]] = {}
    without = unreadable = 0
    for image in file.images:
        values = [image.get(key) for key in (NEGATIVE, NOT_EXHAUSTIVE)]
        without += all(value is None for value in values)
        negative, open_ = (
            [i for i in v if is_id(i)] if isinstance(v, list) else [] for v in values
        )
        sound = sum(len(v) for v in values if isinstance(v, list)) == len(negative) + len(open_)
        unreadable += not sound or any(v is not None and not isinstance(v, list) for v in values)
        if negative or open_:
            lists[image["id"]] = negative, open_
    if without == len(file.images):
        if protocol == "lvis":
            raise InputError(
                f"{file.name}: no image has {NEGATIVE} or {NOT_EXHAUSTIVE}, which LVIS's rules "
                "need: use --protocol coco"
            )
        return Rules(ignored=members)
    return Rules(
        protocol="lvis", lists=lists, without=without, unreadable=unreadable, ignored=members
    )


def _ignored(file: Annotations, names: str | None) -> frozenset[int]:
    classes = {str(c["name"]): c["id"] for c in file.categories}
    if names is None:
        return frozenset(i for name, i in classes.items() if names_regions_to_ignore(name))
    asked = [] if names == "none" else [name.strip() for name in names.split(",")]
    unknown = [name for name in asked if name not in classes]
    if unknown:
        raise InputError(
            f"ignored: {file.name} has no class {unknown[0]!r}; it has {listed(list(classes), 10)}"
        )
    return frozenset(classes[name] for name in asked)
