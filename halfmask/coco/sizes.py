"""How large the objects of a COCO file are: boxes, and masks."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from halfmask.coco.annotations import CocoFile
from halfmask.coco.boxes import clip_box
from halfmask.coco.supervision import MaskState
from halfmask.masks.rle import area_of

SMALL, LARGE = 32**2, 96**2
"""COCO's borders between S, M and L, square pixels."""


def sizes(file: CocoFile) -> dict[str, Any]:
    """Sizes of all boxes (clipped to their image) and of all usable masks, crowds left out.

    Returns:
        `boxes` and `masks`: `count`; `S`, `M`, `L`, how many are of each size by COCO's borders; `median_area`, square pixels;
        `fill`, the median share of its box that a mask covers (masks only). A value of nothing is null.
    """
    boxes: list[float] = []
    masks: list[float] = []
    fills: list[float] = []
    for image in file.images:
        size = file.size_of(image["id"])
        for annotation, state in zip(file.annotations_of(image["id"]), file.states_of(image["id"]), strict=True):
            box = clip_box(annotation["bbox"], size)
            if state == MaskState.CROWD or box is None:
                continue
            boxes.append((box[2] - box[0]) * (box[3] - box[1]))
            if state == MaskState.MASK:
                masks.append(area_of(annotation["segmentation"], size))
                fills.append(masks[-1] / boxes[-1])
    return {"boxes": _block(boxes), "masks": _block(masks) | {"fill": median(fills) if fills else None}}


def _block(areas: Sequence[float]) -> dict[str, Any]:
    small, large = sum(a < SMALL for a in areas), sum(a >= LARGE for a in areas)
    middle = median(areas) if areas else None
    return {"count": len(areas), "S": small, "M": len(areas) - small - large, "L": large, "median_area": middle}
