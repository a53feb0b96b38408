"""Published counts of COCO 2017, to see whether a file is whole."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from halfmask.coco.categories import COCO_NAMES, VOC_IDS, VOC_NAMES
from halfmask.coco.records import is_id
from halfmask.errors import InputError

IMAGES, ANNOTATIONS, EMPTY = "images", "annotations", "images without annotations"
CLASSES, VOC, NONVOC = "classes", "VOC classes", "non-VOC classes"
VOC_ROWS, NONVOC_ROWS = "annotations of VOC classes", "annotations of non-VOC classes"

_OF_CLASSES = {CLASSES: len(COCO_NAMES), VOC: len(VOC_IDS), NONVOC: len(COCO_NAMES) - len(VOC_IDS)}
PUBLISHED_COUNTS: dict[str, dict[str, dict[str, int]]] = {
    "coco2017": {
        "train": {IMAGES: 118_287, ANNOTATIONS: 860_001, EMPTY: 1_021, **_OF_CLASSES},
        "val": {IMAGES: 5_000, ANNOTATIONS: 36_781, EMPTY: 48, **_OF_CLASSES},
    }
}
"""Data set → part → what its `instances` file holds.

How many annotations the VOC classes have is published nowhere, so a file's own numbers
of them are reported, and compared with nothing.
"""


@dataclass(frozen=True, kw_only=True)
class CountComparison:
    """What a file holds, beside what was published.

    Attributes:
        data_set: key of `PUBLISHED_COUNTS`.
        part: train or val.
        found: name of a count → the file's number.
        published: name of a count → the published number.
    """

    data_set: str
    part: str
    found: dict[str, int]
    published: dict[str, int]

    @property
    def differing(self) -> list[str]:
        """The names of the counts that differ."""
        return [name for name, number in self.published.items() if self.found[name] != number]

    @property
    def differences(self) -> list[str]:
        """One line for each count that differs, with both numbers."""
        return [
            f"{self.data_set} {self.part}: {name} {self.found[name]}, "
            f"expected {self.published[name]}"
            for name in self.differing
        ]

    @property
    def unchecked(self) -> list[str]:
        """One line for each count of the file for which no number is published."""
        return [
            f"{self.data_set} {self.part}: {name} {number}, not checked: unpublished"
            for name, number in self.found.items()
            if name not in self.published
        ]

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "differences": self.differences, "unchecked": self.unchecked}


def published_counts(data_set: str) -> dict[str, dict[str, int]]:
    """Returns the published counts of each part of a data set.

    Raises:
        InputError: none are known of it.
    """
    if data_set not in PUBLISHED_COUNTS:
        raise InputError(
            f"expect {data_set}: no published counts of it; expected {', '.join(PUBLISHED_COUNTS)}"
        )
    return PUBLISHED_COUNTS[data_set]


def compare_counts(document: Mapping[str, Any], *, data_set: str, name: str) -> CountComparison:
    """Compares the counts of a COCO document with published ones.

    Args:
        document: has the lists `images`, `annotations` and `categories`.
        data_set: key of `PUBLISHED_COUNTS`.
        name: the file's name without folders. A name with `train` or `val` names the
            part; otherwise the part is the one with as many images.
    Raises:
        InputError: no counts of the data set are known, or its part is unclear.
    """
    return compare_found(count_records(document), data_set=data_set, name=name)


def compare_found(found: dict[str, int], *, data_set: str, name: str) -> CountComparison:
    """Compares counts of a file with published ones, as `compare_counts` does.

    Args:
        found: as `count_records` returns them.
        data_set: key of `PUBLISHED_COUNTS`.
        name: the file's name without folders.
    """
    published = published_counts(data_set)
    part = _part(name, found[IMAGES], published)
    return CountComparison(data_set=data_set, part=part, found=found, published=published[part])


def count_records(document: Mapping[str, Any]) -> dict[str, int]:
    """Returns the counts of a COCO document; malformed records count too."""
    images, rows = document["images"], document["annotations"]
    used = {row["image_id"] for row in rows if isinstance(row, dict) and is_id(row.get("image_id"))}
    of_class = Counter(
        row["category_id"]
        for row in rows
        if isinstance(row, dict) and is_id(row.get("category_id"))
    )
    empty = sum(isinstance(i, dict) and not _is_one_of(i.get("id"), used) for i in images)
    return found_counts((len(images), len(rows), empty), document["categories"], of_class)


def found_counts(
    numbers: tuple[int, int, int], categories: Sequence[Any], of_class: Mapping[int, int]
) -> dict[str, int]:
    """Returns the counts of a file by their names.

    Args:
        numbers: of images, annotations, and images without annotations.
        categories: all items of its list.
        of_class: category id → number of annotations.
    """
    images, annotations, empty = numbers
    of_voc = [c for c in categories if _name(c) in VOC_NAMES]
    voc = {c["id"] for c in of_voc if is_id(c.get("id"))}
    voc_rows = sum(of_class[number] for number in voc if number in of_class)
    return {
        IMAGES: images,
        ANNOTATIONS: annotations,
        EMPTY: empty,
        CLASSES: len(categories),
        VOC: len(of_voc),
        NONVOC: len(categories) - len(of_voc),
        VOC_ROWS: voc_rows,
        NONVOC_ROWS: annotations - voc_rows,
    }


def _name(category: object) -> str:
    return str(category.get("name")).lower() if isinstance(category, dict) else ""


def _is_one_of(value: object, ids: Collection[int]) -> bool:
    return is_id(value) and value in ids


def _part(name: str, images: int, published: Mapping[str, Mapping[str, int]]) -> str:
    """Returns the part of the file's name, or else the one with as many images."""
    words = re.findall(r"(?<![a-z])(?:train|val)(?![a-z])", name.lower())
    if len(set(words)) == 1:
        return str(words[0])
    of_size = [part for part, counts in published.items() if counts[IMAGES] == images]
    if of_size:
        return of_size[0]
    sizes = ", ".join(f"{counts[IMAGES]} ({part})" for part, counts in published.items())
    raise InputError(
        f"{name}: which part is it? Its name has neither train nor val, and {images} images are "
        f"none of {sizes}; name the file as COCO does, for example instances_train2017.json"
    )
