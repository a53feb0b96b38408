"""Joins COCO files and their folders of photographs into one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from halfmask.coco.edit import matching_ids, relabel_image
from halfmask.coco.file import CocoFile
from halfmask.coco.images import relative_name
from halfmask.coco.records import Record
from halfmask.errors import InputError
from halfmask.text import listed


def join_files(parts: Sequence[tuple[CocoFile, Path]]) -> tuple[CocoFile, Path]:
    """Joins files into one, with a folder that holds the photographs of all.

    The result has the classes of the first file; those of the others are matched by
    name. An id of an image or annotation that an earlier file has becomes a new one.
    Unusable images and annotations are left out. The files are not changed; the result
    shares their segmentations.

    Args:
        parts: files, each with the folder of its photographs; one at least.
    Returns:
        The joined file, whose photographs have names relative to the folder.
    Raises:
        InputError: a class is not in the first file, a photograph is missing or leads
            out of its folder, or two files share a photograph.
    """
    classes = parts[0][0].categories
    folder = Path(os.path.commonpath([place.resolve() for _, place in parts]))
    joined = _Joined()
    for file, place in parts:
        joined.add(file, matching_ids(file.categories, classes, file.name), (place, folder))
    document: dict[str, Any] = {
        "images": joined.images,
        "annotations": joined.annotations,
        "categories": classes,
    }
    name = listed([file.name for file, _ in parts], 1)
    return CocoFile.from_document(document, name), folder


class _Joined:
    """Records of the files so far, and what they use up."""

    def __init__(self) -> None:
        self.images: list[Record] = []
        self.annotations: list[Record] = []
        self._file_of: dict[str, str] = {}
        self._image_ids: set[int] = set()
        self._annotation_ids: set[int] = set()

    def add(self, file: CocoFile, classes: dict[int, int], folders: tuple[Path, Path]) -> None:
        """Adds a file.

        Args:
            classes: category id → that of the joined file.
            folders: of the file's photographs, and of all.
        """
        rows = [row for image in file.images for row in file.annotations_of(image["id"])]
        images = _free_ids([image["id"] for image in file.images], self._image_ids)
        annotations = _free_ids([row["id"] for row in rows], self._annotation_ids)
        for image in file.images:
            name = _name_below(file, image["id"], folders)
            if name in self._file_of:
                raise InputError(
                    f"{file.name}: its photograph {name} is in {self._file_of[name]} too: each "
                    "photograph may be in one of the files only"
                )
            self._file_of[name] = file.name
            moved = {**relabel_image(image, classes), "id": images[image["id"]], "file_name": name}
            self.images.append(moved)
        self.annotations += [
            {
                **row,
                "id": annotations[row["id"]],
                "image_id": images[row["image_id"]],
                "category_id": classes[row["category_id"]],
            }
            for row in rows
        ]


def _name_below(file: CocoFile, image_id: int, folders: tuple[Path, Path]) -> str:
    """Returns the name of a photograph relative to the folder of all."""
    place, folder = folders
    name = relative_name(place, file.file_name_of(image_id))
    return Path(os.path.relpath(place.resolve() / name, folder)).as_posix()


def _free_ids(ids: Sequence[int], taken: set[int]) -> dict[int, int]:
    """Returns id → the same id, or a new one where it is taken; notes them in `taken`."""
    free = max([0, *taken, *ids]) + 1
    out: dict[int, int] = {}
    for number in dict.fromkeys(ids):
        out[number] = number if number not in taken else free
        free += number in taken
    taken |= set(out.values())
    return out
