"""Writes a COCO file again as COCO writes it: ids, boxes and masks in COCO's own forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from halfmask.coco.supervision import MaskState
from halfmask.errors import InputError
from halfmask.files.atomic import write_json
from halfmask.formats.export_source import ExportSource


def write_coco(given: ExportSource, out: Path) -> dict[str, int]:
    """Writes a COCO file as COCO writes it; returns the counts of what is written.

    Annotations in COCO's own form, and those that cannot be used, keep every value.
    Where a mask was in another form or had an unreadable part, where a box was turned,
    and where ids were text or names, the value that halfmask reads is written. The
    rotation of a turned box goes: it is in the box.

    Raises:
        InputError: `out` cannot be written.
    """
    file = given.file
    if out.is_dir():
        raise InputError(f"{out}: expected a file to write, this is a folder")
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


def _upright(read: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """The record as read; without the rotation of its box if that is in the box."""
    attributes = read.get("attributes")
    if read["bbox"] == row["bbox"] or not isinstance(attributes, dict):
        return read
    kept = {key: value for key, value in attributes.items() if key != "rotation"}
    return read | {"attributes": kept}
