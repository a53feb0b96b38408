"""Simulates partial supervision: takes the masks of some classes out of a document."""

from __future__ import annotations

from typing import Any

from halfmask.coco.supervision import all_finite, is_crowd

Document = dict[str, Any]


def strip_masks(document: Document, keep: set[int]) -> Document:
    """The document with the masks of all other classes removed, so that no code can see them.

    An annotation whose category is not in `keep` loses `segmentation` (and `halfmask`, the note on where its mask came from), and its
    `area`, which is the mask's, becomes width × height of its box (removed where the box is no box). Crowds stay as they are, and so
    does everything else. The document given is not changed; the new one shares its untouched parts.

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
    stripped = {key: value for key, value in annotation.items() if key not in ("segmentation", "halfmask")}
    if "area" in stripped:
        bbox = stripped.get("bbox")
        area = bbox[2] * bbox[3] if isinstance(bbox, list) and len(bbox) == 4 and all_finite(bbox) else None
        if area is not None and all_finite([area]):
            stripped["area"] = area
        else:
            del stripped["area"]
    return stripped
