"""Finds what belongs to a YOLO data set: class names, photographs, label files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from halfmask.errors import InputError

SPLITS = ("train", "val", "test")
PHOTOGRAPHS = {
    ".jpg",
    ".jpeg",
    ".png",
    ".bmp",
    ".webp",
    ".tif",
    ".tiff",
    ".mpo",
    ".dng",
    ".pfm",
    ".heic",
    ".avif",
}
_NAME_FILES = ("classes.txt", "labels/classes.txt", "obj.names")


@dataclass(frozen=True)
class YoloSource:
    """One part of a data set.

    Attributes:
        names: class names, by label.
        root: the folder that file names are relative to.
        photographs: sorted.
        labels: folder of the label files where it is not told from the photograph's
            path.
        keypoint_values: numbers after the box in rows with keypoints.
    """

    names: dict[int, str]
    root: Path
    photographs: list[Path] = field(repr=False)
    labels: Path | None = None
    keypoint_values: int = 0

    def label_file(self, photograph: Path) -> Path:
        """Where the labels of a photograph are: `images` in its path reads `labels`;
        else beside it.
        """
        if self.labels is not None:
            return self.labels / photograph.relative_to(self.root).with_suffix(".txt")
        parts = list(photograph.parts)
        for i in range(len(parts) - 2, -1, -1):
            if parts[i] == "images":
                return Path(*parts[:i], "labels", *parts[i + 1 :]).with_suffix(".txt")
        return photograph.with_suffix(".txt")


def find_source(source: Path, images: Path | None, split: str | None) -> YoloSource:
    """Looks through a data set's folder, or beside its data.yaml.

    Args:
        source: the folder or the file.
        images: folder of the photographs; by default where data.yaml says, or `images`
            in the folder, or the folder.
        split: train, val or test of data.yaml; needed where it names several.
    Raises:
        InputError: nothing there, no class names, no photographs, or several splits and
            none named.
    """
    folder = source if source.is_dir() else source.parent
    config = _config(source)
    names = _names(config.get("names"), source) if "names" in config else _names_of_file(folder)
    named = {key: config[key] for key in SPLITS if config.get(key)}
    keypoints = _keypoint_values(config.get("kpt_shape"))
    if images is not None or (not named and split is None):
        root = images or (folder / "images" if (folder / "images").is_dir() else folder)
        below = folder / "labels" if (folder / "labels").is_dir() else folder
        photographs = sorted(_photographs_in(root))
        labels = below / split if split and (below / split).is_dir() else below
        return YoloSource(names, root, _some(photographs, root), labels, keypoints)
    if split is None and len({str(entry) for entry in named.values()}) > 1:
        raise InputError(
            f"{source}: has several parts ({', '.join(named)}); choose one: --split "
            f"{next(iter(named))}"
        )
    chosen = split or next(iter(named))
    if chosen not in named:
        raise InputError(f"{source}: has no part {chosen}; there is: {', '.join(named) or 'none'}")
    base = _base(folder, config)
    places = [_place(base, folder, str(entry)) for entry in _as_list(named[chosen])]
    root = places[0] if len(places) == 1 and places[0].is_dir() else base
    photographs = sorted({p for place in places for p in _photographs_of(place)})
    return YoloSource(names, root, _some(photographs, places[0]), None, keypoints)


def _some(photographs: list[Path], place: Path) -> list[Path]:
    if not photographs:
        raise InputError(
            f"{place}: expected photographs, found none; YOLO labels need their sizes: name "
            "the folder with --images"
        )
    return photographs


def _config(source: Path) -> dict[str, Any]:
    files = (
        [source]
        if source.is_file()
        else [source / name for name in ("data.yaml", "data.yml", "dataset.yaml")]
    )
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
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return _names([line.strip() for line in lines if line.strip()], path)


def _keypoint_values(shape: object) -> int:
    if (
        isinstance(shape, list)
        and len(shape) == 2
        and all(type(v) is int and 0 < v < 10_000 for v in shape)
    ):
        return int(shape[0] * shape[1])
    return 0


def _base(folder: Path, config: dict[str, Any]) -> Path:
    """The folder that `path` names: beside data.yaml, or wherever it says; where it is
    not there, data.yaml's own.
    """
    base = folder / str(config.get("path") or ".")
    return base if base.is_dir() else folder


def _place(base: Path, folder: Path, entry: str) -> Path:
    """A split's folder or list. Some exports write `../train/images` and mean `train/images`."""
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
        yield from _photographs_in(place)
        return
    for line in place.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.strip():
            yield place.parent / line.strip()


def _photographs_in(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise InputError(
            f"{folder}: expected the folder of the photographs, there is no such folder"
        )
    return (p for p in folder.rglob("*") if p.suffix.lower() in PHOTOGRAPHS and p.is_file())


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]
