"""LVIS and Objects365 to COCO, which are too large for memory; and COCO to its own forms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from halfmask.coco.file import CocoFile
from halfmask.coco.index.format import MASK_STATES
from halfmask.coco.large import LargeFile
from halfmask.coco.reading.forms import standard_record
from halfmask.coco.records import is_id, usable_box
from halfmask.coco.supervision import MaskState, all_finite
from halfmask.errors import InputError
from halfmask.files.atomic import write_json
from halfmask.formats.export_source import ExportSource
from halfmask.formats.json_stream import stream_items
from halfmask.formats.report import Options
from halfmask.formats.sink import CocoSink, usable_size
from halfmask.formats.source_files import leads_out


def read_coco_like(source: Path, sink: CocoSink, options: Options) -> None:
    """Adds an LVIS or Objects365 file to a sink.

    All keys are kept, and a missing `area` or `iscrowd` is added. LVIS has no
    `file_name`: it becomes the last two parts of `coco_url`
    (`train2017/000000000009.jpg`). The file is read three times, for classes, images
    and annotations. Only the ids of images are in memory.

    Raises:
        InputError: not JSON, or not such a file.
    """
    sink.add_categories(categories_of(source, options))
    add_images(source, sink, options)
    classes = sink.category_ids
    for position, row in enumerate(_items(source, "annotations", options)):
        fault = _fault(row, classes, sink)
        if fault:
            number = row.get("id", "?") if isinstance(row, dict) else "?"
            sink.report.fault(
                f"annotations {fault}: left out", f"annotation {position}, id {str(number)[:40]}"
            )
        else:
            box = row["bbox"]
            sink.add_row({"area": box[2] * box[3], "iscrowd": 0, **row})


def add_images(source: Path, sink: CocoSink, options: Options) -> None:
    """Adds the images of a file that resembles COCO, with their ids and keys.

    Raises:
        InputError: no usable image in it.
    """
    for position, record in enumerate(_items(source, "images", options)):
        image = _image(record)
        if image is None:
            sink.report.fault(
                "images without a usable id, width, height or file name: left out with their "
                "annotations",
                f"image {position}",
            )
        elif sink.size_of(image["id"]) is not None:
            sink.report.fault(
                "images with an id of another image: left out", f"image id {image['id']}"
            )
        else:
            sink.add_image_record(image, (image["height"], image["width"]))
    if not sink.images:
        raise InputError(f"{source}: expected a list images, found no usable image in it")


def _items(source: Path, key: str, options: Options) -> Iterator[Any]:
    return stream_items(source, f"{key}.item", options.advance_bytes(source, reads=3))


def categories_of(source: Path, options: Options) -> list[dict[str, Any]]:
    """Returns the category records of a file that resembles COCO.

    Raises:
        InputError: it has none, or one without an id of its own and a name.
    """
    records = list(_items(source, "categories", options))
    ok = all(
        isinstance(c, dict) and is_id(c.get("id")) and isinstance(c.get("name"), str)
        for c in records
    )
    if not records or not ok or len({c["id"] for c in records}) < len(records):
        raise InputError(f"{source}: expected categories, each with an id of its own and a name")
    return records


def _image(record: Any) -> dict[str, Any] | None:
    """The record with a file name, or None if it is unusable."""
    if not isinstance(record, dict) or not is_id(record.get("id")):
        return None
    if usable_size(record.get("height"), record.get("width")) is None:
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
        return "of an image that is not in the file"
    if not is_id(row.get("category_id")) or row["category_id"] not in classes:
        return "of a class that is not in the file"
    box = row.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all_finite(box) or min(box[2:]) <= 0:
        return "without a box of four numbers and a positive size"
    return None


def write_coco(given: ExportSource, out: Path) -> dict[str, int]:
    """Writes a COCO file as COCO writes it; returns the counts of what is written.

    Annotations in COCO's own form, and those that cannot be used, keep every value.
    Where a mask was in another form or had an unreadable part, where a box was turned,
    and where ids were text or names, the value that halfmask reads is written. The
    rotation of a turned box goes: it is in the box.

    Raises:
        InputError: `out` cannot be written.
    """
    if out.is_dir():
        raise InputError(f"{out}: expected a file to write, this is a folder")
    if given.large is not None:
        return _write_large(given, given.large, out)
    file = given.file
    assert isinstance(file, CocoFile)
    rows = list(file.document["annotations"])
    masks = 0
    for image in file.images:
        states = file.states_of(image["id"], "filled")
        for read, state in zip(file.annotations_of(image["id"]), states, strict=True):
            rows[file.position_of(read)] = _upright(read, rows[file.position_of(read)])
            masks += state in (MaskState.MASK, MaskState.SUSPECT)
        given.options.advance(1, len(file.images))
    document = file.document | {"annotations": rows}
    write_json(out, document)
    return {"images": len(document["images"]), "annotations": len(rows), "masks": masks}


def _write_large(given: ExportSource, large: LargeFile, out: Path) -> dict[str, int]:
    """Writes a file that does not fit into memory, in the order of its annotations."""
    index = large.index
    masks = sum(int(np.isin(part.annotation["state_filled"], _DRAWN).sum()) for part in index.parts)

    def changed(item: Any) -> Any:
        if not isinstance(item, dict) or not is_id(item.get("id")):
            return item
        try:
            size = index.size_of(item["image_id"])
        except KeyError:  # no such image: it cannot be used
            return item
        read = standard_record(item, size).record
        category = item.get("category_id")
        is_known = is_id(category) and category in index.label_of
        return item if usable_box(read, size, is_known) is None else _upright(read, item)

    images, annotations = large.write(out, changed)
    given.options.advance(images, images)
    return {"images": images, "annotations": annotations, "masks": masks}


_DRAWN = [MASK_STATES.index(state) for state in (MaskState.MASK, MaskState.SUSPECT)]


def _upright(read: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """The record as read; without the rotation of its box if that is in the box."""
    attributes = read.get("attributes")
    if read["bbox"] == row["bbox"] or not isinstance(attributes, dict):
        return read
    kept = {key: value for key, value in attributes.items() if key != "rotation"}
    return read | {"attributes": kept}
