"""Why a mask looks wrong, in words that a labeller understands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from halfmask.labelling.audit.maps import GRID, MARGIN
from halfmask.labelling.audit.measures import MEASURES
from halfmask.text import plural

MOST = 3
"""Reasons that are given for a mask."""
LOW_IOU = 0.1
"""IoU below what the model expects, from which on it is a reason."""

Reason = tuple[float, str]
"""How striking it is (1: at the limit from which it is named), and a phrase."""


@dataclass(frozen=True, kw_only=True)
class Around:
    """What a mask's reasons name beside it.

    Attributes:
        side: mean side of its box, pixels.
        twin: id of the most alike other mask; None without another.
        fitting: id of the annotation whose box fits best; None without another.
        suspect: whether its polygon repeats its box.
    """

    side: float
    twin: int | None
    fitting: int | None
    suspect: bool


def reasons_of(measures: NDArray[np.float32], around: Around) -> list[str]:
    """Returns why a mask looks wrong, the most striking reason first, at most MOST."""
    value = dict(zip(MEASURES, measures.tolist(), strict=True))
    found = sorted(_reasons(value, around), key=lambda reason: -reason[0])
    named = [text for strength, text in found if strength >= 1]
    return named[:MOST] or [_beside_model(value)]


def _beside_model(value: dict[str, float]) -> str:
    return (
        f"IoU with the model's mask {value['iou']:.2f}, where the model expects "
        f"{value['expected']:.2f}"
    )


def _reasons(value: dict[str, float], around: Around) -> Iterator[Reason]:
    if around.suspect:
        yield 2.0, "its polygon repeats its box: a placeholder, or a rectangular object"
    swapped = value["other_box"] > 0.1 and around.fitting is not None
    if swapped:
        yield (
            20 * value["other_box"],
            f"it fits the box of annotation {around.fitting} better than its own",
        )
    if around.twin is not None:
        yield (
            value["twin"] / 0.6,
            f"its IoU with the mask of annotation {around.twin} is {value['twin']:.2f}: one "
            "object twice, or a wrong mask",
        )
    if not swapped:
        yield value["outside"] / 0.03, f"{value['outside']:.0%} of it lies outside its box"
        pixels = value["box_side"] * around.side
        off = value["box_side"] / 0.06 if pixels > 2 else 0.0
        yield off, f"a side of its box is {pixels:.0f} pixels off"
    yield value["holes"] / 0.02, f"holes take {value['holes']:.0%} of it"
    yield value["islands"] / 0.3, f"{value['islands']:.0%} of it is apart from the rest"
    yield from _against_model(value, around)


def _against_model(value: dict[str, float], around: Around) -> Iterator[Reason]:
    cell = around.side * (1 + 2 * MARGIN) / GRID
    yield (value["expected"] - value["iou"]) / LOW_IOU, _beside_model(value)
    moved = plural(max(1, round(value["shift"] * around.side)), "pixel")
    yield value["shift_gain"] / 0.04, f"moved by {moved} it fits the model's mask better"
    offset = value["border_offset"]
    if offset:
        where = "inside" if offset > 0 else "outside"
        pixels = plural(max(1, round(abs(offset) * cell)), "pixel")
        text = f"its border lies about {pixels} {where} the model's"
        yield value["border_gain"] / 0.08, text
    yield (
        value["sure_missing"] / 0.08,
        f"the model is sure of more: {value['sure_missing']:.0%} of the object is missing",
    )
    yield (
        value["sure_beyond"] / 0.08,
        f"{value['sure_beyond']:.0%} of it is background, as the model is sure",
    )
