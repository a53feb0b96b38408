"""One guard for every path that a verb writes.

Each verb hands over all paths of a call before it reads anything, and again when the
data set has said where its photographs are. Nothing that is read is written to.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from halfmask.errors import InputError
from halfmask.files.kinds import Kind

PHOTOGRAPHS = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".mpo"}
)
"""A folder that directly holds a file with such an ending is one of photographs."""
_SCHEMES = ("sam:", "sam2:", "hf:", "baseline:", "torchvision:")

Given = str | Path | None | object
"""What a verb was given: a path, a name of something else, or an object."""


@dataclass(frozen=True)
class Output:
    """A file or folder that a call writes.

    Attributes:
        path: its path; None: not asked for.
        option: that names it, or what it is, for messages.
        kind: what may be there already.
    """

    path: str | Path | None
    option: str
    kind: Kind


def guard(
    outputs: Iterable[Output], *, inputs: Iterable[Given], photographs: Iterable[Given] = ()
) -> None:
    """Refuses a call that would write over something that it must not.

    An output is refused if it is an input, another output of the call, or among the
    photographs; by whatever name: another spelling, a link, a hard link, other letters
    on a disk that ignores case. So is an existing file that is not of the kind that is
    written (see `Kind`). A file in a data set's folder must be halfmask's own.

    Args:
        outputs: all that the call writes; those without a path are left out.
        inputs: all that it reads; what is no existing file or folder is left out.
        photographs: folders of photographs. An output among them is refused unless it
            is a file beside the annotations. A folder that only holds other folders is
            not among them.
    Raises:
        InputError: the first output that is refused, and why.
    """
    read = _Inputs(inputs)
    shown = _Photographs(photographs, read.files)
    seen: dict[tuple[object, ...], str] = {}
    for output in outputs:
        if output.path is None:
            continue
        path = Path(output.path)
        if path.is_symlink():
            output.kind.check(path, output.option)
        read.check(path, output)
        shown.check(path, output)
        for key in _names_of(path):
            other = seen.setdefault(key, output.option)
            if other != output.option:
                raise InputError(
                    f"{path}: {output.option} and {other} name the same file; name two"
                )
        output.kind.check(path, output.option)


def _paths(given: Iterable[Given]) -> Iterator[Path]:
    """The existing files and folders among what a call was given."""
    for one in given:
        if not isinstance(one, str | Path) or not str(one):
            continue
        names = [str(one), *(str(one).removeprefix(s) for s in _SCHEMES if str(one).startswith(s))]
        for name in names:
            path = Path(name).expanduser()
            try:
                path.stat()
            except (OSError, ValueError):
                continue
            yield path


class _Inputs:
    """The files and folders that a call reads."""

    def __init__(self, given: Iterable[Given]) -> None:
        self.files = list(dict.fromkeys(_paths(given)))
        self._known = {_identity(path.stat()): path for path in self.files}
        self._folders = [path.resolve() for path in self.files if path.is_dir()]

    def check(self, path: Path, output: Output) -> None:
        """Raises InputError if a file is an input, or a data set's own file."""
        found = self._same(path) or self._same(path.with_name(f".{path.name}.part"))
        if found is not None:
            raise InputError(
                f"{path}: {output.option} is the input {found} itself, which is never written "
                "to; name another"
            )
        ours = output.kind.ours
        if ours is None or not path.is_file():
            return
        real = path.resolve()
        for folder in self._folders:
            if real.is_relative_to(folder) and path.stat().st_size and not ours(path):
                raise InputError(
                    f"{path}: {output.option} is a file of the data set {folder}, which is never "
                    "written to; name another"
                )

    def _same(self, path: Path) -> Path | None:
        try:
            return self._known.get(_identity(path.stat()))
        except (OSError, ValueError):
            return None


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _names_of(path: Path) -> Iterator[tuple[object, ...]]:
    """What tells whether two outputs are one: their identity, and their name."""
    with suppress(OSError, ValueError):
        yield _identity(path.stat())
    try:
        folder = path.parent.resolve()
    except (OSError, ValueError, RuntimeError):
        folder = path.parent.absolute()
    yield (unicodedata.normalize("NFC", str(folder / path.name)).casefold(),)


class _Photographs:
    """The folders of photographs that a call reads.

    Args:
        given: the folders.
        files: the inputs that are files, the annotations among them.
    """

    def __init__(self, given: Iterable[Given], files: Iterable[Path]) -> None:
        self._roots = [path.resolve() for path in _paths(given) if path.is_dir()]
        self._annotated = {path.parent.resolve() for path in files if path.is_file()}
        self._known: dict[Path, bool] = {}
        self._outputs: list[Path] = []

    def check(self, path: Path, output: Output) -> None:
        """Raises InputError for an output among them."""
        folder = path.parent.resolve()
        if any(one == folder or one in folder.parents for one in self._outputs):
            return  # in the folder of an output, which was checked
        is_file = not output.kind.is_folder and not _is_picture(path)
        if is_file and folder in self._annotated:
            return
        for root in self._roots:
            between = [folder, *folder.parents]
            if root not in between:
                continue
            held = next((p for p in between[: between.index(root) + 1] if self._holds(p)), None)
            if held is not None:
                raise InputError(
                    f"{path}: {output.option} is among the photographs in {held}; name a place "
                    "outside of them"
                )
        if output.kind.is_folder:
            self._outputs.append(path.resolve())

    def _holds(self, folder: Path) -> bool:
        """Whether photographs lie directly in a folder."""
        if folder not in self._known:
            self._known[folder] = False
            with suppress(OSError), os.scandir(folder) as entries:
                self._known[folder] = any(_is_picture(Path(entry.name)) for entry in entries)
        return self._known[folder]


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PHOTOGRAPHS
