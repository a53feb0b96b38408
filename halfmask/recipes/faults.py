"""What is wrong with a recipe, in one line; a mistyped key comes with the nearest valid ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

NEAREST = 3
"""Keys of the same section that a message names."""
KeyPath = tuple[str | int, ...]


def fault_of(error: ValidationError, schema: type[BaseModel]) -> str:
    """Returns the most telling fault of a document as `key: what is wrong`.

    A fault of the document as a whole has no key. An unknown key comes first: it often
    is the reason why another one is missing.
    """
    faults = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    first, others = faults[0], len(faults) - 1
    path, words = first["loc"], first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        words = f"unknown key; {nearest_keys(schema, path)}"
    elif first["type"] == "union_tag_not_found":
        kinds = ", ".join(tag for tag, _ in _tags(_at(schema, path)))
        words = f"the key `kind` is missing; it is one of: {kinds}"
    more = f" ({others} more)" if others else ""
    key = ".".join(map(str, written_path(schema, path)))
    return f"{key}: {words}{more}" if key else f"{words}{more}"


def nearest_keys(schema: type[BaseModel], path: KeyPath) -> str:
    """Names the valid keys that are nearest to the unknown key at the end of a path.

    Keys of the same section come first, then this key in other sections. If there are
    none, all keys of the section are named.
    """
    *parents, last = path
    for tag, kind in _tags(_at(schema, parents[:-1])):
        if last in kind.model_fields:
            return f"it is a key of `kind: {tag}`"
    here = _keys(_at(schema, parents))
    names = difflib.get_close_matches(str(last), here, n=NEAREST, cutoff=0.65)
    names += [key for key in _paths_to(str(last), [schema]) if key not in names]
    if names:
        is_or_are = "is" if len(names) == 1 else "are"
        return f"the nearest {is_or_are}: {', '.join(names[: NEAREST + 1])}"
    return f"the keys here are: {', '.join(here) or 'none'}"


def override_of(fault: str, overrides: Sequence[str]) -> str | None:
    """Returns the override that a fault comes from, if it comes from one."""
    faulty = f"{fault.partition(':')[0]}."
    for text in reversed(overrides):
        key = f"{text.partition('=')[0]}."
        if key.startswith(faulty) or faulty.startswith(key):
            return text
    return None


def written_path(schema: type[BaseModel], path: KeyPath) -> list[str | int]:
    """Returns a path of pydantic's as the file has it: without the names of union members."""
    out: list[str | int] = []
    for i, part in enumerate(path):
        kinds = _at(schema, path[:i])
        if isinstance(part, int) or part not in dict(_tags(kinds)) or part in _keys(kinds):
            out.append(part)
    return out


def _keys(kinds: Sequence[Any]) -> list[str]:
    return list(dict.fromkeys(name for kind in kinds for name in kind.model_fields))


def _at(schema: type[BaseModel], path: Sequence[str | int]) -> list[type[BaseModel]]:
    """Returns the sections that may stand at a path; several if the path leaves it open."""
    kinds = [schema]
    for part in path:
        if isinstance(part, int):  # the item of a list, whose sections are known already
            continue
        fields = [kind.model_fields[part] for kind in kinds if part in kind.model_fields]
        if fields:
            kinds = [kind for field in fields for kind in _sections(field.annotation)]
        else:
            kinds = [kind for tag, kind in _tags(kinds) if tag == part]
    return kinds


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """Finds the sections in a type, for example in `list[Stage]` or `Data | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _sections(inner)


def _tags(kinds: Sequence[type[BaseModel]]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Returns the value of `kind` that belongs to each section."""
    for kind in kinds:
        field = kind.model_fields.get("kind")
        if field is not None and get_origin(field.annotation) is Literal:
            yield from ((str(tag), kind) for tag in get_args(field.annotation))


def _paths_to(key: str, kinds: Sequence[type[BaseModel]], start: str = "") -> Iterator[str]:
    """Finds a key in all sections, nearest to the top first; 0 stands for each list item."""
    below = []
    for kind in kinds:
        for name, field in kind.model_fields.items():
            if name == key:
                yield start + name
            inner = list(_sections(field.annotation))
            is_list = get_origin(field.annotation) is list
            below.append((inner, f"{start}{name}.{'0.' if is_list else ''}"))
    for inner, place in below:
        if inner:
            yield from _paths_to(key, inner, place)
