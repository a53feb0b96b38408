"""The kinds of findings about a COCO file, and their consequences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

About = Literal["annotation", "image", "category", "file"]


class ProblemKind(StrEnum):
    """A kind of finding; `FACTS` describes each."""

    NOT_STRICT_JSON = "not_strict_json"
    DUPLICATE_KEY = "duplicate_key"
    BOXES_XYXY = "boxes_look_like_xyxy"
    IMAGE_RECORD = "image_record"
    ANNOTATION_RECORD = "annotation_record"
    ORPHAN = "orphan_annotation"
    DUPLICATE_ANNOTATION_ID = "duplicate_annotation_id"
    DUPLICATE_ANNOTATION = "duplicate_annotation"
    NEAR_DUPLICATE = "near_duplicate_annotation"
    DUPLICATE_CATEGORY_NAME = "duplicate_category_name"
    ALIKE_CATEGORY_NAMES = "category_names_alike"
    ODD_ISCROWD = "odd_iscrowd"
    BOX_MALFORMED = "box_malformed"
    BOX_EMPTY = "box_without_area"
    BOX_OUTSIDE = "box_outside_image"
    BOX_STICKS_OUT = "box_sticks_out"
    BROKEN_MASK = "broken_mask"
    SUSPECT_MASK = "suspect_mask"
    BOX_DISAGREES = "box_disagrees_with_mask"
    NO_AREA = "no_area"
    TINY = "tiny_instance"
    THIN = "thin_instance"
    NON_OVERLAPPING_MASK = "compressed_rle_mask"
    IMAGE_EMPTY = "image_without_annotations"
    CATEGORY_EMPTY = "category_without_annotations"
    PHOTO_MISSING = "photograph_missing"
    PHOTO_UNREADABLE = "photograph_unreadable"
    PHOTO_SIZE = "photograph_size_differs"
    PHOTO_TURNED = "photograph_turned_by_exif"
    PHOTO_GRAYSCALE = "photograph_grayscale"
    PHOTO_TWINS = "near_duplicate_photographs"


@dataclass(frozen=True)
class Facts:
    """Describes a kind of finding.

    Attributes:
        about: what its ids refer to.
        severity: `problem` for a fault, `info` for a note.
        heading: names the findings of this kind in the plural.
        consequence: what training does about it.
    """

    about: About
    severity: Literal["problem", "info"]
    heading: str
    consequence: str


@dataclass(frozen=True)
class Problem:
    """One finding.

    Attributes:
        kind: of the finding.
        ids: ids of the annotations, images or categories (`FACTS[kind].about`); more
            than one if they conflict with each other.
        message: one line.
    """

    kind: ProblemKind
    ids: tuple[int, ...]
    message: str

    @property
    def facts(self) -> Facts:
        return FACTS[self.kind]

    def as_dict(self) -> dict[str, Any]:
        """Returns the finding as JSON values."""
        return {
            "kind": str(self.kind),
            "severity": self.facts.severity,
            "about": self.facts.about,
            "ids": list(self.ids),
            "message": self.message,
        }


Finding = tuple[ProblemKind, str]
"""A kind and a text that does not name the object yet."""


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Sorts findings by the order of ProblemKind; equal kinds keep their order."""
    order = {kind: position for position, kind in enumerate(ProblemKind)}
    return sorted(problems, key=lambda problem: order[problem.kind])


_OUT = "left out: box and mask are not used"
_BOX_ONLY = "the box is used, the mask is not"
_USED = "used unchanged"
_SKIPPED = "skipped and named; training stops if more than data.unreadable of them fail"

FACTS: dict[ProblemKind, Facts] = {
    ProblemKind.NOT_STRICT_JSON: Facts(
        "file", "problem", "NaN or Infinity in the JSON", "other readers may refuse the file"
    ),
    ProblemKind.DUPLICATE_KEY: Facts(
        "file", "problem", "JSON objects with a repeated key", "the last value counts"
    ),
    ProblemKind.BOXES_XYXY: Facts(
        "file",
        "problem",
        "files whose boxes look like x1, y1, x2, y2; COCO's are x, y, width, height",
        "read as COCO's, far too large; subtract x1 from x2 and y1 from y2",
    ),
    ProblemKind.IMAGE_RECORD: Facts(
        "image", "problem", "unusable image records", "left out with all their annotations"
    ),
    ProblemKind.ANNOTATION_RECORD: Facts("annotation", "problem", "malformed annotations", _OUT),
    ProblemKind.ORPHAN: Facts(
        "annotation", "problem", "annotations of a missing image or category", _OUT
    ),
    ProblemKind.DUPLICATE_ANNOTATION_ID: Facts(
        "annotation", "problem", "annotation ids used twice", _USED
    ),
    ProblemKind.DUPLICATE_ANNOTATION: Facts(
        "annotation", "problem", "the same box and class twice in one image", _USED
    ),
    ProblemKind.NEAR_DUPLICATE: Facts(
        "annotation", "problem", "pairs of annotations that seem to be one object", _USED
    ),
    ProblemKind.DUPLICATE_CATEGORY_NAME: Facts(
        "category", "problem", "category names used twice", "kept as two classes"
    ),
    ProblemKind.ALIKE_CATEGORY_NAMES: Facts(
        "category",
        "problem",
        "category names that differ only in case or spaces",
        "kept as two classes",
    ),
    ProblemKind.ODD_ISCROWD: Facts(
        "annotation", "problem", "iscrowd values other than 0 and 1", "treated as a crowd: left out"
    ),
    ProblemKind.BOX_MALFORMED: Facts(
        "annotation", "problem", "boxes that are not four finite numbers", _OUT
    ),
    ProblemKind.BOX_EMPTY: Facts("annotation", "problem", "boxes of zero or negative size", _OUT),
    ProblemKind.BOX_OUTSIDE: Facts(
        "annotation", "problem", "boxes entirely outside their image", _OUT
    ),
    ProblemKind.BOX_STICKS_OUT: Facts(
        "annotation", "problem", "boxes that reach beyond their image", "clipped to the image"
    ),
    ProblemKind.BROKEN_MASK: Facts("annotation", "problem", "broken masks", _BOX_ONLY),
    ProblemKind.SUSPECT_MASK: Facts(
        "annotation", "problem", "suspect masks: polygons that repeat their box", _BOX_ONLY
    ),
    ProblemKind.BOX_DISAGREES: Facts(
        "annotation", "problem", "boxes that disagree with their mask", _USED
    ),
    ProblemKind.NO_AREA: Facts(
        "annotation",
        "info",
        "annotations without an area",
        "evaluation uses the area of the mask, else of the box",
    ),
    ProblemKind.TINY: Facts("annotation", "info", "instances under 30 square pixels", _USED),
    ProblemKind.THIN: Facts("annotation", "info", "instances thinner than 4 pixels", _USED),
    ProblemKind.NON_OVERLAPPING_MASK: Facts(
        "annotation",
        "info",
        "masks as compressed RLE (in COCO's files: from panoptic maps, slightly off the polygons)",
        _USED,
    ),
    ProblemKind.IMAGE_EMPTY: Facts(
        "image", "info", "images without annotations", "used as background"
    ),
    ProblemKind.CATEGORY_EMPTY: Facts(
        "category", "info", "categories without annotations", "nothing to learn from"
    ),
    ProblemKind.PHOTO_MISSING: Facts(
        "image", "problem", "missing photographs", "training stops and names them"
    ),
    ProblemKind.PHOTO_UNREADABLE: Facts("image", "problem", "unreadable photographs", _SKIPPED),
    ProblemKind.PHOTO_SIZE: Facts(
        "image", "problem", "photographs whose size differs from the file's", _SKIPPED
    ),
    ProblemKind.PHOTO_TURNED: Facts(
        "image",
        "info",
        "photographs with an EXIF rotation",
        "read as stored; boxes must be in stored pixels",
    ),
    ProblemKind.PHOTO_GRAYSCALE: Facts(
        "image", "info", "grayscale photographs", "read as RGB with three equal channels"
    ),
    ProblemKind.PHOTO_TWINS: Facts(
        "image",
        "problem",
        "photographs that look the same",
        "both are used; keep them in the same part",
    ),
}
