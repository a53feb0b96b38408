"""The kinds of findings about a COCO file, and their consequences."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal


class ProblemKind(StrEnum):
    """A kind of finding; `FACTS` describes each."""

    NOT_STRICT_JSON = "not_strict_json"
    DUPLICATE_KEY = "duplicate_key"
    BOXES_XYXY = "boxes_look_like_xyxy"
    BOXES_CENTRE = "boxes_look_like_centre_and_size"
    BOXES_UNIT = "boxes_from_0_to_1"
    POLYGONS_SCALED = "polygons_in_other_units"
    CROWD_MASKS = "masks_are_crowds"
    BOXES_TURNED = "boxes_turned_by_rotation"
    MASK_FORM = "masks_in_another_form"
    IDS_AS_TEXT = "ids_as_text"
    IDS_ARE_NAMES = "ids_are_names"
    MERGED_RECORDS = "repeated_records"
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
    MASK_PART = "unreadable_part_of_mask"
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
    PHOTO_EXCHANGED = "photograph_sides_exchanged"
    PHOTO_RANGE = "photograph_range_unclear"
    PHOTO_TURNED = "photograph_turned_by_exif"
    PHOTO_DEEP = "photograph_of_more_than_8_bits"
    PHOTO_GRAYSCALE = "photograph_grayscale"
    PHOTO_TWINS = "near_duplicate_photographs"


_SINGULAR = {
    "annotation ids": "annotation id",
    "category names": "category name",
    "image records": "image record",
    "annotations": "annotation",
    "boxes": "box",
    "categories": "category",
    "files": "file",
    "images": "image",
    "instances": "instance",
    "masks": "mask",
    "objects": "object",
    "pairs": "pair",
    "photographs": "photograph",
    "values": "value",
}
_PLURAL = re.compile("|".join(rf"\b{noun}\b" for noun in _SINGULAR))


_ONE = {
    "category names that differ only in case or spaces": (
        "group of category names that differ only in case or spaces"
    ),
    "boxes that are not four finite numbers": "box that is not four finite numbers",
    "boxes entirely outside their image": "box entirely outside its image",
    "boxes that reach beyond their image": "box that reaches beyond its image",
    "unreadable parts of masks": "unreadable part of a mask",
    "suspect masks: polygons that repeat their box": "suspect mask: a polygon that repeats its box",
    "boxes that disagree with their mask": "box that disagrees with its mask",
    "photographs that look the same": "pair of photographs that look the same",
}
"""Headings of a single finding, where more than the noun loses its ending."""


@dataclass(frozen=True)
class Facts:
    """Describes a kind of finding.

    Attributes:
        heading: names the findings of this kind in the plural.
        consequence: what training does about it.
        about: what its ids refer to.
        severity: `problem` for a fault, `info` for a note.
    """

    heading: str
    consequence: str
    about: Literal["annotation", "image", "category", "file"] = "annotation"
    severity: Literal["problem", "info"] = "problem"

    def heading_of(self, count: int) -> str:
        """Names so many findings: ``1`` broken mask, ``2`` broken masks."""
        if count != 1:
            return self.heading
        return _ONE.get(self.heading) or _PLURAL.sub(
            lambda noun: _SINGULAR[noun[0]], self.heading, count=1
        )


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

    def json_text(self) -> str:
        """Returns `as_dict` as a report has it: JSON, each line indented by two or more."""
        ids = ",\n".join(f"    {number}" for number in self.ids)
        ids = f"[\n{ids}\n   ]" if ids else "[]"
        return (
            f'  {{\n   "kind": "{self.kind}",\n   "severity": "{self.facts.severity}",\n'
            f'   "about": "{self.facts.about}",\n   "ids": {ids},\n'
            f'   "message": {json.dumps(self.message)}\n  }}'
        )


Finding = tuple[ProblemKind, str]
"""A kind and a text that does not name the object yet."""


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Sorts findings by the order of ProblemKind; equal kinds keep their order."""
    order = {kind: position for position, kind in enumerate(ProblemKind)}
    return sorted(problems, key=lambda problem: order[problem.kind])


_OUT = "left out: box and mask are not used"
_BOX_ONLY = "the box is used, the mask is not"
_USED = "used unchanged"
_KEPT = "kept as two classes"
_SKIPPED = "skipped and named; training stops if more than data.unreadable of them fail"
_K = ProblemKind

FACTS: dict[ProblemKind, Facts] = {
    _K.NOT_STRICT_JSON: Facts(
        "NaN or Infinity in the JSON", "other readers may refuse the file", about="file"
    ),
    _K.DUPLICATE_KEY: Facts(
        "JSON objects with a repeated key", "the last value counts", about="file"
    ),
    _K.BOXES_XYXY: Facts(
        "files whose boxes look like x1, y1, x2, y2; COCO's are x, y, width, height",
        "read as COCO's, far too large; subtract x1 from x2 and y1 from y2",
        about="file",
    ),
    _K.BOXES_CENTRE: Facts(
        "files whose boxes look like centre and size; COCO's are x, y, width, height",
        "read as COCO's, half their size too far right and down",
        about="file",
    ),
    _K.BOXES_UNIT: Facts(
        "files whose boxes are from 0 to 1; COCO's are in pixels",
        "read as COCO's, smaller than a pixel",
        about="file",
    ),
    _K.POLYGONS_SCALED: Facts(
        "files whose polygons are from 0 to 1 or in percent; COCO's are in pixels",
        "read as COCO's, far from their boxes",
        about="file",
    ),
    _K.CROWD_MASKS: Facts(
        "files in which most masks of a class are crowds (iscrowd 1)",
        "left out: boxes and masks are not used",
        about="file",
    ),
    _K.BOXES_TURNED: Facts(
        "files with boxes that attributes.rotation turns",
        "the upright box around each is used",
        "file",
        "info",
    ),
    _K.MASK_FORM: Facts(
        "files whose masks are in another form than COCO's",
        "read as COCO's; other tools may not read them",
        "file",
        "info",
    ),
    _K.IDS_AS_TEXT: Facts(
        "files with ids as text or with a fraction", "read as whole numbers", "file", "info"
    ),
    _K.IDS_ARE_NAMES: Facts("files with names as ids", "numbered in file order", "file", "info"),
    _K.MERGED_RECORDS: Facts(
        "files with records that repeat an earlier one", "each is read once", "file", "info"
    ),
    _K.IMAGE_RECORD: Facts(
        "unusable image records", "left out with all their annotations", about="image"
    ),
    _K.ANNOTATION_RECORD: Facts("malformed annotations", _OUT),
    _K.ORPHAN: Facts("annotations of a missing image or category", _OUT),
    _K.DUPLICATE_ANNOTATION_ID: Facts("annotation ids used twice", _USED),
    _K.DUPLICATE_ANNOTATION: Facts("the same box and class twice in one image", _USED),
    _K.NEAR_DUPLICATE: Facts("pairs of annotations that seem to be one object", _USED),
    _K.DUPLICATE_CATEGORY_NAME: Facts("category names used twice", _KEPT, about="category"),
    _K.ALIKE_CATEGORY_NAMES: Facts(
        "category names that differ only in case or spaces", _KEPT, about="category"
    ),
    _K.ODD_ISCROWD: Facts("iscrowd values other than 0 and 1", "treated as a crowd: left out"),
    _K.BOX_MALFORMED: Facts("boxes that are not four finite numbers", _OUT),
    _K.BOX_EMPTY: Facts("boxes of zero or negative size", _OUT),
    _K.BOX_OUTSIDE: Facts("boxes entirely outside their image", _OUT),
    _K.BOX_STICKS_OUT: Facts("boxes that reach beyond their image", "clipped to the image"),
    _K.BROKEN_MASK: Facts("broken masks", _BOX_ONLY),
    _K.MASK_PART: Facts("unreadable parts of masks", "left out; the other parts are the mask"),
    _K.SUSPECT_MASK: Facts("suspect masks: polygons that repeat their box", _BOX_ONLY),
    _K.BOX_DISAGREES: Facts("boxes that disagree with their mask", _USED),
    _K.NO_AREA: Facts(
        "annotations without an area",
        "evaluation uses the area of the mask, else of the box",
        severity="info",
    ),
    _K.TINY: Facts("instances under 30 square pixels", _USED, severity="info"),
    _K.THIN: Facts("instances thinner than 4 pixels", _USED, severity="info"),
    _K.NON_OVERLAPPING_MASK: Facts(
        "masks as compressed RLE (in COCO's files: from panoptic maps, slightly off the polygons)",
        _USED,
        severity="info",
    ),
    _K.IMAGE_EMPTY: Facts("images without annotations", "used as background", "image", "info"),
    _K.CATEGORY_EMPTY: Facts(
        "categories without annotations", "nothing to learn from", "category", "info"
    ),
    _K.PHOTO_MISSING: Facts("missing photographs", "training stops and names them", "image"),
    _K.PHOTO_UNREADABLE: Facts("unreadable photographs", _SKIPPED, "image"),
    _K.PHOTO_SIZE: Facts("photographs whose size differs from the file's", _SKIPPED, "image"),
    _K.PHOTO_EXCHANGED: Facts(
        "image records with width and height exchanged: the boxes fit only the other way round",
        f"{_SKIPPED}; exchange width and height",
        "image",
    ),
    _K.PHOTO_RANGE: Facts(
        "photographs of more than 8 bits that may be read too dark or too bright",
        "read by the range in the message; save them with 8 bits",
        "image",
    ),
    _K.PHOTO_TURNED: Facts(
        "photographs with an EXIF rotation",
        "read turned or stored, as width and height fit; without the rotation all programs agree",
        "image",
        "info",
    ),
    _K.PHOTO_DEEP: Facts(
        "photographs of more than 8 bits",
        "scaled to 8 bits by the range in the message",
        "image",
        "info",
    ),
    _K.PHOTO_GRAYSCALE: Facts(
        "grayscale photographs", "read as RGB with three equal channels", "image", "info"
    ),
    _K.PHOTO_TWINS: Facts(
        "photographs that look the same", "both are used; keep them in the same part", "image"
    ),
}
