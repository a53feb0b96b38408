"""Finds faults in the classes of a COCO file, and says what no annotation uses.

Files in memory and large ones are judged alike.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from halfmask.coco.problems import FACTS, Problem, ProblemKind
from halfmask.coco.records import Record


def check_classes(categories: Sequence[Record], used: Collection[int]) -> list[Problem]:
    """Returns the findings about classes.

    Args:
        categories: the records, by id.
        used: ids of those that have a usable annotation.
    """
    unused = [c for c in categories if c["id"] not in used]
    return [
        *_same_names(categories),
        *_alike_names(categories),
        *(empty(ProblemKind.CATEGORY_EMPTY, c["id"], f" ({c['name']})") for c in unused),
    ]


def _same_names(categories: Sequence[Record]) -> Iterator[Problem]:
    names: dict[str, int] = {}
    for category in categories:
        number, name = category["id"], category["name"]
        if name in names:
            message = f"category {number}: has the same name as category {names[name]}, {name!r}"
            yield Problem(ProblemKind.DUPLICATE_CATEGORY_NAME, (names[name], number), message)
        names.setdefault(name, number)


def _alike_names(categories: Sequence[Record]) -> Iterator[Problem]:
    """Finds names that a person reads as equal; identical names are clashes."""
    firsts: dict[str, dict[str, Any]] = {}
    for category in categories:
        number, name = category["id"], category["name"]
        first = firsts.setdefault(" ".join(name.split()).casefold(), category)
        if first["name"] != name:
            message = (
                f"category {number}: {name!r} differs only in case or spaces from category "
                f"{first['id']}, {first['name']!r}"
            )
            yield Problem(ProblemKind.ALIKE_CATEGORY_NAMES, (first["id"], number), message)


def empty(kind: ProblemKind, number: int, named: str = "") -> Problem:
    """Returns the finding about an image or class without a usable annotation.

    Args:
        kind: IMAGE_EMPTY or CATEGORY_EMPTY.
        number: its id.
        named: its name, for the message.
    """
    return Problem(kind, (number,), f"{FACTS[kind].about} {number}{named}: no usable annotation")
