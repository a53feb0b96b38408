"""Kinds of outputs: what an existing file or folder must be, to be written over.

A path that a user mistypes, or that a stranger's folder prepares, may hold anything. It
is written over only if it is empty or of the kind that is written. JSON is recognised
by its keys, pictures and pages by the mark that halfmask puts into them.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halfmask.errors import InputError
from halfmask.files.json_lines import CHECK
from halfmask.files.regular import open_regular

MARK = "halfmask"
"""Stands in the beginning or the end of pictures, pages and weights that halfmask writes."""
_EDGE = 1 << 20
"""Bytes at each end of a file that are looked at."""
_WHOLE = 16 << 20
"""JSON up to this size is read whole."""
_LIST = rb'"%s"\s*:\s*\['


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of output.

    Attributes:
        name: in the words of a message.
        fits: whether an existing, non-empty file, or folder, is of this kind.
        is_folder: whether it is a folder; None: a file or a folder.
        in_place: whether an existing file is changed, not replaced: no other file may
            share its bytes.
        ours: whether a file that fits is halfmask's own; None: all are. A data set's
            own files may fit too, and stay.
    """

    name: str
    fits: Callable[[Path], bool]
    is_folder: bool | None = False
    in_place: bool = False
    ours: Callable[[Path], bool] | None = None

    def check(self, path: Path, option: str) -> None:
        """Refuses an existing file or folder that is not of this kind.

        Args:
            path: of the output.
            option: that names it, for the message.
        Raises:
            InputError: it is a link, a pipe, a device, a folder or a file in place of
                each other, or something else than `name`.
        """
        try:
            status = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise InputError(f"{path}: {option}: cannot write here: {why}") from error
        if found := self._fault(path, status):
            raise InputError(
                f"{path}: {option} would write {self.name} here, found {found}; name another "
                "place, or move it away"
            )

    def _fault(self, path: Path, status: os.stat_result) -> str:
        mode = status.st_mode
        if stat.S_ISLNK(mode):
            return f"a link to {path.readlink()}"
        if stat.S_ISDIR(mode):
            if self.is_folder is False:
                return "a folder"
            return "" if self._is_one(path) else "a folder with other files"
        if not stat.S_ISREG(mode):
            return "a pipe, a socket or a device"
        if self.is_folder:
            return "a file"
        if self.in_place and status.st_nlink > 1:
            return "a file that has another name, too (a hard link)"
        if not status.st_size:
            return ""
        return "" if self._is_one(path) else "another file"

    def _is_one(self, path: Path) -> bool:
        try:
            return self.fits(path)
        except OSError:
            return False


def _edges(path: Path) -> bytes:
    """The beginning and the end of a file."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size <= _WHOLE:
            return file.read()
        head = file.read(_EDGE)
        file.seek(-_EDGE, os.SEEK_END)
        return head + file.read()


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _is_coco(path: Path) -> bool:
    data = _edges(path)
    if path.stat().st_size <= _WHOLE:
        document = _json(data)
        keys = ("images", "annotations") if isinstance(document, dict) else ()
        return bool(keys) and all(isinstance(document.get(key), list) for key in keys)
    found = [re.search(_LIST % key, data) for key in (b"images", b"annotations")]
    return data.lstrip()[:1] == b"{" and any(found)


def _is_ours(path: Path) -> bool:
    """Whether `info` of a COCO file says that halfmask wrote it."""
    document = _json(_edges(path))
    info = document.get("info") if isinstance(document, dict) else None
    if not isinstance(info, dict):
        return False
    return "halfmask" in info or str(info.get("description", "")).startswith("converted from")


def _is_cvat(path: Path) -> bool:
    return re.search(rb"<annotations[\s>]", _edges(path)[:4096]) is not None


def _is_results(path: Path) -> bool:
    beginning = _edges(path)[:4096].split()
    text = b"".join(beginning)
    return text == b"[]" or (text.startswith(b'[{"image_id":') and b'"file_name":' in text)


def _is_marked_picture(path: Path) -> bool:
    data = _edges(path)
    return MARK.encode() in data[:_EDGE] + data[-4096:] and data.lstrip()[:1] not in (b"{", b"[")


def _is_page(path: Path) -> bool:
    data = _edges(path)[:8192].lower()
    return b"<html" in data and MARK.encode() in data


def _is_weights(path: Path) -> bool:
    data = _edges(path)[:_EDGE]
    return data[8:9] == b"{" and MARK.encode() in data


def _anything(_: Path) -> bool:
    return True


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _is_empty(folder: Path) -> bool:
    return not _names(folder)


def _is_journal(head: bytes) -> Callable[[Path], bool]:
    """Whether a file is a journal with this head; a cut or damaged one may be.

    Of a damaged one the checksum of a line tells what it is.
    """

    def fits(path: Path) -> bool:
        with open_regular(path) as file:
            found = file.read(1 << 16)
        return head.startswith(found[: len(head)]) or f',"{CHECK}":"'.encode() in found

    return fits


COCO = Kind(name="a COCO file", fits=_is_coco, ours=_is_ours)
CVAT = Kind(name="CVAT's XML", fits=_is_cvat)
RESULTS = Kind(name="results of predict", fits=_is_results)
PICTURE = Kind(name="a picture of halfmask", fits=_is_marked_picture)
PAGE = Kind(name="a page of halfmask", fits=_is_page)
WEIGHTS = Kind(name="weights that halfmask wrote", fits=_is_weights)
OWN_NAME = Kind(name="a file of its own", fits=_anything)
"""A file whose name says what it is, such as an index; a damaged one is written again."""
FILLING = Kind(name="the journal of complete", fits=_is_journal(b'{"job":'), in_place=True)
REVIEW = Kind(name="the journal of a review", fits=_is_journal(b'{"review":'), in_place=True)
ANYTHING = Kind(name="its output", fits=_anything, is_folder=None)
"""For a first look, until the format of an output is known."""
ANY_FOLDER = Kind(name="a folder", fits=_anything, is_folder=True)
"""What is written into it is checked by its own kind."""
NEW_FOLDER = Kind(name="a new folder", fits=_is_empty, is_folder=True)


def report(verb: str, *keys: str) -> Kind:
    """Returns the kind of a verb's `--json`, an object with these keys."""

    def fits(path: Path) -> bool:
        document = _json(_edges(path))
        return isinstance(document, dict) and set(keys) <= document.keys()

    return Kind(name=f"the report of {verb}", fits=fits)


def folder_of(name: str, own: Callable[[Path, Collection[str]], bool]) -> Kind:
    """Returns the kind of a folder that is empty or recognised by what is in it.

    Args:
        name: in the words of a message.
        own: gets the folder and the names in it, without those of parts.
    """

    def fits(path: Path) -> bool:
        names = {n for n in _names(path) if not re.fullmatch(r"\..*\.part(\.d)?", n)}
        return not names or own(path, names)

    return Kind(name=name, fits=fits, is_folder=True)


def _is_run(path: Path, names: Collection[str]) -> bool:
    """A run, or what a killed one left before it wrote its recipe."""
    if "adaptation.json" in names or (
        "recipe.yaml" in names and b"stages:" in _edges(path / "recipe.yaml")
    ):
        return True
    measured = _MEASURED if _is_of_run(path / "hidden") else set()
    return all(_is_of_run(path / name) for name in set(names) - measured)


_MEASURED = {"quality.json", "reliability.png"}
"""What a run writes between its first training, in `hidden`, and its recipe."""


def _is_of_run(path: Path) -> bool:
    if not path.is_dir() or path.is_symlink():
        return False
    names = _names(path)
    if path.name == "data":  # converted copies
        return all(name.endswith((".json", ".part")) for name in names)
    if path.name in ("hidden", "teacher"):  # of trainings that help, killed at any moment
        return RUN.fits(path)
    return path.name == "logs" or "recipe.yaml" in names


def _is_export(path: Path, names: Collection[str]) -> bool:
    graphs = {f"{name}{kind}.onnx" for name in ("segment", "detect") for kind in ("", ".int8")}
    if not set(names) <= graphs | {"model.json"} or any((path / n).is_symlink() for n in names):
        return False
    if "model.json" not in names:
        return True  # killed between its graphs
    document = _json(_edges(path / "model.json"))
    return isinstance(document, dict) and {"opset", "graphs"} <= document.keys()


def _is_demo(path: Path, _: Collection[str]) -> bool:
    """A demo, also one whose marker is damaged: the next starts over."""
    marker = path / ".halfmask-demo.json"
    return marker.is_file() and not marker.is_symlink()


RUN = folder_of("a run", _is_run)
EXPORT = folder_of("an export", _is_export)
DEMO = folder_of("a demo", _is_demo)
