"""What a large COCO file holds beside the items of its long lists."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from halfmask.coco.problems import Problem
from halfmask.coco.scan.batch import MIB
from halfmask.coco.scan.keys import ListKeys, read_bytes, repeated_key
from halfmask.errors import InputError

MOST_REST = 256 * MIB
"""Bytes of a file beside its long lists that are read into memory."""
_MARK = "items of a list that halfmask reads apart"

Span = tuple[int, int]


def document_without(path: Path, items: Sequence[Span]) -> dict[str, Any]:
    """Returns a JSON object, its keys in the order of the file, with long lists empty.

    Args:
        path: the file.
        items: first byte and last byte + 1 of the items of each list.
    Raises:
        InputError: the rest of the file is no JSON, or very large.
    """
    document: dict[str, Any] = _parsed(path, _rest(path, items), dict)
    for key, value in document.items():
        if isinstance(value, list):
            document[key] = [item for item in value if not _is_mark(item)]
    return document


def keys_of_file(path: Path, lists: Sequence[ListKeys], constants: set[str]) -> list[Problem]:
    """Returns the findings about keys that objects of a file have twice, in file order.

    Args:
        path: the file.
        lists: which have looked at all items of its long lists.
        constants: receives NaN, Infinity and -Infinity if the rest of the file has
            them.
    Raises:
        InputError: the rest of the file is no JSON, or very large.
    """
    long = [(one.first, one.last) for one in lists]
    items = [(first, last) for first, last in long if first is not None and last is not None]
    of_start = {one.first: one.found for one in lists}
    found: list[Problem] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        if len(pairs) == 1 and pairs[0][0] == _MARK:
            found.extend(of_start[pairs[0][1]])
            return
        problem = repeated_key(pairs)
        found.extend([] if problem is None else [problem])

    _parsed(path, _rest(path, items), look, constants=constants)
    return found


def _rest(path: Path, items: Sequence[Span]) -> bytes:
    """Returns the text of a file with one mark in place of the items of each list."""
    pieces, at = [], 0
    size = path.stat().st_size
    if size - sum(end - start for start, end in items) > MOST_REST:
        raise InputError(
            f"{path}: more than {MOST_REST // MIB} MiB beside images and annotations, which "
            "halfmask reads into memory; remove the keys that COCO does not have"
        )
    for start, end in sorted(items):
        pieces += [read_bytes(path, at, start), json.dumps({_MARK: start}).encode()]
        at = end
    return b"".join([*pieces, read_bytes(path, at, size)])


def _is_mark(item: object) -> bool:
    return isinstance(item, Mapping) and list(item) == [_MARK]


def _parsed(
    path: Path,
    text: bytes,
    pairs: Callable[[list[tuple[str, Any]]], Any],
    *,
    constants: set[str] | None = None,
) -> Any:
    def constant(literal: str) -> float:
        if constants is not None:
            constants.add(literal)
        return float(literal)

    try:
        return json.loads(
            text.decode("utf-8-sig"), parse_constant=constant, object_pairs_hook=pairs
        )
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: expected a COCO JSON file, found something else: "
            f"{str(error).split(';')[0]}, beside its images and annotations"
        ) from error
