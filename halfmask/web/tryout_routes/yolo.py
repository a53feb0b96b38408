"""The try-out page's masks as a YOLO data set of one photograph, made in memory."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import PurePosixPath
from typing import Annotated, Any

import yaml
from fastapi import FastAPI, Response
from fastapi import Path as InPath
from pydantic import Field

from halfmask.errors import InputError
from halfmask.formats.shapes import one_polygon
from halfmask.formats.source_files import PHOTOGRAPHS
from halfmask.formats.yolo.write import label_line
from halfmask.masks.rle import fault_of_rle
from halfmask.web.decoding.pool import decoders
from halfmask.web.schema import LONGEST_NAME, MOST_RUNS, Strict
from halfmask.web.uploads import Held

MOST_OBJECTS, MOST_CLASSES = 1000, 20_000
FIXED = (1980, 1, 1, 0, 0, 0)
"""Time of every file in the archive, so that equal masks make equal bytes."""
_ROOM = 1 << 20
"""Bytes of an archive beside its photograph, more or less."""
_MARKS = (
    (rb"\x89PNG", ".png"),
    (rb"RIFF.{4}WEBP", ".webp"),
    (rb"II\*\0|MM\0\*", ".tif"),
    (rb"BM", ".bmp"),
)
"""How files of some formats begin; most others are JPEG."""
ClassName = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
Side = Annotated[int, Field(gt=0, le=1 << 20)]


class YoloObject(Strict):
    """A mask, COCO's compressed RLE, and the number of its class in `classes`."""

    number: Annotated[int, Field(ge=0, lt=MOST_CLASSES)]
    size: tuple[Side, Side]
    counts: Annotated[str, Field(max_length=8 * MOST_RUNS)]


class YoloRequest(Strict):
    """The masks of a photograph, and the classes in the order of their numbers."""

    name: Annotated[str, Field(max_length=1000)]
    classes: Annotated[list[ClassName], Field(min_length=1, max_length=MOST_CLASSES)]
    objects: Annotated[list[YoloObject], Field(max_length=MOST_OBJECTS)]


def add_yolo(app: FastAPI, reading: Callable[[str], AbstractContextManager[Held]]) -> None:
    """Adds the download of a photograph's masks as a YOLO data set to an application.

    Args:
        app: the application.
        reading: gives a block the photograph of an id.
    """

    @app.post("/api/photos/{photo}/yolo", response_class=Response)
    def yolo(photo: Annotated[str, InPath(max_length=64)], asked: YoloRequest) -> Response:
        with reading(photo) as held:
            decoders().keep_room(len(held.data) + _ROOM)
            return Response(yolo_archive(held, asked), media_type="application/zip")


def yolo_archive(held: Held, asked: YoloRequest) -> memoryview:
    """Returns a zip of the photograph, its label file and data.yaml.

    Each mask is a single outline, as YOLO wants it, of exactly its pixels: see
    `one_polygon`.

    Raises:
        InputError: a mask is malformed, is of another size, or names no class.
    """
    lines = [_line(one, asked.classes, held.size) for one in asked.objects]
    name = _file_name(asked.name, bytes(held.data[:12]))
    config = {
        "train": "images/train",
        "val": "images/train",
        "names": dict(enumerate(asked.classes)),
    }
    label = PurePosixPath("labels/train", name).with_suffix(".txt")
    texts = {
        "data.yaml": yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
        str(label): "".join(f"{line}\n" for line in lines),
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, text in texts.items():
            archive.writestr(zipfile.ZipInfo(path, FIXED), text, zipfile.ZIP_DEFLATED)
        # A photograph is compressed already.
        archive.writestr(zipfile.ZipInfo(f"images/train/{name}", FIXED), held.data)
    return out.getbuffer()


def _line(one: YoloObject, classes: Sequence[str], size: tuple[int, int]) -> str:
    rle: dict[str, Any] = {"size": list(one.size), "counts": one.counts}
    if one.size != size:
        found, wanted = (f"{width} × {height}" for height, width in (one.size, size))
        raise InputError(f"a mask has {found} pixels; the photograph has {wanted}")
    if (fault := fault_of_rle(rle, size)) is not None:
        raise InputError(f"a mask is malformed: {fault}")
    if one.number >= len(classes):
        raise InputError(f"class number {one.number}: there are {len(classes)} classes")
    return label_line(one.number, one_polygon(rle, size), size)


def _file_name(name: str, start: bytes) -> str:
    """A name that is safe in an archive; its ending says what the photograph is.

    Args:
        name: what the visitor calls the photograph.
        start: its first bytes.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    stem, ending = path.stem, path.suffix.lower()
    if ending not in PHOTOGRAPHS:
        stem = path.name
        ending = next((kind for mark, kind in _MARKS if re.match(mark, start, re.S)), ".jpg")
    stem = re.sub(r"[^\w .()+-]", "_", stem).strip(" .") or "photograph"
    return f"{stem[:100]}{ending}"
