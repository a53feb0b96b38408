"""Finds keys that stand twice in one object of a JSON file: readers keep the last value and say nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from halfmask.coco.problems import Problem, ProblemKind

Pairs = list[tuple[str, Any]]


def duplicate_keys(path: Path) -> list[Problem]:
    """One finding for each object in which a key stands twice, in file order.

    Args:
        path: a file that `CocoFile.read` has read. It is read once more; what is in memory is its text, not its objects.
    """
    found: list[Problem] = []

    def look(pairs: Pairs) -> None:
        if len({key for key, _ in pairs}) < len(pairs):
            found.append(_problem(pairs))

    json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=look)
    return found


def _problem(pairs: Pairs) -> Problem:
    keys = [key for key, _ in pairs]
    twice = next(key for k, key in enumerate(keys) if key in keys[:k])
    values = dict(pairs)
    number = values.get("id")
    kind = "annotation" if "image_id" in values else "image" if "file_name" in values else "object with id"
    where = f"{kind} {number}" if type(number) is int else f"an object with the keys {', '.join(sorted(set(keys))[:4])}"
    times = keys.count(twice)
    message = f"{where}: the key {twice!r} stands {times} times, the last value counts: {str(values[twice])[:40]}"
    return Problem(ProblemKind.DUPLICATE_KEY, (number,) if type(number) is int else (), message)
