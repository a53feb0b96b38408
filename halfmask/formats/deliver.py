"""Writes a completed COCO file in the format of the data set it comes from, or another one."""

from __future__ import annotations

import shutil
from pathlib import Path

from halfmask.errors import InputError
from halfmask.files.atomic import written_beside
from halfmask.files.folders import new_folder
from halfmask.formats.detect import FOLDER_FILE
from halfmask.formats.export_source import ExportSource
from halfmask.formats.registry import WRITERS
from halfmask.formats.report import ConversionReport, Options

SAME = "same"
OUT_FORMATS = (SAME, "coco", "yolo", "voc", "cvat", "label-studio")


def chosen_format(asked: str, format: str) -> str:
    """Returns the format to write; of a format that cannot be written, `same` is coco.

    Args:
        asked: one of OUT_FORMATS.
        format: of the data set.
    Raises:
        InputError: `asked` is no format to write.
    """
    if asked not in OUT_FORMATS:
        raise InputError(f"out-format: expected {', '.join(OUT_FORMATS)}, found {asked!r}")
    if asked != SAME:
        return asked
    return format if f"to-{format}" in WRITERS else "coco"


def is_folder_format(format: str) -> bool:
    """Whether a data set of this format is a folder."""
    return format not in ("coco", "cvat")


def coco_beside(out: Path, format: str) -> Path:
    """Returns where the COCO file of an output in another format is.

    It lies inside a folder, or beside a file. It holds what the format has no field
    for: each mask's score, model and state.
    """
    if is_folder_format(format):
        return out / FOLDER_FILE
    return out.with_name(f"{out.stem}.{FOLDER_FILE}")


def deliver(
    file: Path, out: Path, format: str, *, photographs: Path, tolerance: float
) -> ConversionReport:
    """Writes a COCO file as OUT in another format, and keeps the file with it.

    Args:
        file: the COCO file; it is moved to `coco_beside(out, format)`.
        out: the new folder, or CVAT's XML file.
        format: one of OUT_FORMATS, but neither coco nor same.
        photographs: their folder, to link.
        tolerance: of the polygons that YOLO gets for masks; see `outlines`.
    Returns:
        What the format cannot hold and the COCO file does not keep either.
    Raises:
        InputError: OUT cannot be written.
    """
    writer = WRITERS[f"to-{format}"]
    images = photographs if "--images" in writer.options else None
    options = Options(images=images, tolerance=tolerance if format == "yolo" else None)
    holds = {*writer.holds, "halfmask"}  # the COCO file has the note
    given = ExportSource.read(file, writer.name, holds, options=options)
    if is_folder_format(format):
        with new_folder(out) as folder:
            writer.write(given, folder)
            shutil.copyfile(file, folder / FOLDER_FILE)
    else:
        with file.open("rb") as source, written_beside(coco_beside(out, format)) as copy:
            shutil.copyfileobj(source, copy)
        writer.write(given, out)
    file.unlink()
    return given.report
