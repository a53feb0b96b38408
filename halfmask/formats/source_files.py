"""Names, sizes and lists of the files that belong to a data set."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from halfmask.coco.images import opened, photograph_path
from halfmask.coco.photographs.orientation import Orientation
from halfmask.errors import InputError

PHOTOGRAPHS = {
    *(".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".mpo", ".dng", ".pfm"),
    *(".heic", ".avif"),
}
"""Endings of photographs, in lower case."""


def leads_out(name: str) -> bool:
    """Returns whether a file name does not name a file below its folder.

    That is an empty or absolute name, one with `..`, or one with control characters.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    windows = PureWindowsPath(name)
    absolute = PurePosixPath(name).is_absolute() or bool(windows.drive or windows.root)
    invalid = bool(re.search("[\x00-\x1f\ud800-\udfff]", name))
    return not parts or absolute or ".." in parts or invalid


def stems_of(names: list[str], source: str) -> dict[str, str]:
    """Maps each file name to the name without its ending, for files that go with it.

    Raises:
        InputError: a name leads out of the folder, or two differ in their ending only.
    """
    seen: dict[str, str] = {}
    stems = {}
    for name in names:
        if leads_out(name):
            raise InputError(
                f"{source}: file_name {name!r} leads out of the images folder; expected a name "
                "below it"
            )
        stem = str(PurePosixPath(name.replace("\\", "/")).with_suffix(""))
        if stem in seen:
            raise InputError(
                f"{source}: {seen[stem]!r} and {name!r} would share one label file {stem}; "
                "rename one of them"
            )
        seen[stem] = name
        stems[name] = stem
    return stems


def size_of_photograph(images: Path | None, name: str) -> tuple[int, int] | None:
    """Returns (H, W) of a photograph in a folder, as a viewer shows it.

    None if it is not found there.

    Raises:
        InputError: the photograph cannot be read, or several have the name's last part.
    """
    if images is None or leads_out(name):
        return None
    found = orientation_of_photograph(images, name)
    return None if found is None else found.turned


def orientation_of_photograph(images: Path, name: str) -> Orientation | None:
    """Returns the size of a photograph in both frames; None if it is not found.

    Raises:
        InputError: as `size_of_photograph`.
    """
    path = photograph_path(images, name)
    if not path.is_file():
        return None
    with opened(path) as image:
        return Orientation.of(image)


def photographs_in(folder: Path) -> Iterator[Path]:
    """Yields the photographs in a folder and the folders below it.

    Raises:
        InputError: there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: expected the folder of the photographs, there is no such folder"
        )
    return (p for p in folder.rglob("*") if p.suffix.lower() in PHOTOGRAPHS and p.is_file())


def text_lines(path: Path) -> list[str]:
    """Returns the lines of a text file, stripped and without blank ones."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return [line.strip() for line in lines if line.strip()]
