"""Where the files of a YOLO data set go: as in the one they come from, else by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from halfmask.formats.export_source import ExportSource
from halfmask.formats.origin import origin_of
from halfmask.formats.yolo.config import SPLITS

IMAGES, LABELS = "images", "labels"
_PARTS = {"valid": "val", "validation": "val"}
"""Other names of parts → YOLO's."""


@dataclass(frozen=True, kw_only=True)
class YoloLayout:
    """The folders of a data set to write.

    Attributes:
        parts: part → its folders or lists, as data.yaml names them.
        keeps_names: whether file names begin at the data set's own folder.
        is_yolo: whether the file was read from a YOLO data set.
        more: further keys of data.yaml.
        numbers: label → class number.
        folders: folders at the beginning of file names that the layout writes itself.
    """

    parts: dict[str, list[str]]
    keeps_names: bool
    is_yolo: bool
    more: dict[str, Any] = field(default_factory=dict)
    numbers: list[int]
    folders: frozenset[str] = frozenset()

    @classmethod
    def of(cls, given: ExportSource) -> YoloLayout:
        """Returns the layout that a COCO file notes, else one folder for each part.

        Args:
            given: the file, with the classes to write and the names of its photographs.
        """
        category_ids, names = given.classes.ids, given.names
        origin = origin_of(given.document.get("info"))
        is_yolo = origin.get("format") == "yolo" and min(category_ids, default=1) > 0
        layout = origin.get("layout") if is_yolo else None
        numbers = [i - 1 for i in category_ids] if is_yolo else [*range(len(category_ids))]
        if isinstance(layout, dict) and isinstance(layout.get("parts"), dict):
            parts = {str(key): [*map(str, value)] for key, value in layout["parts"].items()}
            more = layout.get("more")
            more = more if isinstance(more, dict) else {}
            return cls(parts=parts, keeps_names=True, is_yolo=True, more=more, numbers=numbers)
        placed = [(part_of(i), name) for i, name in zip(given.file.images, names, strict=True)]
        splits = [split for split in SPLITS if split in {part for part, _ in placed}]
        return cls(
            parts={split: [f"{IMAGES}/{split}"] for split in splits},
            keeps_names=False,
            is_yolo=is_yolo,
            numbers=numbers,
            folders=_common_folders(placed, splits),
        )

    def photograph(self, name: str, split: object) -> PurePosixPath:
        """Returns where the photograph of an image goes, below the data set's folder."""
        place = PurePosixPath(name.replace("\\", "/"))
        if self.keeps_names:
            return place
        below = self._without(IMAGES, place)
        if not self.parts:
            return IMAGES / below
        part = str(split) if split in self.parts else next(iter(self.parts))
        return PurePosixPath(IMAGES) / part / self._without(part, below)

    def _without(self, folder: str, place: PurePosixPath) -> PurePosixPath:
        own = folder in self.folders and place.is_relative_to(folder)
        return place.relative_to(folder) if own else place

    @property
    def absent(self) -> list[str]:
        """The parts that Ultralytics needs and that no image is in."""
        needs = bool(self.parts) and not self.keeps_names
        return [part for part in ("train", "val") if needs and part not in self.parts]

    def config(self, names: Sequence[str]) -> dict[str, Any]:
        """Returns data.yaml.

        It has no `path`: readers take the file's own folder. A data set without
        the part val names the images of train there, as Ultralytics needs the key.
        """
        parts = self.parts or {"train": [IMAGES], "val": [IMAGES]}
        if self.absent == ["val"]:
            parts = {**parts, "val": parts["train"]}
        places = {key: value[0] if len(value) == 1 else value for key, value in parts.items()}
        numbered = dict(zip(self.numbers, names, strict=True))
        return {**places, **self.more, "names": numbered}

    def lists(self, placed: Sequence[tuple[PurePosixPath, object]]) -> dict[str, list[str]]:
        """Returns the content of the parts that are lists: file → photographs.

        Args:
            placed: each photograph and its part.
        """
        wanted: dict[str, set[object]] = {}
        for part, entries in self.parts.items():
            for entry in entries:
                if PurePosixPath(entry).suffix == ".txt":
                    wanted.setdefault(entry, {None}).add(part)
        return {
            entry: [f"./{place}" for place, split in placed if split in parts]
            for entry, parts in wanted.items()
        }


def part_of(image: dict[str, Any]) -> str | None:
    """Returns the part of an image record: train, val, test; another name as it is."""
    split = image.get("split")
    return _PARTS.get(split, split) if isinstance(split, str) else None


def _common_folders(placed: Sequence[tuple[str | None, str]], splits: list[str]) -> frozenset[str]:
    """The folder `images`, and those of the parts, if all names begin with them.

    Only then are they not repeated: `a.jpg` and `images/a.jpg` stay two files.
    """
    first = splits[0] if splits else None
    names = [(part if part in splits else first, name) for part, name in placed]
    folders = set()
    if all(name.startswith(f"{IMAGES}/") for _, name in names):
        folders.add(IMAGES)
        names = [(part, name.removeprefix(f"{IMAGES}/")) for part, name in names]
    for split in splits:
        if all(name.startswith(f"{split}/") for part, name in names if part == split):
            folders.add(split)
    return frozenset(folders)


def label_place(photograph: PurePosixPath) -> PurePosixPath:
    """Returns where a photograph's labels go: the last folder `images` becomes `labels`."""
    parts = list(photograph.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == IMAGES:
            parts[i] = LABELS
            break
    return PurePosixPath(*parts).with_suffix(".txt")
