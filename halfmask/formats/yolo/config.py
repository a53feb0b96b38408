"""Reads data.yaml, or the folder that has none: class names, and where the parts lie."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from halfmask.coco.locate import plain_name
from halfmask.errors import InputError
from halfmask.files.regular import read_regular
from halfmask.formats.source_files import (
    PHOTOGRAPHS,
    PhotographIndex,
    is_guessed,
    path_below,
    photographs_in,
    text_lines,
    text_of_bytes,
)
from halfmask.recipes.yaml_text import MOST_BYTES, parse_yaml

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
        written: the same with every value as the text that is written.
        names: class names, by label; "" for a class without a name.
    """

    path: Path | None
    folder: Path
    values: dict[str, Any]
    written: dict[str, Any]
    names: dict[int, str]

    @classmethod
    def read(cls, source: Path) -> YoloConfig:
        """Reads data.yaml, or the class names of a folder without one.

        Raises:
            InputError: nothing there, no YAML, or no class names.
        """
        folder = source if source.is_dir() else source.parent
        path = config_path(source)
        values, written = ({}, {}) if path is None else _values(path)
        has_names = "names" in values
        names = _names(written["names"], source) if has_names else _names_of_file(folder)
        return cls(path=path, folder=folder, values=values, written=written, names=names)

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
        base = self.folder / self._path
        return base if base.is_dir() else self.folder

    @property
    def _path(self) -> str:
        return plain_name(str(self.written["path"])) if self.values.get("path") else "."

    @property
    def named(self) -> dict[str, list[str]]:
        """Part of the data set → its folders and lists in data.yaml."""
        found = {key: self.written[key] for key in SPLITS if self.values.get(key)}
        return {
            key: [str(entry) for entry in (value if isinstance(value, list) else [value])]
            for key, value in found.items()
        }

    def faults(self) -> Iterator[tuple[str, str]]:
        """Yields what data.yaml says twice or against itself: a sentence and a place."""
        count, names = self.written.get("nc"), len(self.names)
        if isinstance(count, str) and count.strip() != str(names):
            yield "counts of classes (nc) that are not the number of names", f"nc: {count}"
        twice = [name for name, times in Counter(self.names.values()).items() if times > 1]
        file = self.path if "names" in self.values else names_path(self.folder)
        if file is not None and is_guessed(file):
            yield "files of class names that are not Unicode: read as Windows-1252", str(file)
        for name in filter(None, twice):
            yield "class names used twice: kept as two classes", name

    def is_there(self, entry: str) -> bool:
        """Whether `find` finds the folder or list of an entry."""
        return self.find(entry) is not None

    def find(self, entry: str) -> Path | None:
        """Returns the folder or list of an entry; None if it is not there.

        Exports write `../train` for `train`, and paths of the machine that they come
        from: of such a path the longest end counts that is there, below the folder of
        data.yaml.
        """
        plain = plain_name(entry)
        tries = [self.base / plain, self.folder / plain.removeprefix("../")]
        found = next((place for place in tries if place.exists()), None)
        return self.tail(entry) if found is None else found

    def tail(self, entry: str) -> Path | None:
        """Returns what the longest end of a path leads to below the folder of data.yaml."""
        full = PurePosixPath(self._path) / plain_name(entry)
        parts = [part for part in full.parts if part not in ("/", "..", ".")]
        ends = (parts[k:] for k in range(len(parts)))
        tries = (path_below(self.folder, end) for end in ends)
        return next((place for place in tries if place is not None), None)

    def is_tail(self, entry: str) -> bool:
        """Whether an entry is found by its end only."""
        plain = plain_name(entry)
        tries = [self.base / plain, self.folder / plain.removeprefix("../")]
        return not any(place.exists() for place in tries)

    def place(self, entry: str) -> Path:
        """Returns the folder or list of an entry.

        Raises:
            InputError: there is none.
        """
        found = self.find(entry)
        if found is None:
            raise InputError(
                f"{self.base / plain_name(entry)}: data.yaml names it, there is no such folder "
                f"or list, and nothing below {self.folder} that ends like it; name the "
                "photographs with --images"
            )
        return found

    def photographs_at(self, place: Path) -> Iterator[Path]:
        """Yields the photographs of a folder, or those that a list names.

        Lines that lead nowhere are looked for by their end below the folder of
        data.yaml.
        """
        if place.is_dir():
            yield from photographs_in(place)
            return
        index, lines = None, text_lines(place)
        odd = next((k for k, line in enumerate(lines, 1) if not _is_name(line)), None)
        if odd is not None:  # any file of the machine may be named as a list: it is not shown
            raise InputError(
                f"{place}: expected a list of photographs, one a line; line {odd} does not end "
                "like a photograph (.jpg, .png, …)"
            )
        for line in map(plain_name, lines):
            tries = [place.parent / line, self.base / line]
            found = next((path for path in tries if path.is_file()), None)
            if found is None:
                index = index or PhotographIndex(self.folder)
                name = index.find(line)
                found = tries[0] if name is None else self.folder / name
            yield found


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


def _is_name(line: str) -> bool:
    return Path(line).suffix.lower() in PHOTOGRAPHS | _RARE


def _values(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The content of a YAML file: as YAML means it, and as it is written."""
    try:
        text = text_of_bytes(read_regular(path, MOST_BYTES)).removeprefix("\ufeff")
    except OSError as error:
        raise InputError(
            f"{path}: expected YAML, cannot read it: {error.strerror or error}"
        ) from error
    values, written = parse_yaml(text, str(path)), parse_yaml(text, str(path), as_written=True)
    if not isinstance(values, dict):
        raise InputError(
            f"{path}: expected keys and values (names, train, val), found {type(values).__name__}"
        )
    return values, written


def _names(names: object, source: Path) -> dict[int, str]:
    rows = dict(enumerate(names)) if isinstance(names, list) else names
    if isinstance(rows, dict):
        rows = {
            int(k) if re.fullmatch("[0-9]{1,9}", str(k)) else k: str(v).strip()
            for k, v in rows.items()
        }
        if all(type(k) is int for k in rows) and any(rows.values()):
            return dict(sorted(rows.items()))
    raise InputError(f"{source}: names: expected class names, as a list or as number: name")


def _names_of_file(folder: Path) -> dict[int, str]:
    path = names_path(folder)
    if path is None:
        raise InputError(
            f"{folder}: expected class names: a data.yaml with names, or a classes.txt"
        )
    return _names(text_lines(path, blank=True), path)
