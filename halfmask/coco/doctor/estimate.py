"""Can the masks of box-only classes be judged without a mask of theirs? By hiding
masked classes, where there are enough.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

LARGEST_SHARE = 1 / 3
"""A class with more than this share of all masks is not hidden: without it the first
training would hardly be like the run's own.
"""
USUAL = 5
"""Classes to hide where there are plenty."""
FEW_MASKS = 100
"""Hidden masks below which the interval of the estimate is wide."""


def hideable(counts: Mapping[int, int], masked: Collection[int], threshold: int = 10) -> list[int]:
    """The masked classes that `hide=k` may choose from, most masks first: with at least
    `threshold` masks and at most a third of all.

    Args:
        counts: category id → usable masks.
        masked: category ids of set A.
    """
    most = LARGEST_SHARE * sum(counts.values())
    fitting = [i for i in masked if max(1, threshold) <= counts[i] <= most]
    return sorted(fitting, key=lambda i: (-counts[i], i))


def estimability(counts: Mapping[int, int], box_only: int, threshold: int = 10) -> dict[str, Any]:
    """What `doctor` says of an estimate for set B.

    Args:
        counts: category id → usable masks.
        box_only: how many classes with objects are in set B.
        threshold: usable masks from which on a class is in set A.
    Returns:
        `possible`, `hide` (the k to ask for, 0 if none), `hideable` (category ids),
            `text` (why, and what to do), `command` (or null).
    """
    masked = [i for i, n in counts.items() if n >= threshold]
    ids = hideable(counts, masked, threshold)
    answer = {"possible": bool(ids), "hide": 0, "hideable": ids, "command": None}
    if not ids:
        return answer | {"text": _why_not(counts, masked, threshold)}
    # A third of them at most: what is left must still teach what the run itself will
    # know.
    hide = max(1, min(USUAL, len(ids) // 3))
    whose = "classes without masks (this file has none)"
    if box_only:
        whose = f"the {box_only} box-only classes" if box_only > 1 else "the box-only class"
    some = f"{len(ids)} masked classes" if len(ids) > 1 else "1 masked class"
    text = f"{some} can stand in for {whose}: hide {hide} of them from a first training, measure on them."
    if hide == 1:
        text += " One class is little evidence: the interval comes from its photographs alone, so read it with care."
    elif sum(counts[i] for i in ids) * hide / len(ids) < FEW_MASKS:
        text += " They have few masks: expect a wide interval."
    return answer | {
        "hide": hide,
        "text": text,
        "command": f"halfmask train RECIPE hide={hide} --out RUN",
    }


def _why_not(counts: Mapping[int, int], masked: Collection[int], threshold: int) -> str:
    total = sum(counts.values())
    if not total:
        return "no number: no annotation has a usable mask. Draw some masks first, of four classes or more."
    some = sum(0 < n < threshold for n in counts.values())
    few = f"; {some} more have some masks but fewer than {threshold}" if some else ""
    if not masked:
        return (
            f"no number: no class has {threshold} masks ({total} in all). Draw more masks of "
            "the classes that have some, "
            "or lower data.masked_threshold."
        )
    return (
        f"no number: a hidden class needs at least {threshold} masks and at most a third of "
        f"all {total}, and none of the "
        f"{len(masked)} masked classes is like that{few}. Draw masks of other classes: with "
        "four of about equal size it works."
    )
