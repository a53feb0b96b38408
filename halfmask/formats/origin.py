"""Where a COCO file comes from, by its `info.halfmask`, and where copies of a data set go."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from halfmask.files.regular import open_regular
from halfmask.formats.source_files import leads_out
from halfmask.formats.voc.files import photographs_of_voc

CACHE_VARIABLE = "HALFMASK_CACHE"
"""Environment variable that names the folder for converted copies."""
_END = 1 << 18
"""Bytes at the beginning and at the end of a file in which `info` is looked for."""


def note_of(info: object) -> dict[str, Any]:
    """Returns `info.halfmask` of a document's `info`; empty without one."""
    note = info.get("halfmask") if isinstance(info, dict) else None
    return note if isinstance(note, dict) else {}


def origin_of(info: object) -> dict[str, Any]:
    """Returns `info.halfmask.source`: format, data, images and layout of what was converted."""
    origin = note_of(info).get("source")
    return origin if isinstance(origin, dict) else {}


def photographs_of_coco(path: Path) -> Path | None:
    """Returns the folder of photographs that a COCO file names, or that holds the file.

    halfmask notes the folder in `info.halfmask`. A file without this note counts as
    lying among its photographs if the first of them is there. The file is not read as a
    whole.
    """
    try:
        with open_regular(path) as file:
            head = file.read(_END).decode("utf-8", "replace")
            file.seek(max(0, path.stat().st_size - _END))
            tail = file.read(_END).decode("utf-8", "replace")
    except OSError:
        return None  # the reader reports the fault
    for text in (head, tail):
        info = _info_in(text)
        named = note_of(info).get("images") or origin_of(info).get("images")
        if isinstance(named, str) and Path(named).is_dir():
            return Path(named)
    first = re.search(r'"file_name"\s*:\s*("(?:[^"\\\\]|\\\\.)*")', head)
    name = "" if first is None else json.loads(first[1], strict=False)
    places = [path.parent, path.parent / "images"] if name and not leads_out(name) else []
    return next((place for place in places if (place / name).is_file()), None)


def photographs_beside(original: Path, format: str) -> Path | None:
    """Returns the folder of photographs where VOC and CVAT keep it; None without one."""
    if format == "voc":
        return photographs_of_voc(original)
    beside = (original if original.is_dir() else original.parent) / "images"
    return beside if format == "cvat" and beside.is_dir() else None


def _info_in(text: str) -> object:
    """The value of the last key `info` in a part of a JSON text; None without one."""
    for found in reversed(list(re.finditer(r'"info"\s*:\s*(?=\{)', text))):
        try:
            return json.JSONDecoder().raw_decode(text, found.end())[0]
        except ValueError:
            continue
    return None


def cache_folder() -> Path:
    """Returns the folder of converted copies."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "halfmask"


def copy_name(original: Path, images: Path | None, split: str | None) -> str:
    """Returns a name of its own for each data set, folder of photographs and part."""
    whole = f"{original.resolve()}\0{None if images is None else images.resolve()}\0{split}"
    own = hashlib.blake2b(whole.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
    stem = original.resolve().name if original.is_dir() else original.stem
    return ".".join([stem or "data", *([] if split is None else [split]), own, "json"])
