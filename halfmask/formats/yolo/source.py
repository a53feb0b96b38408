"""Finds the files of a YOLO data set: class names, photographs, label files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from halfmask.errors import InputError
from halfmask.formats.source_files import photographs_in, text_lines

SPLITS = ("train", "val", "test")
_NAME_FILES = ("classes.txt", "labels/classes.txt", "obj.names")
_CONFIGS = ("data.yaml", "data.yml", "dataset.yaml")


@dataclass(frozen=True, kw_only=True)
class YoloSource:
    """One part of a data set.

    Attributes:
        names: class names, by label.
        root: the folder that file names are relative to.
        photographs: sorted.
        labels: folder of the label files; None if the photograph's path determines it.
        keypoint_values: count of the numbers after the box in rows with keypoints.
    """

    names: dict[int, str]
    root: Path
    photographs: list[Path] = field(repr=False)
    labels: Path | None = None
    keypoint_values: int = 0

    def label_file(self, photograph: Path) -> Path:
        """Returns the label file of a photograph.

        Without `labels`, the folder `images` in its path becomes `labels`; a path
        without `images` has the label file beside the photograph.
        """
        if self.labels is not None:
            return self.labels / photograph.relative_to(self.root).with_suffix(".txt")
        parts = list(photograph.parts)
        for i in range(len(parts) - 2, -1, -1):
            if parts[i] == "images":
                return Path(*parts[:i], "labels", *parts[i + 1 :]).with_suffix(".txt")
        return photograph.with_suffix(".txt")


def find_source(source: Path, images: Path | None, split: str | None) -> YoloSource:
    """Finds the files of a data set in its folder or beside its data.yaml.

    Args:
        source: the folder or the file.
        images: folder of the photographs; by default the one in data.yaml, else
            `images` in the folder, else the folder.
        split: train, val or test of data.yaml; needed if it names several.
    Raises:
        InputError: nothing there, no class names, no photographs, or several splits and
            none chosen.
    """
    folder = source if source.is_dir() else source.parent
    config = _config(source)
    names = _names(config["names"], source) if "names" in config else _names_of_file(folder)
    keypoints = _keypoint_values(config.get("kpt_shape"))
    named = {key: config[key] for key in SPLITS if config.get(key)}
    if images is not None or (not named and split is None):
        root = images or (folder / "images" if (folder / "images").is_dir() else folder)
        below = folder / "labels" if (folder / "labels").is_dir() else folder
        photographs, place = sorted(photographs_in(root)), root
        labels = below / split if split and (below / split).is_dir() else below
    else:
        base = _base(folder, config)
        entries = _as_list(named[_chosen(named, split, source)])
        places = [_place(base, folder, str(entry)) for entry in entries]
        root = places[0] if len(places) == 1 and places[0].is_dir() else base
        photographs = sorted({p for place in places for p in _photographs_of(place)})
        place, labels = places[0], None
    if not photographs:
        raise InputError(
            f"{place}: expected photographs, found none; YOLO labels need their sizes: name "
            "the folder with --images"
        )
    return YoloSource(
        names=names, root=root, photographs=photographs, labels=labels, keypoint_values=keypoints
    )


def _chosen(named: dict[str, Any], split: str | None, source: Path) -> str:
    if split is None and len({str(entry) for entry in named.values()}) > 1:
        raise InputError(
            f"{source}: has several parts ({', '.join(named)}); choose one: --split "
            f"{next(iter(named))}"
        )
    chosen = split or next(iter(named))
    if chosen not in named:
        raise InputError(f"{source}: has no part {chosen}; there is: {', '.join(named) or 'none'}")
    return chosen


def _config(source: Path) -> dict[str, Any]:
    files = [source] if source.is_file() else [source / name for name in _CONFIGS]
    path = next((f for f in files if f.is_file()), None)
    if path is None:
        if not source.is_dir():
            raise InputError(f"{source}: expected a YOLO folder or its data.yaml, there is neither")
        return {}
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError, RecursionError) as error:
        raise InputError(f"{path}: expected YAML: {' '.join(str(error).split())[:120]}") from error
    if not isinstance(config, dict):
        raise InputError(
            f"{path}: expected keys and values (names, train, val), found {type(config).__name__}"
        )
    return config


def _names(names: object, source: Path) -> dict[int, str]:
    rows = dict(enumerate(names)) if isinstance(names, list) else names
    if isinstance(rows, dict):
        rows = {int(k) if str(k).isdecimal() else k: str(v) for k, v in rows.items()}
        if all(type(k) is int for k in rows) and rows and len(set(rows.values())) == len(rows):
            return dict(sorted(rows.items()))
    raise InputError(
        f"{source}: names: expected class names, each once, as a list or as number: name"
    )


def _names_of_file(folder: Path) -> dict[int, str]:
    path = next((folder / name for name in _NAME_FILES if (folder / name).is_file()), None)
    if path is None:
        raise InputError(
            f"{folder}: expected class names: a data.yaml with names, or a classes.txt"
        )
    return _names(text_lines(path), path)


def _keypoint_values(shape: object) -> int:
    if not isinstance(shape, list) or len(shape) != 2:
        return 0
    ok = all(type(v) is int and 0 < v < 10_000 for v in shape)
    return int(shape[0] * shape[1]) if ok else 0


def _base(folder: Path, config: dict[str, Any]) -> Path:
    """The folder of `path` in data.yaml, else the folder of data.yaml."""
    base = folder / str(config.get("path") or ".")
    return base if base.is_dir() else folder


def _place(base: Path, folder: Path, entry: str) -> Path:
    """A split's folder or list. Some exports write `../train/images` for `train/images`."""
    tries = [base / entry, folder / entry.removeprefix("../")]
    found = next((place for place in tries if place.exists()), None)
    if found is None:
        raise InputError(
            f"{tries[0]}: data.yaml names it, there is no such folder or list; name the "
            "photographs with --images"
        )
    return found


def _photographs_of(place: Path) -> Iterator[Path]:
    if place.is_dir():
        return photographs_in(place)
    return (place.parent / line for line in text_lines(place))


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]
