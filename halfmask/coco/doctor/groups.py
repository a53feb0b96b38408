"""Classes in three groups, by the masks that a model is given of them: none, few, many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

MaskGroup = Literal["no_masks", "few", "many", "not_recorded"]
Range = tuple[int, int | None]
"""Fewest and most masks; None: no upper limit."""

MASK_GROUPS: tuple[MaskGroup, ...] = ("no_masks", "few", "many", "not_recorded")
"""The groups in the order of tables."""
MANY = 10
"""Masks from which on they are many, where a recipe does not say otherwise."""


def mask_group(count: int | None, threshold: int = MANY) -> MaskGroup:
    """Returns the group of a class with `count` masks; None: the number is not recorded."""
    if count is None:
        return "not_recorded"
    if count <= 0:
        return "no_masks"
    return "few" if count < threshold else "many"


def masks_in(group: MaskGroup, threshold: int = MANY) -> Range | None:
    """Returns the fewest and the most masks of a class in the group; None: not recorded."""
    least = max(1, threshold)
    ranges: dict[MaskGroup, Range] = {
        "no_masks": (0, 0),
        "few": (1, least - 1),
        "many": (least, None),
    }
    return ranges.get(group)


def amount_in(masks: Range | None) -> str:
    """For example ``0``, ``1–9``, ``10 or more``; ``an unrecorded number`` for None."""
    if masks is None:
        return "an unrecorded number"
    least, most = masks
    if most is None:
        return f"{least} or more"
    return str(least) if least == most else f"{least}–{most}"


def group_title(group: MaskGroup, masks: Range | None) -> str:
    """For example ``no masks``, ``few masks (1–9)``, ``many masks (10+)``."""
    if group == "many" and masks is not None:
        return f"many masks ({masks[0]}+)" if masks[0] > 1 else "with masks"
    if group == "few":
        return f"few masks ({amount_in(masks)})"
    return "no masks" if group == "no_masks" else "not recorded"


@dataclass(frozen=True)
class MaskGroups:
    """The classes of a file, by the masks that a model is given of them in training.

    Attributes:
        counts: category id → masks; None where the number is not recorded.
        threshold: masks from which on they are many.
        unknown: ids of the classes that the model does not know by name.
    """

    counts: Mapping[int, int | None]
    threshold: int = MANY
    unknown: frozenset[int] = frozenset()

    def group_of(self, category_id: int) -> MaskGroup:
        """Returns the group of a class."""
        return mask_group(self.counts.get(category_id), self.threshold)

    def members(self) -> dict[MaskGroup, set[int]]:
        """Returns the category ids of each group, in the order of `MASK_GROUPS`.

        `not_recorded` is left out where the number of masks is recorded for all.
        """
        found: dict[MaskGroup, set[int]] = {group: set() for group in MASK_GROUPS}
        for category_id in self.counts:
            found[self.group_of(category_id)].add(category_id)
        if not found["not_recorded"]:
            del found["not_recorded"]
        return found

    def title(self, group: MaskGroup) -> str:
        """Returns the group's title, see `group_title`."""
        return group_title(group, masks_in(group, self.threshold))

    def summary(self) -> str:
        """For example ``10 or more of 3 classes, 1–9 of 1, none of 2``."""
        sizes = {
            group: (len(ids), masks_in(group, self.threshold))
            for group, ids in self.members().items()
        }
        return summary_of(sizes)


@dataclass(frozen=True)
class MasksGiven:
    """The masks that a model was given in training, for files with other classes.

    Attributes:
        by_name: class name → masks; None where the number is not recorded.
        threshold: masks from which on they are many.
    """

    by_name: Mapping[str, int | None]
    threshold: int = MANY

    def groups_of(self, categories: Iterable[Mapping[str, Any]]) -> MaskGroups | None:
        """Returns a file's classes by their masks, matched by name.

        The model was given no masks of a class that it does not know. None: no number
        is recorded.
        """
        if all(count is None for count in self.by_name.values()):
            return None
        names = {int(c["id"]): str(c["name"]) for c in categories}
        unknown = frozenset(i for i, name in names.items() if name not in self.by_name)
        counts = {i: self.by_name.get(name, 0) for i, name in names.items()}
        return MaskGroups(counts, self.threshold, unknown)


def summary_of(sizes: Mapping[MaskGroup, tuple[int, Range | None]]) -> str:
    """Says how many classes are in each group, those with most masks first.

    Args:
        sizes: for each group the number of its classes, and its range of masks.
    """
    parts: list[str] = []
    for group in ("many", "few", "no_masks", "not_recorded"):
        classes, masks = sizes.get(group, (0, None))
        if classes:
            amount = "none" if group == "no_masks" else amount_in(masks)
            noun = "" if parts else " class" if classes == 1 else " classes"
            parts.append(f"{amount} of {classes}{noun}")
    return ", ".join(parts) or "no classes"
