"""Finds photographs whose name in a file is not quite their path below the folder.

`--images` may name a folder too high or too low, names may have backslashes, another
case, another Unicode form, a folder that is not there, or be addresses. Then the
photograph with the same last part is used, where it is the only one.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import threading
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from halfmask.text import listed

MOST_FILES = 2_000_000
"""Most files of a folder of photographs; a disk has more."""
_FOLDERS = 16  # whose lists are kept

logger = logging.getLogger(__name__)

Key = tuple[str, ...]


class PhotographTree:
    """The files below a folder by their last part; listed when first needed, once.

    Threads may share it.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.taken: dict[str, str] = {}
        """Names that may not be used, since their photograph belongs to another image."""
        self.said = False
        """Whether the user knows that photographs are found by their last part."""
        self._lock = threading.Lock()
        self._by_last: dict[str, list[str]] | None = None

    def find(self, name: str) -> list[str]:
        """Returns the files, relative to the folder, that a name may mean.

        They have its last part. Of several, those are kept that also have most of the
        folders before it, and then those with the same letters.
        """
        if name in self.taken:
            return []
        key = name_key(name)
        found = self._listed().get(key[-1], []) if key else []
        if len(found) > 1:
            found = [found[k] for k in nearest(key, [name_key(path) for path in found])]
        if len(found) > 1:
            last = unicodedata.normalize("NFC", last_part(name))
            same = [p for p in found if unicodedata.normalize("NFC", last_part(p)) == last]
            found = same or found
        return found

    def settle(self, names: Iterable[str], exact: Collection[str]) -> dict[str, str]:
        """Returns name → file of the names that are found by their last part.

        A file that belongs to another image is never used, not in later calls either.

        Args:
            names: names of a data set that are no files.
            exact: the other names, which are files.
        """
        self.taken = {}
        found = {name: paths[0] for name in names if len(paths := self.find(name)) == 1}
        users: dict[str, set[Key]] = {}
        for name, path in found.items():
            users.setdefault(path, set()).add(name_key(name))
        self.taken = {n: p for n, p in found.items() if p in exact or len(users[p]) > 1}
        return {name: path for name, path in found.items() if name not in self.taken}

    def why_not(self, name: str) -> str:
        """Says why a name has no photograph, if others have its last part; else ""."""
        if name in self.taken:
            return f"{self.taken[name]} has the same last part and belongs to another image"
        found = self.find(name)
        return f"{listed(found, 2)} have the same last part" if len(found) > 1 else ""

    def _listed(self) -> dict[str, list[str]]:
        with self._lock:
            if self._by_last is None:
                self._by_last = self._list()
            return self._by_last

    def _list(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for number, path in enumerate(files_below(self.folder)):
            if number == MOST_FILES:
                logger.warning(
                    "%s: more than %d files, so that photographs are not looked for by their "
                    "last part; name the folder of the photographs",
                    self.folder,
                    MOST_FILES,
                )
                return {}
            found.setdefault(name_key(path)[-1], []).append(path)
        return found


@lru_cache(maxsize=_FOLDERS)
def _tree(folder: str) -> PhotographTree:
    return PhotographTree(folder)


_lock = threading.Lock()


def tree_of(folder: str | Path, fresh: bool = False) -> PhotographTree:
    """Returns the tree of a folder, which later calls share.

    Args:
        fresh: list the folders again: files may have come or gone since.
    """
    with _lock:
        if fresh:
            _tree.cache_clear()
        return _tree(str(Path(folder).absolute()))


def files_below(folder: str | Path, skip: str | Path | None = None) -> Iterator[str]:
    """Yields the files below a folder, in order, with "/" in their paths.

    Links are followed, a folder that was listed already is not listed again, and hidden
    folders are left out. Nothing is yielded for what cannot be listed. Pipes and
    devices are yielded; their reader names them.

    Args:
        skip: a folder to leave out.
    """
    seen = {_identity(skip)} if skip is not None else set()
    pending = [""]
    while pending:
        inside = pending.pop()
        place = Path(folder) / inside
        own = _identity(place)
        if own is None or own in seen:
            continue
        seen.add(own)
        try:
            with os.scandir(place) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:
            continue
        below = []
        for entry in entries:
            path = f"{inside}/{entry.name}" if inside else entry.name
            if _is(entry.is_dir):
                below += [] if entry.name.startswith(".") else [path]
            elif _is(entry.is_file) or Path(entry.path).exists():
                yield path
        pending += reversed(below)


def last_part(name: str) -> str:
    """Returns the last part of a name, which may be a path of any system or an address."""
    return plain_name(name).rsplit("/", 1)[-1]


def is_address(name: str) -> bool:
    """Whether a name is an address, as https://… is."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", name) is not None


def plain_name(name: str) -> str:
    """Returns a name with "/" between its parts; of an address, its path."""
    if is_address(name):
        with suppress(ValueError):  # no valid address, as https://[ is: a name like any other
            name = unquote(urlsplit(name).path).lstrip("/")
    return name.replace("\\", "/")


def nearest(key: Key, keys: Sequence[Key]) -> list[int]:
    """Returns the positions of the keys that share most parts with a key, from the last."""
    shared = [_common(key, other) for other in keys]
    return [k for k, count in enumerate(shared) if count == max(shared) and count]


def name_key(name: str) -> Key:
    """Returns the parts of a name, alike for any case, slashes and Unicode form."""
    plain = unicodedata.normalize("NFC", unicodedata.normalize("NFC", plain_name(name)).casefold())
    return tuple(part for part in plain.split("/") if part not in ("", "."))


def _common(one: Key, other: Key) -> int:
    """The number of parts that are alike, from the last."""
    same = (a == b for a, b in zip(reversed(one), reversed(other), strict=False))
    return next((k for k, alike in enumerate(same) if not alike), min(len(one), len(other)))


def _identity(folder: str | Path) -> tuple[int, int] | None:
    try:
        status = Path(folder).stat()
    except (OSError, ValueError):
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None


def _is(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError:
        return False
