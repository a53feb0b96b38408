"""Simulates partial supervision: takes the masks of some classes out of a document."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from typing import Any

from halfmask.coco.records import Document, Record
from halfmask.coco.supervision import all_finite, is_crowd
from halfmask.errors import InputError


def strip_masks(document: Document, keep: set[int]) -> Document:
    """The document with the masks of all other classes removed, so that no code can see
    them.

    An annotation whose category is not in `keep` loses `segmentation` (and `halfmask`,
    the note on where its mask came from), and its `area`, which is the mask's, becomes
    width × height of its box (removed where the box is no box). Crowds stay as they
    are, and so does everything else. The document given is not changed; the new one
    shares its untouched parts.

    Args:
        document: a COCO file's, checked by `CocoFile`.
        keep: category ids whose masks stay.
    """
    return {**document, "annotations": [_strip(a, keep) for a in document["annotations"]]}


def _strip(annotation: Any, keep: set[int]) -> Any:
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
        area = (
            bbox[2] * bbox[3]
            if isinstance(bbox, list) and len(bbox) == 4 and all_finite(bbox)
            else None
        )
        if area is not None and all_finite([area]):
            stripped["area"] = area
        else:
            del stripped["area"]
    return stripped


def matching_ids(
    categories: Sequence[Record], target: Sequence[Record], where: str
) -> dict[int, int]:
    """Category id → the id of the target's category of the same name.

    Args:
        categories: those to be found, each with id and name.
        target: those to look among.
        where: what messages call the file of `categories`.
    Raises:
        InputError: a name that the target does not have (near ones are listed), or has
            more than once; or two categories of one name.
    """
    count = Counter(str(c["name"]) for c in target)
    own = Counter(str(c["name"]) for c in categories)
    ids = {str(c["name"]): int(c["id"]) for c in target}
    for name in own:
        if name not in ids:
            near = difflib.get_close_matches(name, ids, n=3, cutoff=0.5)
            hint = f"; near: {', '.join(near)}" if near else ""
            raise InputError(
                f"{where}: its class {name!r} is none of the model's {len(target)} classes, "
                f"which are those of the recipe's data{hint}; "
                "rename it in this file, or leave it out"
            )
        if count[name] > 1 or own[name] > 1:
            raise InputError(
                f"{where}: class {name!r} is matched by name, and there is more than one of "
                "that name; rename all but one"
            )
    return {int(c["id"]): ids[str(c["name"])] for c in categories}


def relabel(document: Document, ids: dict[int, int], categories: Sequence[Record]) -> Document:
    """The document with other category ids. Annotations of no known category stay as
    they are, to be reported by who reads them.

    Args:
        document: a COCO file's, checked by `CocoFile`. It is not changed; the new one
            shares its untouched parts.
        ids: category id → new id, see `matching_ids`.
        categories: the records that the new ids belong to.
    """
    taken = set(ids.values()) | {int(c["id"]) for c in categories}
    nothing = min(taken, default=0) - 1

    def moved(annotation: Any) -> Any:
        if not isinstance(annotation, dict):
            return annotation
        category = annotation.get("category_id")
        # An id that this file does not know must not become, by chance, a class of the
        # other.
        return {
            **annotation,
            "category_id": ids.get(category, nothing) if type(category) is int else None,
        }

    return {
        **document,
        "categories": list(categories),
        "annotations": [moved(a) for a in document["annotations"]],
    }
