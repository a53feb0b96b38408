"""Names, sizes and lists of the files that belong to a data set."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from halfmask.coco.images import opened, photograph_path
from halfmask.errors import InputError
from halfmask.files.regular import read_regular

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
    """Returns (H, W) of a photograph in a folder; None if it is not found there.

    Raises:
        InputError: the photograph cannot be read, or several have the name's last part.
    """
    if images is None or leads_out(name):
        return None
    path = photograph_path(images, name)
    if not path.is_file():
        return None
    with opened(path) as image:
        return image.height, image.width


def photographs_in(folder: Path) -> Iterator[Path]:
    """Yields the photographs in a folder and the folders below it.

    Pipes, devices and links to nothing are yielded; their reader names them.

    Raises:
        InputError: there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: expected the folder of the photographs, there is no such folder"
        )
    return (p for p in folder.rglob("*") if p.suffix.lower() in PHOTOGRAPHS and not p.is_dir())


def text_lines(path: Path) -> list[str]:
    """Returns the lines of a text file, stripped and without blank ones.

    Raises:
        InputError: it is not a regular file that can be read.
    """
    try:
        lines = read_regular(path).decode("utf-8", "replace").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    return [line.strip() for line in lines if line.strip()]
