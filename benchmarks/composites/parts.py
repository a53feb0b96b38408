"""Divides a file's photographs into parts that share none, each with as many of the
classes as can be.
"""

from __future__ import annotations

from typing import Any

from halfmask.coco.file import CocoFile
from halfmask.coco.supervision import MaskState
from halfmask.errors import InputError

WORTHWHILE = 32
"""Pixels of a box's longer side from which a masked object counts here. Fixed: parts
must not change with the size of the pictures.
"""


def parse_part(text: str) -> tuple[int, int]:
    """(k, n) of "k/n": part k of n, counted from 0.

    Raises:
        InputError: no such part.
    """
    first, slash, second = text.partition("/")
    if slash and first.isdecimal() and second.isdecimal() and int(first) < int(second):
        return int(first), int(second)
    raise InputError(
        f"--part {text}: expected K/N, part K of N counted from 0, for example 0/2 and 1/2"
    )


def photographs_of_part(file: CocoFile, part: tuple[int, int]) -> list[dict[str, Any]]:
    """The image records of a part, in file order. The n parts are disjoint, together
    they are the file, whoever asks.

    The rarest class is dealt out first, each of its photographs to the part that has
    the fewest of it: a class with n photographs has one in every part.

    Args:
        part: (k, n), as `parse_part` gives it.
    """
    mine, parts = part
    if parts == 1:
        return list(file.images)
    classes = {image["id"]: _masked_classes(file, image["id"]) for image in file.images}
    photographs: dict[int, list[int]] = {}
    for image_id, present in sorted(classes.items()):
        for category in present:
            photographs.setdefault(category, []).append(image_id)
    dealt: dict[int, int] = {}
    held: list[dict[int, int]] = [{} for _ in range(parts)]
    sizes = [0] * parts
    for category in sorted(photographs, key=lambda c: (len(photographs[c]), c)):
        for image_id in photographs[category]:
            if image_id not in dealt:
                to = min(range(parts), key=lambda p: (held[p].get(category, 0), sizes[p], p))
                _deal(image_id, to, classes[image_id], dealt, held[to], sizes)
    for image_id in sorted(set(classes) - set(dealt)):
        to = min(range(parts), key=lambda p: (sizes[p], p))
        _deal(image_id, to, set(), dealt, held[to], sizes)
    return [image for image in file.images if dealt[image["id"]] == mine]


def _deal(
    image_id: int,
    to: int,
    present: set[int],
    dealt: dict[int, int],
    held: dict[int, int],
    sizes: list[int],
) -> None:
    dealt[image_id] = to
    sizes[to] += 1
    for category in present:
        held[category] = held.get(category, 0) + 1


def _masked_classes(file: CocoFile, image_id: int) -> set[int]:
    rows = zip(file.annotations_of(image_id), file.states_of(image_id), strict=True)
    return {
        a["category_id"]
        for a, state in rows
        if state == MaskState.MASK and max(a["bbox"][2:]) >= WORTHWHILE
    }
