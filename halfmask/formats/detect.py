"""Finds out by its content in which format a data set is."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from halfmask.errors import InputError
from halfmask.files.regular import open_regular
from halfmask.formats.json_stream import stream_items
from halfmask.formats.read_only.datumaro import datumaro_files
from halfmask.formats.read_only.supervisely import META, project_of
from halfmask.formats.read_only.via import SHAPES
from halfmask.formats.source_files import PART_FOLDERS, text_of_bytes
from halfmask.formats.yolo.config import CONFIGS, NAME_FILES

FOLDER_FILE = "halfmask.json"
"""The COCO file inside a folder that `complete` wrote in another format."""
REVIEWED_FILE = "halfmask.reviewed.json"
"""The same after a review."""
_SECONDS = 5.0
"""Time by which files of one output may differ."""
_HEAD = 4096
"""Bytes of a file that are looked at."""
_FIRST_FILES = 20
"""XML files of a folder that are looked at."""
_LOOKED_FOR = (
    "a COCO file (instances or panoptic), a JSON file of Label Studio, labelme, VIA or Datumaro, "
    "CVAT's annotations.xml, a VOC folder with Annotations/*.xml, a YOLO folder with data.yaml or "
    "classes.txt, a Supervisely folder with meta.json, or Open Images' *annotations-bbox.csv"
)
_OBJECTS = {
    "labelme": r'"(shapes|imageData|imagePath)"\s*:',
    "via": (
        r'"_via_\w+"\s*:|"(shape|region)_attributes"\s*:|"filename"\s*:[^{}]*"regions"\s*:'
        r'|"project"\s*:\s*\{\s*"pid"\s*:'
    ),
    "datumaro": r'"dm_format_version"\s*:|"categories"\s*:\s*\{',
    "supervisely": (
        r'"classTitle"\s*:|"size"\s*:\s*\{[^{}]*\}[\s\S]*"objects"\s*:\s*\['
        r'|"classes"\s*:\s*\[\s*\{[^{}]*"title"\s*:'
    ),
}
"""Format → what the beginning of its JSON objects has, and that of a COCO file has not."""
_FIRST_KEY = re.compile(rb'"(segments_info|segmentation|bbox|category_id)"\s*:')
"""The first of these keys tells a panoptic file from an instances file."""
_CHUNK = 1 << 20
_FEW = 20
"""Files of a folder that are looked at."""


def detect_format(data: str | Path) -> str:
    """Returns the format of a file or folder: coco, or a key of READERS.

    Of a file only the beginning is read. LVIS and Objects365 files count as coco.

    Raises:
        InputError: there is no such file, or no format fits; the message has what was
            looked for.
    """
    path = Path(data)
    if path.is_dir():
        found = next((name for name, fits in _FOLDERS if fits(path)), None) or _only_file(path)
        if found is None:
            raise InputError(f"{path}: expected {_LOOKED_FOR}; found none of them in this folder")
        return found
    if not path.exists() and path.suffix.lower() != ".json":
        raise InputError(f"{path}: expected {_LOOKED_FOR}, cannot read it: no such file or folder")
    return _of_file(path)


def completed_file(data: Path) -> Path:
    """Returns the COCO file with the scores of what `complete` wrote; else `data` itself."""
    if data.is_dir():
        inside = data / FOLDER_FILE
        return inside if inside.is_file() else data
    beside = data.with_name(f"{data.stem}.{FOLDER_FILE}")
    return beside if data.suffix == ".xml" and beside.is_file() else data


def coco_inside(folder: Path) -> Path | None:
    """Returns the COCO file of a folder.

    In a folder that `complete` wrote it is the reviewed file, else halfmask.json;
    elsewhere the only JSON file.

    Raises:
        InputError: label files changed after `complete` wrote them.
    """
    if not folder.is_dir():
        return None
    own = folder / FOLDER_FILE
    if own.is_file():
        _check_unchanged(folder, own)
        reviewed = folder / REVIEWED_FILE
        newer = reviewed.is_file() and reviewed.stat().st_mtime >= own.stat().st_mtime
        return reviewed if newer else own
    files = [p for p in folder.glob("*.json") if p.is_file() and not p.name.startswith(".")]
    return files[0] if len(files) == 1 and _head(files[0])[:1] == "{" else None


def _check_unchanged(folder: Path, own: Path) -> None:
    """Raises InputError if a label was edited: neither file has everything then."""
    written = own.stat().st_mtime + _SECONDS
    for pattern in ("**/*.txt", "Annotations/*.xml"):
        edited = next((p for p in folder.glob(pattern) if p.stat().st_mtime > written), None)
        if edited is not None:
            raise InputError(
                f"{edited}: changed after {own} was written; expected the labels as they were "
                f"completed: name {own} for these, with their scores, or move it away to read "
                "the labels"
            )


def _of_file(path: Path) -> str:
    if path.suffix.lower() in (".yaml", ".yml"):
        return "yolo"
    if path.suffix.lower() == ".csv":
        return "via" if SHAPES in _head(path) else "open-images"
    head = _head(path)
    if head[:1] == "[":
        return _of_list(path)
    if head[:1] == "{":
        return _of_object(path, head)
    if not head or path.suffix.lower() == ".json":
        return "coco"  # its reader says what is missing
    root = _root_of(head)
    if root == "annotations":
        return "cvat"
    if root == "annotation":
        raise InputError(
            f"{path}: one file of a VOC data set; expected its folder: name {path.parent}"
        )
    raise InputError(f"{path}: expected {_LOOKED_FOR}; the file is none of them")


def _of_object(path: Path, head: str) -> str:
    found = next((name for name, keys in _OBJECTS.items() if re.search(keys, head)), None)
    if found == "supervisely":
        above = (str(folder) for folder in path.parents if (folder / META).is_file())
        folder = next(above, f"the folder with {META}")
        raise InputError(
            f"{path}: one file of a Supervisely project; expected its folder: name {folder}"
        )
    return found or ("coco-panoptic" if _is_panoptic(path) else "coco")


def _is_panoptic(path: Path) -> bool:
    """Whether the first annotation of a file has segments. Images before it are skipped."""
    rest = b""
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                if found := _FIRST_KEY.search(rest + chunk):
                    return found[1] == b"segments_info"
                rest = chunk[-64:]
    except OSError:
        pass  # the reader reports the fault
    return False


def _of_list(path: Path) -> str:
    first: Any = next(stream_items(path), None)
    keys = set(first) if isinstance(first, dict) else set()
    if "data" in keys:
        return "label-studio"
    if "objects" in keys:
        raise InputError(
            f"{path}: Visual Genome's objects; convert them first: halfmask convert visual-genome"
        )
    if {"image_id", "category_id"} <= keys:
        return "coco"  # a results file: the reader says so
    raise InputError(
        f"{path}: expected {_LOOKED_FOR}; found a JSON list whose first item has no `data`, as a "
        "task of Label Studio has"
    )


def _head(path: Path) -> str:
    """The beginning of a file; "" of one that is not there, whose reader says so."""
    try:
        with open_regular(path) as file:
            return text_of_bytes(file.read(_HEAD)).lstrip()
    except OSError:
        return ""


def _root_of(head: str) -> str | None:
    """Returns the name of the first element of an XML text."""
    text = re.sub(r"<!--.*?-->|<[?!].*?>", "", head, flags=re.DOTALL)
    found = re.match(r"\s*<(?:[\w.-]+:)?([\w.-]+)", text)
    return found[1] if found else None


def _has_xml(folder: Path, root: str) -> bool:
    """Whether one of the first XML files of a folder has a root; some systems add litter."""
    files = sorted(p for p in folder.glob("*") if p.suffix.lower() == ".xml" and p.is_file())
    return any(_root_of(_head(file)) == root for file in files[:_FIRST_FILES])


def _is_voc(folder: Path) -> bool:
    """Whether XML files lie in the folder, in Annotations, or in one for each part."""
    names = {"annotations", *PART_FOLDERS}
    below = [p for p in sorted(folder.iterdir()) if p.is_dir() and p.name.lower() in names]
    return any(_has_xml(p, "annotation") for p in (*below, folder))


def _is_supervisely(folder: Path) -> bool:
    depths = ("ann", "*/ann", "*/*/ann", "*/*/*/ann")
    return project_of(folder) is not None and any(any(folder.glob(d)) for d in depths)


def _has_object(files: list[Path], format: str) -> bool:
    """Whether one of some files is of a format in `_OBJECTS`."""
    keys = _OBJECTS[format]
    heads = (_head(path) for path in files)
    return any(head[:1] == "{" and re.search(keys, head) for head in heads)


def _some_json(folder: Path) -> list[Path]:
    return [*sorted(folder.glob("*.json"))[:_FEW], *sorted(folder.glob("*/*.json"))[:_FEW]]


def _only_file(folder: Path) -> str | None:
    """The format of the only JSON or CSV file of a folder, if halfmask reads it."""
    found = coco_inside(folder)
    tables = list(folder.glob("*.csv"))
    if found is None and len(tables) == 1 and SHAPES in _head(tables[0]):
        return "via"
    return None if found is None else _of_file(found)


def _is_yolo(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (*CONFIGS, *NAME_FILES))


_FOLDERS: list[tuple[str, Callable[[Path], bool]]] = [
    ("coco", lambda folder: (folder / FOLDER_FILE).is_file()),
    ("yolo", _is_yolo),
    ("voc", _is_voc),
    ("cvat", lambda folder: (folder / "annotations.xml").is_file()),
    ("open-images", lambda folder: any(folder.glob("*annotations-bbox.csv"))),
    ("label-studio", lambda folder: (folder / "tasks.json").is_file()),
    ("supervisely", _is_supervisely),
    ("datumaro", lambda folder: _has_object(datumaro_files(folder)[:_FEW], "datumaro")),
    ("labelme", lambda folder: _has_object(_some_json(folder), "labelme")),
]
"""Formats, and whether a folder holds them. The first that fits counts."""
