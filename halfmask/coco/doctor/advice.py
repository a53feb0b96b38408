"""What a person would say who has read `doctor`'s numbers: which classes are segmented
how, and what would help.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

NAMED = 4
"""Classes that an advice names."""
MANY_BOXES = 20
"""Boxes from which on a class without masks is worth a word of its own."""
TINY_SHARE = 0.5


def advice(result: dict[str, Any]) -> list[str]:
    """Lines for a person, the weightiest first.

    Args:
        result: what `diagnose` gives, without `advice`.
    """
    rows = [c for c in result["categories"] if c["annotations"] > c["crowd"]]
    box_only = sorted((c for c in rows if c["set"] == "B"), key=lambda c: -c["annotations"])
    masked = [c for c in rows if c["set"] == "A"]
    lines = [
        *_nothing_to_learn(rows, masked),
        *_transfer(box_only, masked, result["masked_threshold"]),
        *_half_masked(masked),
        *_states(result),
        *_small(result["sizes"]["boxes"]),
    ]
    if rows and not box_only and result["training"]["boxes_without_mask"] == 0:
        lines.append(
            "Every object has a mask: any instance segmenter can learn from this; nothing is "
            "left to complete."
        )
    return lines


def _nothing_to_learn(
    rows: Sequence[dict[str, Any]], masked: Sequence[dict[str, Any]]
) -> list[str]:
    if not rows:
        return ["No usable object: there is nothing to learn from."]
    if masked or any(c["mask"] for c in rows):
        return []
    return [
        "No mask at all: training needs some. `halfmask complete box-segmenter` fills them in "
        "with the shipped model, without training."
    ]


def _transfer(
    box_only: Sequence[dict[str, Any]], masked: Sequence[dict[str, Any]], threshold: int
) -> list[str]:
    if not masked:
        return []
    lines = [
        f"`{c['name']}` has {_count(c['mask'], 'mask')} and {_count(_boxes(c), 'box')}: it "
        "will be segmented by transfer."
        for c in box_only[:NAMED]
        if _boxes(c) >= MANY_BOXES
    ]
    rest = box_only[len(lines) :]
    if rest:
        lines.append(
            f"{_count(len(rest), 'more class' if lines else 'class')} with fewer than "
            f"{threshold} masks: by transfer too ({_names(rest)})."
        )
    near = [c for c in box_only if threshold / 2 <= c["mask"] < threshold]
    if near:
        lines.append(
            f"A few more masks would make {_names(near)} a masked class ({threshold} are needed)."
        )
    return lines


def _half_masked(masked: Sequence[dict[str, Any]]) -> list[str]:
    """Objects of A's classes without a mask: that is fine, and worth knowing."""
    without = {c["name"]: c["missing"] + c["broken"] for c in masked}
    rows = sorted((c for c in masked if without[c["name"]]), key=lambda c: -without[c["name"]])
    if not rows:
        return []
    count = _count(sum(without.values()), "object")
    return [
        f"{count} of masked classes without a usable mask ({_names(rows)}): `halfmask "
        "complete` fills them in."
    ]


def _states(result: dict[str, Any]) -> list[str]:
    counts, lines = result["annotations"], []
    if counts["suspect"]:
        lines.append(
            f"{_count(counts['suspect'], 'polygon')} that only repeat their box: where "
            "placeholders, delete their `segmentation`, "
            "and `complete` will fill them in; if the objects are rectangles (screens, "
            "tables), all is well."
        )
    if counts["broken"]:
        lines.append(
            f"{_count(counts['broken'], 'broken mask')}: `complete` draws them anew and keeps "
            "the old value beside."
        )
    if counts["filled"]:
        lines.append(
            f"{_count(counts['filled'], 'mask')} filled in by halfmask, not reviewed: "
            "`halfmask review`, then data.use=accepted."
        )
    return lines


def _small(boxes: dict[str, Any]) -> list[str]:
    if not boxes["count"] or boxes["S"] <= TINY_SHARE * boxes["count"]:
        return []
    return [
        f"{boxes['S'] / boxes['count']:.0%} of the objects are smaller than 32 × 32 pixels: "
        "masks of these are the hardest to get right; "
        "look at the S column of `halfmask evaluate`."
    ]


def _boxes(category: dict[str, Any]) -> int:
    """Objects with a box, masked or not, crowds aside."""
    return int(category["annotations"] - category["crowd"])


def _names(rows: Sequence[dict[str, Any]]) -> str:
    shown = ", ".join(f"`{c['name']}`" for c in rows[:NAMED])
    return f"{shown} and {len(rows) - NAMED} more" if len(rows) > NAMED else shown


def _count(number: int, noun: str) -> str:
    many = f"{noun}es" if noun.endswith(("x", "s")) else f"{noun}s"
    return f"{number:,} {noun if number == 1 else many}"
