"""Measures how tightly a file's boxes fit their objects, on objects that have masks."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from itertools import islice

from halfmask.coco.file import CocoFile
from halfmask.coco.records import clip_box
from halfmask.coco.supervision import MaskState, Use
from halfmask.masks.rle import box_iou, box_of

ENOUGH = 500
"""Number of objects to measure; the mean of more hardly differs."""
SMALLEST = 16
"""Smallest height and width in pixels.

A smaller mask ends at pixel borders, so no box agrees well with it.
"""
LOOSE_BELOW = 0.88
"""Mean IoU of a box with its mask's tight box, below which boxes count as loose.

Corners that are off by up to 5 % of the side either way give 0.91, by up to 10 % 0.82;
careful annotation gives 0.95 and more.
"""


def box_tightness(
    file: CocoFile, use: Use = "annotated", classes: Collection[int] | None = None
) -> float | None:
    """Returns the mean IoU of boxes with their masks' tight boxes; None without masks.

    Args:
        use: which of halfmask's own masks count.
        classes: category ids of the objects to measure; None: all.
    """
    found = list(islice(_agreements(file, use, classes), ENOUGH))
    return sum(found) / len(found) if found else None


def boxes_are_loose(tightness: float | None) -> bool:
    """Whether boxes of this tightness are loose; unmeasured boxes count as tight."""
    return tightness is not None and tightness < LOOSE_BELOW


def _agreements(file: CocoFile, use: Use, classes: Collection[int] | None) -> Iterator[float]:
    # In an order that depends only on their number: files are often sorted by origin.
    for image in random.Random(0).sample(file.images, len(file.images)):
        size = file.size_of(image["id"])
        rows = zip(file.annotations_of(image["id"]), file.states_of(image["id"], use), strict=True)
        for annotation, state in rows:
            wanted = classes is None or annotation["category_id"] in classes
            if state is not MaskState.MASK or not wanted:
                continue
            box, own = clip_box(annotation["bbox"], size), box_of(annotation["segmentation"], size)
            if box and own and min(own[2] - own[0], own[3] - own[1]) >= SMALLEST:
                yield box_iou(box, own)
