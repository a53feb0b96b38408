"""LVIS and Objects365 to COCO: both are COCO files in most things, and too large to be
read at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from halfmask.coco.records import is_id
from halfmask.coco.supervision import all_finite
from halfmask.errors import InputError
from halfmask.formats.json_stream import stream_items
from halfmask.formats.names import leads_out
from halfmask.formats.options import Options
from halfmask.formats.sink import MOST_PIXELS, CocoSink


def read_lvis(source: Path, sink: CocoSink, options: Options) -> None:
    """Adds an LVIS file to a sink: all keys are kept, `file_name` becomes the last two
    parts of `coco_url` (`train2017/000000000009.jpg`).

    Raises:
        InputError: no JSON, or no LVIS file.
    """
    _read(source, sink, options)


def read_objects365(source: Path, sink: CocoSink, options: Options) -> None:
    """Adds an Objects365 file (v1 or v2) to a sink: boxes only; all keys are kept, a
    missing `area` and `iscrowd` are added.

    Raises:
        InputError: no JSON, or no Objects365 file.
    """
    _read(source, sink, options)


def _read(source: Path, sink: CocoSink, options: Options) -> None:
    """Reads the file three times, for classes, images and annotations; in memory are
    the ids of images.
    """
    sink.add_categories(_categories(source, options))
    for position, record in enumerate(_items(source, "images", options)):
        image = _image(record)
        if image is None:
            what = "images without a usable id, width, height or file name: left out with their annotations"
            sink.tally.fault(what, f"image {position}")
        elif sink.size_of(image["id"]) is not None:
            sink.tally.fault(
                "images whose id was there already: left out", f"image id {image['id']}"
            )
        else:
            sink.add_image_record(image, (image["height"], image["width"]))
    if not sink.images:
        raise InputError(f"{source}: expected a list images, found no usable image in it")
    classes = sink.category_ids
    for position, row in enumerate(_items(source, "annotations", options)):
        fault = _fault(row, classes, sink)
        if fault:
            number = row.get("id", "?") if isinstance(row, dict) else "?"
            sink.tally.fault(
                f"annotations {fault}: left out", f"annotation {position}, id {str(number)[:40]}"
            )
        else:
            box = row["bbox"]
            sink.add_row({"area": box[2] * box[3], "iscrowd": 0, **row})


def _items(source: Path, key: str, options: Options) -> Iterator[Any]:
    total = 3 * source.stat().st_size if source.is_file() else 0
    return stream_items(source, f"{key}.item", lambda n: options.progress(n, total))


def _categories(source: Path, options: Options) -> list[dict[str, Any]]:
    records = list(_items(source, "categories", options))
    ok = all(
        isinstance(c, dict) and is_id(c.get("id")) and isinstance(c.get("name"), str)
        for c in records
    )
    if not records or not ok or len({c["id"] for c in records}) < len(records):
        raise InputError(f"{source}: expected categories, each with an id of its own and a name")
    return records


def _image(record: Any) -> dict[str, Any] | None:
    """The record with a file name; None where it cannot be used."""
    if not isinstance(record, dict) or not is_id(record.get("id")):
        return None
    sides = record.get("height"), record.get("width")
    if (
        not all(type(side) is int and side > 0 for side in sides)
        or record["height"] * record["width"] >= MOST_PIXELS
    ):
        return None
    name, url = record.get("file_name"), record.get("coco_url")
    if not isinstance(name, str) and isinstance(url, str):
        name = "/".join(PurePosixPath(url).parts[-2:])
    if not isinstance(name, str) or leads_out(name):
        return None
    return {**record, "file_name": name}


def _fault(row: Any, classes: set[int], sink: CocoSink) -> str | None:
    if not isinstance(row, dict) or not is_id(row.get("id")):
        return "without an id"
    if not is_id(row.get("image_id")) or sink.size_of(row["image_id"]) is None:
        return "of an image that is not there"
    if not is_id(row.get("category_id")) or row["category_id"] not in classes:
        return "of a class that is not there"
    box = row.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all_finite(box) or min(box[2:]) <= 0:
        return "without a box of four numbers and a positive size"
    return None
