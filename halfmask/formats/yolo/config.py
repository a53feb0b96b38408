"""Reads data.yaml, or the folder that has none: class names, and where the parts lie."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halfmask.errors import InputError
from halfmask.formats.source_files import PHOTOGRAPHS, photographs_in, text_lines
from halfmask.recipes.yaml_text import read_yaml

SPLITS = ("train", "val", "test")
CONFIGS = ("data.yaml", "data.yml", "dataset.yaml")
_RARE = {".gif", ".ppm", ".pgm", ".pnm", ".jfif", ".jpe"}
NAME_FILES = ("classes.txt", "labels/classes.txt", "obj.names")


@dataclass(frozen=True, kw_only=True)
class YoloConfig:
    """What a data set says about itself.

    Attributes:
        path: data.yaml; None if the folder has none.
        folder: the folder of data.yaml.
        values: the content of data.yaml.
        names: class names, by label.
    """

    path: Path | None
    folder: Path
    values: dict[str, Any]
    names: dict[int, str]

    @classmethod
    def read(cls, source: Path) -> YoloConfig:
        """Reads data.yaml, or the class names of a folder without one.

        Raises:
            InputError: nothing there, no YAML, or no class names.
        """
        folder = source if source.is_dir() else source.parent
        path = config_path(source)
        values = {} if path is None else _values(path)
        has_names = "names" in values
        names = _names(values["names"], source) if has_names else _names_of_file(folder)
        return cls(path=path, folder=folder, values=values, names=names)

    @property
    def keypoint_values(self) -> int:
        """Count of the numbers that `kpt_shape` means; 0 without one."""
        shape = self.values.get("kpt_shape")
        if not isinstance(shape, list) or len(shape) != 2:
            return 0
        ok = all(type(v) is int and 0 < v < 10_000 for v in shape)
        return int(shape[0] * shape[1]) if ok else 0

    @property
    def base(self) -> Path:
        """The folder of `path` in data.yaml, else the folder of data.yaml."""
        base = self.folder / str(self.values.get("path") or ".")
        return base if base.is_dir() else self.folder

    @property
    def named(self) -> dict[str, list[str]]:
        """Part of the data set → its folders and lists in data.yaml."""
        found = {key: self.values[key] for key in SPLITS if self.values.get(key)}
        return {
            key: [str(entry) for entry in (value if isinstance(value, list) else [value])]
            for key, value in found.items()
        }

    def tries(self, entry: str) -> list[Path]:
        """Where a folder or list may lie; some exports write `../train` for `train`."""
        return [self.base / entry, self.folder / entry.removeprefix("../")]

    def place(self, entry: str) -> Path:
        """Returns the folder or list of an entry.

        Raises:
            InputError: there is none.
        """
        tries = self.tries(entry)
        found = next((place for place in tries if place.exists()), None)
        if found is None:
            raise InputError(
                f"{tries[0]}: data.yaml names it, there is no such folder or list; name the "
                "photographs with --images"
            )
        return found


def config_path(source: Path) -> Path | None:
    """Returns the data.yaml of a folder, or the file itself; None without one.

    Raises:
        InputError: there is no such file or folder.
    """
    files = [source] if source.is_file() else [source / name for name in CONFIGS]
    path = next((f for f in files if f.is_file()), None)
    if path is None and not source.is_dir():
        raise InputError(f"{source}: expected a YOLO folder or its data.yaml, there is neither")
    return path


def names_path(folder: Path) -> Path | None:
    """Returns the file of class names in a folder without data.yaml; None without one."""
    return next((folder / name for name in NAME_FILES if (folder / name).is_file()), None)


def photographs_at(place: Path) -> Iterator[Path]:
    """Yields the photographs of a folder, or those that a list names."""
    if place.is_dir():
        return photographs_in(place)
    lines = text_lines(place)
    odd = next((k for k, line in enumerate(lines, 1) if not _is_name(line)), None)
    if odd is not None:  # any file of the machine may be named as a list: its text is not shown
        raise InputError(
            f"{place}: expected a list of photographs, one a line; line {odd} does not end like "
            "a photograph (.jpg, .png, …)"
        )
    return (place.parent / line for line in lines)


def _is_name(line: str) -> bool:
    return Path(line).suffix.lower() in PHOTOGRAPHS | _RARE


def _values(path: Path) -> dict[str, Any]:
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise InputError(
            f"{path}: expected keys and values (names, train, val), found {type(values).__name__}"
        )
    return values


def _names(names: object, source: Path) -> dict[int, str]:
    rows = dict(enumerate(names)) if isinstance(names, list) else names
    if isinstance(rows, dict):
        rows = {
            int(k) if re.fullmatch("[0-9]{1,9}", str(k)) else k: str(v) for k, v in rows.items()
        }
        if all(type(k) is int for k in rows) and rows and len(set(rows.values())) == len(rows):
            return dict(sorted(rows.items()))
    raise InputError(
        f"{source}: names: expected class names, each once, as a list or as number: name"
    )


def _names_of_file(folder: Path) -> dict[int, str]:
    path = names_path(folder)
    if path is None:
        raise InputError(
            f"{folder}: expected class names: a data.yaml with names, or a classes.txt"
        )
    return _names(text_lines(path), path)
