"""Copies a teacher's filled-in masks into a COCO file, for self-training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from halfmask.coco.file import CocoFile
from halfmask.coco.records import Box, Document, clip_box
from halfmask.coco.supervision import MaskState, Use, mask_weight, provenance
from halfmask.masks.rle import box_iou, box_of

Key = tuple[int, int]
"""Image id and annotation id: in some files annotation ids restart in each image."""


@dataclass(frozen=True)
class Adoption:
    """The result of `adopt_fillings`.

    Attributes:
        document: the file with the adopted masks and no other filled-in masks.
        kept: number of adopted masks.
        doubtful: masks left out because their score is too low.
        loose: masks left out because they do not fit the annotation's box.
    """

    document: Document
    kept: int
    doubtful: int
    loose: int


def adopt_fillings(
    file: CocoFile,
    use: Use,
    filled: Mapping[Key, dict[str, Any]],
    *,
    min_score: float,
    min_tightness: float,
) -> Adoption:
    """Replaces all masks that `use` does not count by those of `filled` that pass.

    Args:
        file: the annotations to learn from.
        use: which of its masks count already; those stay.
        filled: image and annotation id → the same annotation, filled in; see
            `fillings_of`.
        min_score: lowest score of a mask that no one has reviewed.
        min_tightness: lowest IoU of the mask's tight box with the annotation's box: a
            mask that does not reach a side of its box is wrong.
    """
    counts = {"kept": 0, "doubtful": 0, "loose": 0}
    replaced: dict[int, dict[str, Any]] = {}
    for image, annotation, state in file.rows(use):
        if state in (MaskState.MASK, MaskState.CROWD, MaskState.SUSPECT):
            continue
        bare = {k: v for k, v in annotation.items() if k not in ("segmentation", "halfmask")}
        found = filled.get((image["id"], annotation["id"]), {})
        box = clip_box(annotation["bbox"], file.size_of(image["id"]))
        fate = _fate(
            found, box, file.size_of(image["id"]), min_score=min_score, min_tightness=min_tightness
        )
        if fate is not None:
            counts[fate] += 1
        if fate == "kept":
            bare |= {k: found[k] for k in ("segmentation", "halfmask", "area") if k in found}
        replaced[file.position_of(annotation)] = bare
    rows = [replaced.get(k, a) for k, a in enumerate(file.document["annotations"])]
    return Adoption({**file.document, "annotations": rows}, **counts)


def fillings_of(file: CocoFile) -> dict[Key, dict[str, Any]]:
    """Returns the annotations by image and annotation id.

    Annotations whose pair of ids occurs twice are left out: the owner of their mask is
    unknown.
    """
    out: dict[Key, dict[str, Any]] = {}
    repeated: set[Key] = set()
    for image, annotation, _ in file.rows():
        key = image["id"], annotation["id"]
        repeated |= {key} & out.keys()
        out[key] = annotation
    return {key: annotation for key, annotation in out.items() if key not in repeated}


def _fate(
    found: dict[str, Any],
    box: Box | None,
    size: tuple[int, int],
    *,
    min_score: float,
    min_tightness: float,
) -> str | None:
    """Returns a counter of Adoption; None without a mask or if rejected."""
    state = provenance(found)
    if state in (None, "rejected") or not found.get("segmentation"):
        return None
    if state in ("accepted", "redrawn"):
        return "kept"
    if mask_weight(found) < min_score:
        return "doubtful"
    tight = box_of(found["segmentation"], size)
    if tight is None or box is None or box_iou(tight, box) < min_tightness:
        return "loose"
    return "kept"
