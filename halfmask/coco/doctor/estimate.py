"""Whether quality on classes without masks can be measured, by hiding others' masks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from halfmask.coco.doctor.groups import MANY

LARGEST_SHARE = 1 / 3
"""Largest share of all masks in a class that may be hidden.

Without a larger class the first training would differ too much from the run itself.
"""
USUAL = 5
"""Number of classes to hide if there are many."""
FEW_MASKS = 100
"""Number of hidden masks below which the confidence interval is wide."""


def hideable(counts: Mapping[int, int], masked: Collection[int], threshold: int = 10) -> list[int]:
    """Returns the masked classes that `hide=k` may choose from, most masks first.

    Each has at least `threshold` masks and at most a third of all masks.

    Args:
        counts: category id → usable masks.
        masked: category ids of set A.
    """
    most = LARGEST_SHARE * sum(counts.values())
    fitting = [i for i in masked if max(1, threshold) <= counts[i] <= most]
    return sorted(fitting, key=lambda i: (-counts[i], i))


def estimability(
    counts: Mapping[int, int], *, without: int, few: int = 0, threshold: int = MANY
) -> dict[str, Any]:
    """Says whether quality on classes without masks can be estimated, and how.

    Args:
        counts: category id → usable masks.
        without: number of classes that have objects and no mask.
        few: number of classes that have masks, but fewer than `threshold`.
        threshold: usable masks from which on they are many.
    Returns:
        `possible`; `hide`, the k of `hide=k` (0 if impossible); `hideable`, category
            ids; `text`, reasons and what to do; `command` or null.
    """
    masked = [i for i, n in counts.items() if n >= threshold]
    ids = hideable(counts, masked, threshold)
    answer = {"possible": bool(ids), "hide": 0, "hideable": ids, "command": None}
    if not ids:
        return answer | {"text": _why_not(counts, masked, threshold)}
    # A third of them at most: the first training must resemble the run itself.
    hide = max(1, min(USUAL, len(ids) // 3))
    some = f"{len(ids)} classes with many masks" if len(ids) > 1 else "1 class with many masks"
    text = (
        f"{some} can stand in for {_whose(without, few)}: hide {hide} of them from a first "
        "training and measure on them."
    )
    if hide == 1:
        text += (
            " One class is little evidence: its confidence interval comes from its photographs "
            "alone."
        )
    elif sum(counts[i] for i in ids) * hide / len(ids) < FEW_MASKS:
        text += " They have few masks: expect a wide confidence interval."
    return answer | {
        "hide": hide,
        "text": text,
        "command": f"halfmask train RECIPE hide={hide} --out RUN",
    }


def _whose(without: int, few: int) -> str:
    if without:
        rest = f" and the {few} with few" if few else ""
        return f"the {without} without masks{rest}"
    if few:
        return f"the {few} with few masks"
    return "classes without masks (this file has none)"


def _none_of(classes: int) -> str:
    return f"none of the {classes} classes" if classes > 1 else "not even the one class"


def _why_not(counts: Mapping[int, int], masked: Collection[int], threshold: int) -> str:
    total = sum(counts.values())
    if not total:
        return (
            "It cannot be measured: no annotation has a usable mask. Draw some masks first, of "
            "four or more classes."
        )
    some = sum(0 < n < threshold for n in counts.values())
    few = (
        f"; {some} more {'have' if some > 1 else 'has'} some masks but fewer than {threshold}"
        if some
        else ""
    )
    if not masked:
        return (
            f"It cannot be measured: no class has {threshold} masks ({total} in all). Draw more "
            "masks of the classes that have some, or lower data.masked_threshold."
        )
    return (
        f"It cannot be measured: a hidden class needs at least {threshold} masks and at most a "
        f"third of all {total}, and {_none_of(len(masked))} with many masks meets "
        f"this{few}. Draw masks of other classes: four classes of similar size are enough."
    )
