"""Reads YAML from unknown sources; no other code of the package calls PyYAML's readers.

PyYAML recurses for each level of nesting, shares what an alias repeats (a writer
expands it again), and its scalars raise whatever Python's `int` or `date` raise.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from halfmask.errors import InputError
from halfmask.files.regular import read_regular

MOST_BYTES = 1 << 20
MOST_VALUES = 50_000
"""Keys and values of a document, those that aliases repeat included."""
MOST_DEPTH = 40
"""Levels of nesting; a recipe has six."""
LONGEST_FAULT = 200
"""Characters of PyYAML's message."""


class _PlainLoader(yaml.SafeLoader):
    """Leaves dates as they are written: a class may be called 2024-13-45."""


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag != "tag:yaml.org,2002:timestamp"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _TextLoader(yaml.SafeLoader):
    """Reads every plain value as the text that is written: yes, 010 and 1e3 are texts."""


_TextLoader.yaml_implicit_resolvers = {"<": [("tag:yaml.org,2002:merge", re.compile(r"^(?:<<)$"))]}


def read_yaml(path: str | Path) -> Any:
    """Returns the value of a YAML file.

    Raises:
        InputError: it is not a regular file that can be read, or as `parse_yaml`.
    """
    try:
        text = read_regular(path, MOST_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise InputError(
            f"{path}: expected YAML, cannot read it: {error.strerror or error}"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: expected YAML: byte {error.start} is not UTF-8; save it as UTF-8"
        ) from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str, *, as_written: bool = False) -> Any:
    """Returns the value of a YAML text: mappings, lists, texts, numbers, truth, None.

    Args:
        text: of one document.
        where: names the text in errors.
        as_written: each plain value is the text that is written.
    Raises:
        InputError: not YAML, nested deeper than `MOST_DEPTH`, more than `MOST_VALUES`
            values, an alias inside what it repeats, or a tag that asks for an object or
            does not fit its value.
    """
    try:
        _check_events(text)
        loader = _TextLoader(text) if as_written else _PlainLoader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except _TooLargeError as error:
        raise InputError(f"{where}: {error}") from error
    except Exception as error:  # the constructors of scalars raise anything
        words = " ".join(str(error).split()).replace('in "<unicode string>", line', "at line")
        words = words[:LONGEST_FAULT] or type(error).__name__
        kind = "" if isinstance(error, yaml.YAMLError) else "a value that does not fit its tag: "
        raise InputError(f"{where}: expected YAML: {kind}{words}") from error


class _TooLargeError(Exception):
    pass


def _check_events(text: str) -> None:
    """Counts values and levels from PyYAML's events, which need no recursion."""
    sizes: dict[str, int] = {}
    pending: list[tuple[str | None, int]] = []
    count = 0
    for event in yaml.parse(text, _PlainLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            pending.append((event.anchor, count))
            if len(pending) > MOST_DEPTH:
                raise _TooLargeError(f"nested deeper than {MOST_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = pending.pop()
            if anchor is not None:
                sizes[anchor] = count - before
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in (anchor for anchor, _ in pending):
                raise _TooLargeError(f"the alias *{event.anchor} stands inside what it repeats")
            count += sizes.get(event.anchor or "", 0)
        count += isinstance(event, yaml.NodeEvent)
        if count > MOST_VALUES:
            raise _TooLargeError(f"more than {MOST_VALUES:,} values, with what aliases repeat")
