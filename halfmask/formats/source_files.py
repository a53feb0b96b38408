"""Names, sizes and lists of the files that belong to a data set."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from halfmask.coco.images import opened, photograph_path
from halfmask.coco.locate import files_below, last_part, name_key, nearest
from halfmask.coco.photographs.orientation import Orientation
from halfmask.errors import InputError
from halfmask.files.regular import read_regular

PHOTOGRAPHS = {
    *(".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".mpo", ".dng", ".pfm"),
    *(".heic", ".avif"),
}
"""Endings of photographs, in lower case."""
PART_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Folder → the part of a data set that it holds."""
_MARKS = [
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
]
"""Byte order marks that Windows' editors write, and the encoding that each means."""
_LAST = "cp1252"


_UNPRINTABLE = re.compile("[\x00-\x1f\ud800-\udfff]")


def leads_out(name: str) -> bool:
    """Returns whether a file name does not name a file below its folder.

    That is an empty or absolute name, one with `..`, or one with control characters.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    windows = PureWindowsPath(name)
    absolute = PurePosixPath(name).is_absolute() or bool(windows.drive or windows.root)
    return not parts or absolute or ".." in parts or bool(_UNPRINTABLE.search(name))


def stems_of(names: list[str], source: str) -> dict[str, str]:
    """Maps each file name to the name without its ending, for files that go with it.

    Raises:
        InputError: a name leads out of the folder or has a line break, or two differ in
            their ending only.
    """
    seen: dict[str, str] = {}
    stems = {}
    for name in names:
        if _UNPRINTABLE.search(name):
            raise InputError(
                f"{source}: file_name {name!r} has a line break or another control character; "
                "rename the photograph, and its record"
            )
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

    Pipes, devices and links to nothing are yielded; their reader names them.

    Raises:
        InputError: there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: expected the folder of the photographs, there is no such folder"
        )
    return (p for p in folder.rglob("*") if p.suffix.lower() in PHOTOGRAPHS and not p.is_dir())


class PhotographIndex:
    """Finds the photographs below a folder by names that may lack their ending."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._paths = {p for p in files_below(folder) if is_photograph(p)}
        self._by_last: dict[str, list[str]] = {}
        self._by_stem: dict[str, list[str]] = {}
        for path in sorted(self._paths):
            last = name_key(path)[-1]
            self._by_last.setdefault(last, []).append(path)
            self._by_stem.setdefault(without_ending(last), []).append(path)

    def find(self, name: str) -> str | None:
        """Returns a photograph's path below the folder; None if none or several fit.

        Its last part is that of the name, up to case, slashes and Unicode form; else
        the two differ in their ending only. Of several, the one counts that also has
        most of the folders before it.
        """
        if name in self._paths:
            return name
        key = name_key(name)
        if not key:
            return None
        found = self._by_last.get(key[-1]) or self._by_stem.get(without_ending(key[-1]), [])
        keys = [(*name_key(path)[:-1], key[-1]) for path in found]
        near = nearest(key, keys)
        return found[near[0]] if len(near) == 1 else None


def path_below(folder: Path, parts: Sequence[str]) -> Path | None:
    """Returns the path below a folder that differs in case and Unicode form at most.

    None if there is none, or several that differ.
    """
    place = folder
    for part in parts:
        if (place / part).exists():
            place /= part
            continue
        key = name_key(part)
        near = [p for p in place.iterdir() if name_key(p.name) == key] if place.is_dir() else []
        if len(near) != 1:
            return None
        place = near[0]
    return place


def is_photograph(name: str) -> bool:
    """Whether a name has the ending of a photograph."""
    return PurePosixPath(name).suffix.lower() in PHOTOGRAPHS


def without_ending(name: str) -> str:
    """Returns a name without the ending of a photograph or an XML file."""
    return name[: -len(_ending(name))] if _ending(name) else name


def _ending(name: str) -> str:
    suffix = PurePosixPath(name).suffix
    return suffix if suffix.lower() in PHOTOGRAPHS or suffix.lower() == ".xml" else ""


def plain_file_name(name: str) -> str:
    """Returns the last part of a name that is an absolute path of another machine."""
    absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute()
    last = last_part(name)
    return last if absolute and _ending(last) else name


def text_of_bytes(data: bytes) -> str:
    """Returns the text of a file: UTF-8, UTF-16 if it begins with its mark, else Windows-1252."""
    encoding = _encoding(data)
    return data.decode(encoding, "replace" if encoding == _LAST else "strict")


def is_guessed(path: Path) -> bool:
    """Whether a text file is not Unicode, so that `text_of_bytes` takes it for Windows-1252."""
    return _encoding(path.read_bytes()) == _LAST


def _encoding(data: bytes) -> str:
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return _LAST
    return encoding


def text_lines(path: Path, blank: bool = False) -> list[str]:
    """Returns the stripped lines of a text file.

    Args:
        path: of the file; its encoding is that of `text_of_bytes`.
        blank: keep blank lines, except those at the end.
    Raises:
        InputError: it is not a regular file that can be read.
    """
    try:
        data = read_regular(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    lines = [line.strip() for line in text_of_bytes(data).rstrip().split("\n")]
    return lines if blank else [line for line in lines if line]
