"""The sets of classes that a person sees of an evaluation, and what to call them.

A reader wants to know what the model was given: no masks of a class, few, or many. Sets
A and B are shown only where `--masked` names A, or where nothing else is recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from halfmask.coco.doctor.groups import MASK_GROUPS, MaskGroup, group_title, summary_of

MEASURES = ("box", "mask", "boundary", "mask_over_box", "given_boxes", "quality", "ambiguous")
ALL = "all classes"

Blocks = dict[str, Any]
"""The measures of one set of classes, by the keys `MEASURES`."""


def shown_sets(result: Mapping[str, Any]) -> dict[str, Blocks]:
    """Returns title → measures of each set that has a class; all classes are last.

    Args:
        result: the JSON of `halfmask evaluate`, or an evaluation of metrics.json.
    """
    if by_groups(result):
        found = {_title(group, block): _measures(block) for group, block in _groups(result).items()}
    else:
        found = {title: _of_set(result, name) for name, title in _titles_of_ab(result).items()}
    return found | {ALL: _of_set(result, "all")}


def short_title(title: str) -> str:
    """Returns a title without what stands in brackets: ``few masks``, ``A``."""
    return title.split(" (")[0]


def by_groups(result: Mapping[str, Any]) -> bool:
    """Whether a reader sees the groups by masks in training, not sets A and B."""
    return bool(result.get("groups")) and not result.get("masked")


def about_sets(result: Mapping[str, Any], model: str = "the model") -> str:
    """Says in one line what the sets of `shown_sets` are.

    Args:
        result: as `shown_sets`.
        model: whose masks in training the groups are about.
    """
    if by_groups(result):
        sizes = {
            group: (block["classes"], _range(block)) for group, block in _groups(result).items()
        }
        unknown = _groups(result).get("no_masks", {}).get("unknown", 0)
        foreign = f" ({unknown} of them not known to it by name)" if unknown else ""
        return f"Masks that {model} was given: {summary_of(sizes)}{foreign}."
    inside, outside = _sizes_of_ab(result)
    if result.get("masked"):
        return f"A: the {_count(inside)} of --masked {result['masked']}; B: the other {outside}."
    text = f"How many masks {model} was given of each class is not recorded."
    if inside:
        text += f" A: the {_count(inside)} that had masks; B: the other {outside}."
    return text


def _groups(result: Mapping[str, Any]) -> dict[MaskGroup, Mapping[str, Any]]:
    """The groups that have a class."""
    blocks = result["groups"]
    return {g: blocks[g] for g in MASK_GROUPS if blocks.get(g, {}).get("classes")}


def _title(group: MaskGroup, block: Mapping[str, Any]) -> str:
    return group_title(group, _range(block))


def _range(block: Mapping[str, Any]) -> tuple[int, int | None] | None:
    masks = block["masks"]
    return None if masks is None else (masks[0], masks[1])


def _titles_of_ab(result: Mapping[str, Any]) -> dict[str, str]:
    """A and B by what they are; no set that is known to be without a class."""
    titles = {"A": "A (had masks)", "B": "B (the others)"}
    if result.get("masked"):
        titles = {"A": "A (--masked)", "B": "B (the others)"}
    inside, outside = _sizes_of_ab(result)
    if "per_category" in result and not (inside and outside):
        # One set alone says no more than all classes; and without a record, the set of
        # classes that had no masks may only be the set of which nothing is known.
        return {}
    return titles


def _sizes_of_ab(result: Mapping[str, Any]) -> tuple[int, int]:
    rows = result.get("per_category", ())
    inside = sum(bool(row["masked"]) for row in rows)
    return inside, len(rows) - inside


def _count(classes: int) -> str:
    return f"{classes} class" if classes == 1 else f"{classes} classes"


def _measures(block: Mapping[str, Any]) -> Blocks:
    return {key: block[key] for key in MEASURES if key in block}


def _of_set(result: Mapping[str, Any], name: str) -> Blocks:
    found = {key: result[key] for key in MEASURES if isinstance(result.get(key), Mapping)}
    return {key: sets[name] for key, sets in found.items() if name in sets}
