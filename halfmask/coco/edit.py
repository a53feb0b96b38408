"""Simulates partial supervision: takes the masks of some classes out of a document."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from typing import Any

from halfmask.coco.records import Document, Record
from halfmask.coco.supervision import all_finite, is_box, is_crowd
from halfmask.errors import InputError


def strip_masks(document: Document, keep: set[int]) -> Document:
    """Returns the document without the masks of all other classes.

    An annotation whose category is not in `keep` loses `segmentation` and `halfmask`
    (the note on the origin of its mask). Its `area`, measured on the mask, becomes
    width × height of its box, or is removed if the box is malformed. Crowds and
    everything else stay. `document` is not changed; the new document shares its
    unchanged parts.

    Args:
        document: of a COCO file, checked by `CocoFile`.
        keep: category ids whose masks stay.
    """
    return {**document, "annotations": [strip_annotation(a, keep) for a in document["annotations"]]}


def strip_annotation(annotation: Any, keep: set[int]) -> Any:
    """Returns an item of `annotations` as `strip_masks` writes it."""
    if not isinstance(annotation, dict) or is_crowd(annotation):
        return annotation
    category = annotation.get("category_id")
    if isinstance(category, int) and category in keep:
        return annotation
    stripped = {
        key: value for key, value in annotation.items() if key not in ("segmentation", "halfmask")
    }
    if "area" in stripped:
        bbox = stripped.get("bbox")
        area = bbox[2] * bbox[3] if is_box(bbox) else None
        if all_finite([area]):
            stripped["area"] = area
        else:
            del stripped["area"]
    return stripped


def matching_ids(
    categories: Sequence[Record], target: Sequence[Record], where: str
) -> dict[int, int]:
    """Maps category ids to the ids of the target's categories with the same names.

    Args:
        categories: categories to find, each with id and name.
        target: categories to search.
        where: name of the file of `categories` in errors.
    Raises:
        InputError: the target does not have a name (similar names are listed), or a
            name occurs more than once.
    """
    count = Counter(str(c["name"]) for c in target)
    own = Counter(str(c["name"]) for c in categories)
    ids = {str(c["name"]): int(c["id"]) for c in target}
    for name in own:
        if name not in ids:
            near = difflib.get_close_matches(name, ids, n=3, cutoff=0.5)
            hint = f"; near: {', '.join(near)}" if near else ""
            raise InputError(
                f"{where}: its class {name!r} is not among the model's {len(target)} classes, "
                f"which are those of the recipe's data{hint}; rename it in this file, or "
                "remove it"
            )
        if count[name] > 1 or own[name] > 1:
            raise InputError(
                f"{where}: classes are matched by name, and more than one has the name {name!r}; "
                "rename all but one"
            )
    return {int(c["id"]): ids[str(c["name"])] for c in categories}


def relabel(document: Document, ids: dict[int, int], categories: Sequence[Record]) -> Document:
    """Returns the document with other category ids.

    Annotations of unknown categories stay invalid, so that the reader reports them.

    Args:
        document: of a COCO file, checked by `CocoFile`. It is not changed; the new
            document shares its unchanged parts.
        ids: category id → new id, see `matching_ids`.
        categories: the records of the new ids.
    """
    taken = set(ids.values()) | {int(c["id"]) for c in categories}
    nothing = min(taken, default=0) - 1

    def moved(annotation: Any) -> Any:
        if not isinstance(annotation, dict):
            return annotation
        category = annotation.get("category_id")
        # An unknown id must not happen to be a class of the other file.
        new = ids.get(category, nothing) if type(category) is int else None
        return {**annotation, "category_id": new}

    return {
        **document,
        "categories": list(categories),
        "images": [
            relabel_image(image, ids) if isinstance(image, dict) else image
            for image in document["images"]
        ],
        "annotations": [moved(a) for a in document["annotations"]],
    }


def relabel_image(image: Record, ids: dict[int, int]) -> Record:
    """Returns an image record with other category ids in LVIS's lists of classes.

    Ids without a new one are left out: the class is in no file then.
    """
    lists = {
        key: [ids[i] for i in image[key] if type(i) is int and i in ids]
        for key in ("neg_category_ids", "not_exhaustive_category_ids")
        if isinstance(image.get(key), list)
    }
    return {**image, **lists} if lists else image
