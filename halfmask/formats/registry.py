"""The formats, in one place: what the command line shows, and which function converts."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from halfmask.errors import InputError
from halfmask.formats.options import Options
from halfmask.formats.report import Report
from halfmask.formats.sink import CocoSink

Reader = Callable[[Path, CocoSink, Options], None]
Writer = Callable[[Path, Path, Report, Options], str]


@dataclass(frozen=True)
class Form:
    """One direction of one format.

    Attributes:
        function: module of this package and function.
        source, result: what SRC and OUT are.
        options: the options of the command line that it uses.
    """

    function: str
    source: str = "a COCO file"
    result: str = "a COCO file"
    options: tuple[str, ...] = ()


READERS: dict[str, Form] = {
    "yolo": Form(
        "yolo.read:read_yolo", "a YOLO folder or its data.yaml", options=("--images", "--split")
    ),
    "voc": Form(
        "voc.read:read_voc",
        "a Pascal VOC folder",
        options=("--images", "--masks", "--split", "--zero-based"),
    ),
    "cvat": Form("cvat.read:read_cvat", "annotations.xml of CVAT for images 1.1"),
    "label-studio": Form(
        "label_studio.read:read_label_studio",
        "an export of Label Studio as JSON",
        options=("--images",),
    ),
    "lvis": Form("coco_like:read_lvis", "an LVIS file"),
    "objects365": Form("coco_like:read_objects365", "an Objects365 file"),
    "open-images": Form(
        "open_images.read:read_open_images",
        "a folder with Open Images' CSV files",
        options=("--images", "--masks", "--split"),
    ),
}
WRITERS: dict[str, Form] = {
    "to-yolo": Form("yolo.write:write_yolo", result="a YOLO folder", options=("--images",)),
    "to-voc": Form("voc.write:write_voc", result="a Pascal VOC folder"),
    "to-cvat": Form("cvat.write:write_cvat", result="an XML file, CVAT for images 1.1"),
    "to-label-studio": Form(
        "label_studio.write:write_label_studio",
        result="a folder with tasks.json and label_config.xml",
        options=("--image-url",),
    ),
}


def check_options(form: str, given: list[str]) -> None:
    """Refuses options that a format would silently ignore.

    Args:
        form: a key of the tables.
        given: the options that the user gave.
    Raises:
        InputError: the format does not use one of them.
    """
    used = {**READERS, **WRITERS}[form].options
    idle = [option for option in given if option not in used]
    if idle:
        raise InputError(
            f"convert {form}: has no use for {idle[0]}; it uses: {', '.join(used) or 'no options'}"
        )


def read_into(form: str, source: Path, out: Path, options: Options, tally: Report) -> str:
    """Converts a source to a COCO file.

    Returns:
        What was written, in a line.
    Raises:
        InputError: the source cannot be used, or OUT is the source itself.
    """
    if not source.exists():
        raise InputError(
            f"{source}: there is no such file or folder; expected {READERS[form].source}"
        )
    _apart(source, out)
    reader = cast(Reader, _function(READERS[form]))
    with CocoSink(out, tally, f"converted from {form}") as sink:
        reader(source, sink, options)
        if not sink.images:
            first = next((f": {line}" for line in tally.lines(tally.faults)), "")
            raise InputError(f"{source}: no image could be used{first}")
    return f"{out}: {sink.images} images, {sink.annotations} annotations, {sink.masks} of them with masks, {len(sink.categories)} classes"


def write_from(form: str, source: Path, out: Path, options: Options, tally: Report) -> str:
    """Converts a COCO file to another format.

    Returns:
        What was written, in a line.
    Raises:
        InputError: the source is no COCO file, or the target cannot be written.
    """
    _apart(source, out)
    return cast(Writer, _function(WRITERS[form]))(source, out, tally, options)


def _apart(source: Path, out: Path) -> None:
    if out.exists() and out.samefile(source):
        raise InputError(f"{out}: would be written over, it is the source; name another OUT")


def _function(form: Form) -> object:
    module, name = form.function.split(":")
    return getattr(importlib.import_module(f"halfmask.formats.{module}"), name)
