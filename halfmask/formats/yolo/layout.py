"""Where the files of a YOLO data set go: as in the one they come from, else by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from halfmask.formats.origin import origin_of
from halfmask.formats.yolo.config import SPLITS

IMAGES, LABELS = "images", "labels"


@dataclass(frozen=True, kw_only=True)
class YoloLayout:
    """The folders of a data set to write.

    Attributes:
        parts: part → its folders or lists, as data.yaml names them.
        keeps_names: whether file names begin at the data set's own folder.
        is_yolo: whether the file was read from a YOLO data set.
        more: further keys of data.yaml.
        numbers: label → class number.
    """

    parts: dict[str, list[str]]
    keeps_names: bool
    is_yolo: bool
    more: dict[str, Any] = field(default_factory=dict)
    numbers: list[int]

    @classmethod
    def of(cls, document: dict[str, Any], category_ids: Sequence[int]) -> YoloLayout:
        """Returns the layout that a COCO document notes, else one folder for each part."""
        origin = origin_of(document.get("info"))
        is_yolo = origin.get("format") == "yolo" and min(category_ids, default=1) > 0
        layout = origin.get("layout") if is_yolo else None
        numbers = [i - 1 for i in category_ids] if is_yolo else [*range(len(category_ids))]
        if isinstance(layout, dict) and isinstance(layout.get("parts"), dict):
            parts = {str(key): [*map(str, value)] for key, value in layout["parts"].items()}
            more = layout.get("more")
            more = more if isinstance(more, dict) else {}
            return cls(parts=parts, keeps_names=True, is_yolo=True, more=more, numbers=numbers)
        found = {i.get("split") for i in document["images"] if isinstance(i, dict)}
        splits = [split for split in SPLITS if split in found]
        parts = {split: [f"{IMAGES}/{split}"] for split in splits}
        return cls(parts=parts, keeps_names=False, is_yolo=is_yolo, numbers=numbers)

    def photograph(self, name: str, split: object) -> PurePosixPath:
        """Returns where the photograph of an image goes, below the data set's folder."""
        place = PurePosixPath(name.replace("\\", "/"))
        if self.keeps_names:
            return place
        below = place.relative_to(IMAGES) if place.parts[0] == IMAGES else place
        if not self.parts:
            return IMAGES / below
        part = str(split) if split in self.parts else next(iter(self.parts))
        inside = below.relative_to(part) if below.parts[0] == part else below
        return PurePosixPath(IMAGES) / part / inside

    def config(self, names: Sequence[str]) -> dict[str, Any]:
        """Returns data.yaml.

        It has no `path`: readers take the file's own folder.
        """
        parts = self.parts or {"train": [IMAGES], "val": [IMAGES]}
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


def label_place(photograph: PurePosixPath) -> PurePosixPath:
    """Returns where a photograph's labels go: the last folder `images` becomes `labels`."""
    parts = list(photograph.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == IMAGES:
            parts[i] = LABELS
            break
    return PurePosixPath(*parts).with_suffix(".txt")
