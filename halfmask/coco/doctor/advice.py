"""Advice from the numbers of `doctor`: how each class is segmented, what would help."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from halfmask.coco.tightness import boxes_are_loose
from halfmask.text import listed

NAMED = 4
"""Most classes that a sentence names."""
MANY_BOXES = 20
"""Fewest boxes for which a class without masks gets a sentence of its own."""
TINY_SHARE = 0.5


def advice(result: dict[str, Any]) -> list[str]:
    """Returns sentences for a reader, the most important first.

    Args:
        result: the members of a Diagnosis, without `advice`.
    """
    rows = [c for c in result["categories"] if c["annotations"] > c["crowd"]]
    box_only = sorted((c for c in rows if c["set"] == "B"), key=lambda c: -c["annotations"])
    masked = [c for c in rows if c["set"] == "A"]
    lines = [
        *_nothing_to_learn(rows, masked),
        *_transfer(box_only, masked, result["masked_threshold"]),
        *_half_masked(masked),
        *_states(result),
        *_loose(result["tightness"]),
        *_small(result["sizes"]["boxes"]),
    ]
    if rows and not box_only and result["training"]["boxes_without_mask"] == 0:
        lines.append(
            "Every object has a mask: any instance segmenter can learn from this file, and "
            "there is nothing to complete."
        )
    return lines


def _nothing_to_learn(
    rows: Sequence[dict[str, Any]], masked: Sequence[dict[str, Any]]
) -> list[str]:
    if not rows:
        return ["No usable objects: there is nothing to learn from."]
    if masked or any(c["mask"] for c in rows):
        return []
    return [
        "No masks at all: training needs some. `halfmask complete box-segmenter` fills them in "
        "with the shipped model, without training."
    ]


def _transfer(
    box_only: Sequence[dict[str, Any]], masked: Sequence[dict[str, Any]], threshold: int
) -> list[str]:
    if not masked:
        return []
    lines = [
        f"`{c['name']}` has {_count(c['mask'], 'mask') if c['mask'] else 'no mask'} and "
        f"{_count(_boxes(c), 'box')}: it will be segmented by transfer."
        for c in box_only[:NAMED]
        if _boxes(c) >= MANY_BOXES
    ]
    rest = box_only[len(lines) :]
    if rest:
        lines.append(
            f"{_count(len(rest), 'more class' if lines else 'class')} with fewer than "
            f"{threshold} masks, or none: also segmented by transfer ({_names(rest)})."
        )
    near = [c for c in box_only if threshold / 2 <= c["mask"] < threshold]
    if near:
        lines.append(f"A few more masks of {_names(near)} would be many ({threshold} or more).")
    return lines


def _half_masked(masked: Sequence[dict[str, Any]]) -> list[str]:
    """Counts the objects without a mask in classes that have many masks."""
    without = {c["name"]: c["missing"] for c in masked}
    rows = sorted((c for c in masked if without[c["name"]]), key=lambda c: -without[c["name"]])
    if not rows:
        return []
    count = _count(sum(without.values()), "object")
    return [
        f"{count} of classes with many masks without a mask ({_names(rows)}): `halfmask "
        "complete` fills them in."
    ]


def _states(result: dict[str, Any]) -> list[str]:
    counts, lines = result["annotations"], []
    if counts["suspect"]:
        lines.append(
            f"{_count(counts['suspect'], 'polygon')} that only repeat their box: if they are "
            "placeholders, delete their `segmentation`, and `complete` fills them in; if the "
            "objects are rectangles (screens, tables), nothing is wrong."
        )
    if counts["broken"]:
        lines.append(
            f"{_count(counts['broken'], 'broken mask')}: `complete` leaves them as they are; "
            "`complete --replace-broken` fills them and keeps the old values."
        )
    if counts["filled"]:
        lines.append(
            f"{_count(counts['filled'], 'mask')} filled in by halfmask, not reviewed: "
            "`halfmask review`, then data.use=accepted."
        )
    return lines


def _loose(tightness: float | None) -> list[str]:
    if not boxes_are_loose(tightness):
        return []
    return [
        f"Boxes are loose: their mean IoU with the boxes of their masks is {tightness:.2f}. "
        "`halfmask tighten` lists them and writes the masks' boxes."
    ]


def _small(boxes: dict[str, Any]) -> list[str]:
    if not boxes["count"] or boxes["S"] <= TINY_SHARE * boxes["count"]:
        return []
    return [
        f"{boxes['S'] / boxes['count']:.0%} of the objects are smaller than 32 × 32 pixels: "
        "their masks are the hardest; check column S of `halfmask evaluate`."
    ]


def _boxes(category: dict[str, Any]) -> int:
    """Counts objects with a box, without crowds."""
    return int(category["annotations"] - category["crowd"])


def _names(rows: Sequence[dict[str, Any]]) -> str:
    return listed([f"`{c['name']}`" for c in rows], NAMED)


def _count(number: int, noun: str) -> str:
    many = f"{noun}es" if noun.endswith(("x", "s")) else f"{noun}s"
    return f"{number:,} {noun if number == 1 else many}"
