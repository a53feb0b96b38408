"""Recipes: one YAML file describes a whole run.

`load_recipe` reads one, and `a.b=c` on the command line overrides a key. The schema is
in `halfmask.recipes.model`, `halfmask.recipes.detector` and `halfmask.recipes.run`.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from halfmask.errors import InputError
from halfmask.recipes import RECIPE_FOLDER, shipped_recipes
from halfmask.recipes.detector import Backbone, Detector, Images
from halfmask.recipes.faults import fault_of, override_of
from halfmask.recipes.model import BoxSegmenterConfig, MaskHead, MaskRCNN, Transfer
from halfmask.recipes.run import Data, Optimiser, Recipe, Stage
from halfmask.recipes.teachers import AVERAGE, Distil, SelfTraining
from halfmask.recipes.yaml_text import parse_yaml, read_yaml

__all__ = [
    "AVERAGE",
    "RECIPE_FOLDER",
    "Backbone",
    "BoxSegmenterConfig",
    "Data",
    "Detector",
    "Distil",
    "Images",
    "MaskHead",
    "MaskRCNN",
    "Optimiser",
    "Recipe",
    "SelfTraining",
    "Stage",
    "Transfer",
    "expand",
    "load_recipe",
    "parse_recipe",
    "shipped_recipes",
]


_VARIABLE = re.compile(r"\$\{?(\w+)")


def expand(path: str) -> Path:
    """Fills `~` and environment variables into a recipe's path.

    HALFMASK_SHARED defaults to ../shared. Where nothing is at the filled path, the
    error shows it as the recipe writes it: a stranger's recipe may name a variable that
    holds a secret.

    Raises:
        InputError: an environment variable is not set, or nothing is there.
    """
    os.environ.setdefault("HALFMASK_SHARED", "../shared")
    filled = os.path.expandvars(path)
    unset = re.search(r"\$(\w+|\{\w+\})", filled)
    if unset:
        name = unset[1].strip("{}")
        raise InputError(
            f"{path}: the environment variable {name} is not set: export {name}=/your/folder, "
            "or name the path itself"
        )
    found = Path(filled).expanduser()
    of_others = set(_VARIABLE.findall(path)) - {"HALFMASK_SHARED"}
    if of_others and not _exists(found):
        raise InputError(
            f"{path}: there is no such file or folder; check the environment variables in it"
        )
    return found


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # no path can have this name
        return False


def load_recipe(source: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Reads a recipe.

    Args:
        source: a file, or a shipped recipe's name.
        overrides: `a.b=value` each. The value is YAML; numbers select list items
            (`stages.0.steps=10`).
    Raises:
        InputError: no such recipe, not YAML, unknown key, wrong type, or an override
            that does not fit.
    """
    path = _file_of(source)
    document = read_yaml(path)
    if not isinstance(document, dict):
        raise InputError(f"{path}: a recipe is a mapping of keys, found {type(document).__name__}")
    for override in overrides or []:
        _override(document, override)
    return parse_recipe(document, str(path), overrides or ())


def _file_of(source: str | Path) -> Path:
    if Path(source).is_file():
        return Path(source)
    shipped = shipped_recipes()
    if str(source) in shipped:
        return shipped[str(source)]
    near = difflib.get_close_matches(str(source), shipped, n=5, cutoff=0.5)
    names = f"they are: {', '.join(shipped) or 'none'}"
    names = f"the nearest are: {', '.join(near)}" if near else names
    raise InputError(
        f"{source}: neither a recipe file nor one of the {len(shipped)} shipped recipes; {names}"
    )


def parse_recipe(document: dict[str, Any], where: str, overrides: Sequence[str] = ()) -> Recipe:
    """Checks a recipe that is already a dictionary.

    Errors name `where`, or the one of `overrides` that the faulty key comes from.
    """
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        fault = fault_of(error, Recipe)
        override = override_of(fault, overrides)
        where = where if override is None else f"override {override!r}"
        raise InputError(f"{where}: {fault}") from error


def _override(document: dict[str, Any], text: str) -> None:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise InputError(f"override {text!r}: expected key=value, for example stages.0.steps=100")
    node: Any = document
    *parents, last = key.split(".")
    for part in parents:
        node = _child(node, part, text)
    index: str | int = _index(node, last, text) if isinstance(node, list) else last
    try:
        node[index] = parse_yaml(value, f"override {text!r}")
    except TypeError as error:
        raise InputError(f"override {text!r}: {'.'.join(parents)} has no keys") from error


def _child(node: Any, part: str, text: str) -> Any:
    if isinstance(node, list):
        return node[_index(node, part, text)]
    if not isinstance(node, dict):
        raise InputError(f"override {text!r}: {part} has no keys")
    if node.get(part) is None:
        node[part] = {}  # a section with defaults only
    return node[part]


def _index(node: list[Any], part: str, text: str) -> int:
    if not part.isdigit() or int(part) >= len(node):
        raise InputError(f"override {text!r}: the list has {len(node)} items, found index {part}")
    return int(part)
