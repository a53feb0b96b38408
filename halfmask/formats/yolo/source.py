"""Finds the files of a YOLO data set: class names, photographs, label files."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from halfmask.errors import InputError
from halfmask.formats.source_files import PART_FOLDERS, photographs_in
from halfmask.formats.yolo.config import YoloConfig
from halfmask.formats.yolo.labels import LabelFiles

ALL = "all"
"""The `split` that stands for all parts in one file."""
_NOT_KEPT = {"path", "names", "train", "val", "test", "kpt_shape", "flip_idx", "download"}
"""Keys of data.yaml that a writer does not repeat."""


@dataclass(frozen=True, kw_only=True)
class YoloSource:
    """One part of a data set, or all of it.

    Attributes:
        config: what the data set says about itself.
        root: the folder that file names are relative to.
        photographs: sorted.
        labels: their label files.
        split_of: photograph → its part; empty if the data set has no parts.
        layout: what a writer needs to write the same folders again.
        absent: parts that data.yaml names and that are not there.
        shared: photographs that are in several parts.
    """

    config: YoloConfig
    root: Path
    photographs: list[Path] = field(repr=False)
    labels: LabelFiles
    split_of: dict[Path, str] = field(default_factory=dict, repr=False)
    layout: dict[str, Any] = field(default_factory=dict, repr=False)
    absent: tuple[str, ...] = ()
    shared: tuple[Path, ...] = ()

    @property
    def tails(self) -> list[str]:
        """The paths in data.yaml that are found by their end only, and what they lead to."""
        entries = {entry for entries in self.config.named.values() for entry in entries}
        return [
            f"{entry} → {found}"
            for entry in sorted(entries)
            if self.config.is_tail(entry) and (found := self.config.find(entry)) is not None
        ]


def find_source(source: Path, images: Path | None, split: str | None) -> YoloSource:
    """Finds the files of a part in its folder or beside its data.yaml.

    Args:
        source: the folder or the file.
        images: folder of the photographs; by default the one in data.yaml, else
            `images` in the folder, else the folder.
        split: train, val or test of data.yaml; needed if it names several.
    Raises:
        InputError: nothing there, no class names, no photographs, or several splits and
            none chosen.
    """
    config = YoloConfig.read(source)
    labels: Path | None
    if images is not None or (not config.named and split is None):
        root, labels = _root_and_labels(config.folder, images)
        photographs, place = sorted(photographs_in(root)), root
        labels = labels / split if split and (labels / split).is_dir() else labels
    else:
        _check_distinct(config, source)
        entries = config.named[_chosen(config.named, split, source)]
        places = [config.place(entry) for entry in entries]
        photographs = sorted({p for place in places for p in config.photographs_at(place)})
        place, labels = places[0], None
        _check_found(photographs, place)
        single = len(places) == 1 and place.is_dir()
        root = place if single else _common_root(config.base, photographs)
    _check_found(photographs, place)
    found = LabelFiles.find(photographs, root=root, labels=labels, folder=config.folder)
    return YoloSource(config=config, root=root, photographs=photographs, labels=found)


def find_parts(source: Path, images: Path | None, split: str | None) -> YoloSource:
    """Finds the files of all parts; names are relative to their common folder.

    Args:
        source: the folder or its data.yaml.
        images: as in `find_source`.
        split: only this part; None: all.
    Raises:
        InputError: nothing there, no class names, no photographs, or no such part.
    """
    config = YoloConfig.read(source)
    if images is not None or not config.named:
        found = _parts_by_folder(config, images)
    else:
        _check_distinct(config, source)
        found = _parts_by_config(config)
    if split is None:
        return found
    parts = sorted({*found.split_of.values(), *config.named})
    if split not in parts:
        raise InputError(f"{source}: has no part {split}; there is: {', '.join(parts) or 'none'}")
    chosen = [p for p in found.photographs if found.split_of.get(p) == split]
    _check_found(chosen, config.folder / split)
    return YoloSource(**{**vars(found), "photographs": chosen})


def _parts_by_config(config: YoloConfig) -> YoloSource:
    """The parts that data.yaml names; two with the same folders are one."""
    split_of: dict[Path, str] = {}
    shared: list[Path] = []
    places: dict[str, list[Path]] = {}
    for split, entries in config.named.items():
        if split == "test" and not any(
            map(config.is_there, entries)
        ):  # exports name it even if it is empty
            continue
        places[split] = [config.place(e) for e in entries]
        if places[split] in [places[other] for other in places if other != split]:
            continue
        for place in places[split]:
            found = (Path(os.path.normpath(p)) for p in config.photographs_at(place))
            for photograph in sorted(found) if place.is_dir() else found:
                if split_of.setdefault(photograph, split) != split:
                    shared.append(photograph)
    photographs = list(split_of)
    _check_found(photographs, next(iter(places.values()))[0])
    root = _common_root(config.base, photographs)
    layout = {key: [_below(root, p) for p in found] for key, found in places.items()}
    several = len({tuple(entries) for entries in layout.values()}) > 1
    several |= any(PurePosixPath(e).name == key for key, found in layout.items() for e in found)
    return YoloSource(
        config=config,
        root=root,
        photographs=photographs,
        labels=LabelFiles.find(photographs, root=root, labels=None, folder=config.folder),
        split_of=split_of if several else {},
        layout={"parts": layout, **_kept(config)},
        absent=tuple(sorted({*config.named} - {*places})),
        shared=tuple(shared),
    )


def _parts_by_folder(config: YoloConfig, images: Path | None) -> YoloSource:
    """All photographs of a folder; folders that are called train, val, … are parts."""
    root, below = _root_and_labels(config.folder, images)
    photographs = sorted(photographs_in(root))
    _check_found(photographs, root)
    labels: Path | None = below
    if not any((below / p.relative_to(root)).with_suffix(".txt").is_file() for p in photographs):
        labels = None  # beside the photographs, or in `labels` beside `images`
    elif root == config.folder / "images" and below == config.folder / "labels":
        root, labels = config.folder, None  # names begin with `images`
    parts = _parts_of_folders(root, photographs)
    layout = _kept(config)
    if labels is None and images is None:  # the names begin at the data set's own folder
        several = {part: sorted(set(places.values())) for part, places in parts.items()}
        everything = ["images"] if _all_in_images(root, photographs) else ["."]
        layout["parts"] = several or {"train": everything, "val": everything}
    return YoloSource(
        config=config,
        root=root,
        photographs=photographs,
        labels=LabelFiles.find(photographs, root=root, labels=labels, folder=config.folder),
        split_of={p: part for part, places in parts.items() for p in places},
        layout=layout,
    )


def _parts_of_folders(root: Path, photographs: list[Path]) -> dict[str, dict[Path, str]]:
    """Part → its photographs and the folder of the part, by folders called train, val, …."""
    parts: dict[str, dict[Path, str]] = {}
    for photograph in photographs:
        folders = photograph.relative_to(root).parts[:-1]
        at = next((i for i, name in enumerate(folders) if name in PART_FOLDERS), None)
        if at is None:
            continue
        end = at + 2 if folders[at + 1 : at + 2] == ("images",) else at + 1
        place = PurePosixPath(*folders[:end]).as_posix()
        parts.setdefault(PART_FOLDERS[folders[at]], {})[photograph] = place
    return parts


def _all_in_images(root: Path, photographs: list[Path]) -> bool:
    return all(p.relative_to(root).parts[0] == "images" for p in photographs)


def _root_and_labels(folder: Path, images: Path | None) -> tuple[Path, Path]:
    root = images or (folder / "images" if (folder / "images").is_dir() else folder)
    return root, folder / "labels" if (folder / "labels").is_dir() else folder


def _kept(config: YoloConfig) -> dict[str, Any]:
    """The keys of data.yaml that are plain values."""
    more = {str(k): v for k, v in config.values.items() if k not in _NOT_KEPT}
    return {"more": {k: v for k, v in more.items() if isinstance(v, str | int | float)}}


def _common_root(base: Path, photographs: list[Path]) -> Path:
    """`base` if it holds all photographs, else the nearest folder that does."""
    top = Path(os.path.normpath(base))
    if all(p.is_relative_to(top) for p in photographs):
        return top
    return Path(os.path.commonpath([p.parent.absolute() for p in photographs]))


def _below(root: Path, place: Path) -> str:
    """The name of a folder or list below the root; its last part if it lies elsewhere."""
    top, full = (Path(os.path.normpath(p.absolute())) for p in (root, place))
    inside = full.is_relative_to(top)
    return PurePosixPath(full.relative_to(top) if inside else full.name).as_posix()


def _check_distinct(config: YoloConfig, source: Path) -> None:
    """Raises InputError if paths of other machines end alike and lead to one folder."""
    of: dict[Path, str] = {}
    for entry in (e for entries in config.named.values() for e in entries):
        found = config.find(entry) if config.is_tail(entry) else None
        if found is not None and of.setdefault(found, entry) != entry:
            raise InputError(
                f"{source}: {of[found]} and {entry} are not here, and both would be {found} by "
                "their end; correct these paths, or name the photographs with --images"
            )


def _check_found(photographs: list[Path], place: Path) -> None:
    if not photographs:
        raise InputError(
            f"{place}: expected photographs, found none; YOLO labels need their sizes: name "
            "the folder with --images"
        )


def _chosen(named: dict[str, list[str]], split: str | None, source: Path) -> str:
    if split is None and len({tuple(entries) for entries in named.values()}) > 1:
        raise InputError(
            f"{source}: has several parts ({', '.join(named)}); choose one: --split "
            f"{next(iter(named))}, or --split {ALL} for one file with all"
        )
    chosen = split or next(iter(named))
    if chosen not in named:
        raise InputError(f"{source}: has no part {chosen}; there is: {', '.join(named) or 'none'}")
    return chosen
