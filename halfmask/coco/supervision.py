"""The state of a mask, decided for each annotation alone, not for a class or a file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, TypeGuard

from halfmask.masks.rle import box_of, fault_of_rle
from halfmask.text import plural

Use = Literal["annotated", "accepted", "filled"]
"""Which of halfmask's own masks count as masks (`Data.use` in a recipe)."""

SUSPECT_TOLERANCE = 1.0
"""Pixels by which each side of a box-shaped polygon may differ from the box.

Exporters round, or include or exclude the last pixel.
"""

STEPS = 5
"""COCO's rasteriser rounds to this fraction of a pixel."""
SURE_PIXELS = 3.0
"""Pixels of a column that survive any rounding."""


class MaskState(StrEnum):
    """The state of an annotation's mask.

    The box is learnt from in every state but CROWD, the mask only in MASK.
    """

    MASK = "mask"
    """A usable mask."""
    MISSING = "missing"
    """No key, null, [] or [[]]: no mask was drawn."""
    BROKEN = "broken"
    """A corrupt or empty RLE, a malformed polygon, or no pixel on the image."""
    SUSPECT = "suspect"
    """A polygon that repeats its box: a placeholder, or a screen seen from the front.

    Not used; `complete` does not change it.
    """
    CROWD = "crowd"
    """iscrowd: a region of many objects, never learnt from."""
    FILLED = "filled"
    """halfmask filled it in, and `data.use` does not count it."""
    REJECTED = "rejected"
    """halfmask filled it in and a reviewer rejected it."""


@dataclass(frozen=True)
class Verdict:
    """A state and, if the mask is broken, the reason."""

    state: MaskState
    reason: str = ""


ORIGINS = ("accepted", "rejected", "redrawn")
"""States that a reviewer gives a mask from halfmask; any other note means `filled`."""
COUNTED: dict[str, frozenset[str]] = {
    "annotated": frozenset({"redrawn"}),  # drawn by a person, in review
    "accepted": frozenset({"redrawn", "accepted"}),
    "filled": frozenset({"redrawn", "accepted", "filled"}),
}


ANNOTATORS = ("annotated", "confirmed")
"""States in a note whose mask came with the file: a reviewer changed something else, or
confirmed it."""


def classify(annotation: object, image_size: tuple[int, int], use: Use = "annotated") -> MaskState:
    """Returns the state of an annotation's mask. Accepts any JSON value.

    Args:
        annotation: one item of a COCO file's `annotations`.
        image_size: (H, W) of its image.
        use: which of halfmask's own masks count as masks (`Data.use` in a recipe).
    """
    return judge(annotation, image_size, use).state


def judge(annotation: object, image_size: tuple[int, int], use: Use = "annotated") -> Verdict:
    """Returns the state as `classify` does, with the reason if a mask is broken."""
    if not isinstance(annotation, dict):
        return Verdict(
            MaskState.BROKEN, f"the annotation is {type(annotation).__name__}, expected an object"
        )
    if is_crowd(annotation):
        return Verdict(MaskState.CROWD)
    segmentation = annotation.get("segmentation")
    if is_missing(segmentation):
        return Verdict(MaskState.MISSING)
    fault = _fault(segmentation, image_size)
    if fault:
        return Verdict(MaskState.BROKEN, fault)
    origin = provenance(annotation)
    if origin == "rejected":
        return Verdict(MaskState.REJECTED)
    if origin is not None and origin not in COUNTED[use]:
        return Verdict(MaskState.FILLED)
    return Verdict(MaskState.SUSPECT if repeats_box(annotation) else MaskState.MASK)


def is_crowd(annotation: dict[str, Any]) -> bool:
    """Whether it is a crowd: any `iscrowd` but 0 (doctor reports odd ones)."""
    return annotation.get("iscrowd") not in (None, 0)


def provenance(annotation: dict[str, Any]) -> str | None:
    """Returns the origin of a mask from halfmask; None if it came with the file.

    The origin is `filled`, `accepted`, `rejected` or `redrawn`.
    """
    note = annotation.get("halfmask")
    if not isinstance(note, dict):
        return None
    state = note.get("state")
    if note.keys() == {"box"} or state in ANNOTATORS:
        # `tighten` kept the old box, or a reviewer changed or confirmed an annotation
        # whose mask is the file's.
        return None
    # An unreadable note still shows that no person drew the mask.
    return state if state in ORIGINS else "filled"


def mask_weight(annotation: dict[str, Any]) -> float:
    """Returns a mask's weight in the losses: its score if filled in, else 1."""
    if provenance(annotation) != "filled":
        return 1.0
    score: Any = annotation["halfmask"].get("score")
    return min(max(float(score), 0.0), 1.0) if all_finite([score]) else 1.0


def repeats_box(annotation: dict[str, Any]) -> bool:
    """Whether a polygon is an upright rectangle equal to the annotation's box.

    It has 4 points, or 5 if the first is repeated.
    """
    segmentation, bbox = annotation.get("segmentation"), annotation.get("bbox")
    if (
        not isinstance(segmentation, list)
        or len(segmentation) != 1
        or len(segmentation[0]) not in (8, 10)
    ):
        return False
    if not is_box(bbox):
        return False
    points = list(zip(segmentation[0][0::2], segmentation[0][1::2], strict=True))
    if len(points) == 5 and points.pop() != points[0]:
        return False
    xs, ys = [x for x, _ in points], [y for _, y in points]
    left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
    x, y, w, h = bbox
    worst = max(abs(left - x), abs(top - y), abs(right - x - w), abs(bottom - y - h))
    if worst > SUSPECT_TOLERANCE:
        return False
    upright = all(
        min(x - left, right - x) <= 0.05 and min(y - top, bottom - y) <= 0.05 for x, y in points
    )
    return upright and len({(x - left > right - x, y - top > bottom - y) for x, y in points}) == 4


def is_box(bbox: object) -> TypeGuard[list[Any]]:
    """Whether a JSON value is a list of four finite numbers."""
    return isinstance(bbox, list) and len(bbox) == 4 and all_finite(bbox)


def all_finite(values: list[Any]) -> bool:
    """Whether every value is a finite number; bool, str and None are not."""
    if not set(map(type, values)) <= {int, float}:
        return False
    try:
        return math.isfinite(math.fsum(values))
    except (OverflowError, ValueError):  # an integer beyond any float; inf and -inf together
        return False


def is_missing(segmentation: object) -> bool:
    """Whether a mask was never drawn: null, [] or [[]]."""
    return segmentation is None or (
        isinstance(segmentation, list) and all(part == [] for part in segmentation)
    )


def _fault(segmentation: object, image_size: tuple[int, int]) -> str | None:
    if isinstance(segmentation, dict):
        return fault_of_rle(segmentation, image_size)
    if not isinstance(segmentation, list):
        return (
            f"the segmentation is {type(segmentation).__name__}, expected a list of polygons or "
            "an RLE object"
        )
    for number, polygon in enumerate(segmentation):
        fault = fault_of_polygon(polygon, image_size)
        if fault:
            parts = len(segmentation)
            return fault if parts == 1 else f"part {number + 1} of {parts}: {fault}"
    if any(_surely_has_pixels(polygon, image_size) for polygon in segmentation) or box_of(
        segmentation, image_size
    ):
        return None
    return "the polygon covers no pixel of the image"


def fault_of_polygon(polygon: object, image_size: tuple[int, int]) -> str | None:
    """Says why a polygon cannot be read; None if it can."""
    if not isinstance(polygon, list):
        return (
            f"the polygon is {type(polygon).__name__}, expected a list of numbers x1, y1, x2, y2, …"
        )
    if len(polygon) % 2:
        return f"the polygon has {len(polygon)} numbers, expected an even count (x, y in turn)"
    if len(polygon) < 6:
        return f"the polygon has {plural(len(polygon) // 2, 'point')}, expected at least 3"
    if not all_finite(polygon):
        return "the polygon holds a value that is not a finite number"
    reach = max(image_size)
    if min(polygon) < -reach or max(polygon) > 2 * reach:
        return f"the polygon reaches far beyond the image ({min(polygon):g} … {max(polygon):g})"
    return None


def _surely_has_pixels(polygon: list[Any], image_size: tuple[int, int]) -> bool:
    """Whether a polygon inside the image surely covers a pixel; avoids rasterising.

    It does where it crosses one column of pixels at points far enough apart. Its area
    says less: a triangle traced twice has twice the area and, by the even-odd rule, no
    pixel.
    """
    # Rounded as in the rasteriser, which decides the side of the line.
    xs = [int(STEPS * x + 0.5) for x in polygon[0::2]]
    ys = polygon[1::2]
    low, high = min(xs), max(xs)
    if low < 0 or min(ys) < 0 or high > STEPS * image_size[1] or max(ys) > image_size[0]:
        return False
    line = STEPS * ((low + high) // (2 * STEPS)) + STEPS / 2
    crossings = []
    x0, y0 = xs[-1], ys[-1]
    for x1, y1 in zip(xs, ys, strict=True):
        if (x0 < line) != (x1 < line):
            crossings.append(y0 + (line - x0) * (y1 - y0) / (x1 - x0))
        x0, y0 = x1, y1
    crossings.sort()
    return any(
        end - start > SURE_PIXELS
        for start, end in zip(crossings[::2], crossings[1::2], strict=True)
    )
