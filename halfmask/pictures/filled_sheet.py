"""The picture of `halfmask complete --sheet`: the best, median and worst filled masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from halfmask.coco.file import CocoFile
from halfmask.coco.photographs.reader import PhotographReader, reader_of
from halfmask.coco.supervision import MaskState, mask_weight
from halfmask.errors import InputError
from halfmask.masks.crops import MaskCrops, decode
from halfmask.pictures.mask_sheet import BLOCKS, Cell, best_median_worst, mask_cell, mask_sheet
from halfmask.pictures.save import save_picture
from halfmask.text import plural


def draw_filling_sheet(out: Path, completed: Path, images: Path) -> Path:
    """Draws a sheet of the masks that halfmask filled in and nobody has reviewed yet.

    Args:
        out: The picture to write.
        completed: The file that `complete` wrote.
        images: The folder of its photographs.
    Raises:
        InputError: No mask was filled in, a photograph cannot be read, or the picture
            cannot be written.
    """
    file = CocoFile.read(completed)
    filled = _filled(file)
    if not filled:
        raise InputError(f"{out}: no sheet, since halfmask filled no mask in {completed}")
    reader = reader_of(file, images)
    scores = [mask_weight(annotation) for annotation in filled]
    chosen = best_median_worst(range(len(filled)), scores)
    blocks = [
        (f"{name} by score", [_cell(file, filled[row], reader) for row in chosen[name]])
        for name in BLOCKS
    ]
    title = f"Best, median and worst of {plural(len(filled), 'mask')} filled in: {completed.name}"
    sheet = mask_sheet(blocks, title, str(filled[0]["halfmask"].get("model", "")))
    return save_picture(sheet, out)


def _filled(file: CocoFile) -> list[dict[str, Any]]:
    return [
        annotation
        for image_id in file.image_ids
        for annotation, state in zip(
            file.annotations_of(image_id), file.states_of(image_id), strict=True
        )
        if state == MaskState.FILLED
    ]


def _cell(file: CocoFile, annotation: dict[str, Any], reader: PhotographReader) -> Cell:
    number = annotation["image_id"]
    image = next(record for record in file.images if record["id"] == number)
    pixels = reader.read(image, file.size_of(number))
    bitmap, offset = decode(annotation["segmentation"], file.size_of(number))
    mask = MaskCrops.from_bitmaps([bitmap], [offset], file.size_of(number))
    x, y, w, h = annotation["bbox"]
    box = torch.tensor([x, y, x + w, y + h], dtype=torch.float32)
    return Cell(
        picture=mask_cell(pixels, box, mask=mask),
        name=file.name_of(annotation["category_id"]),
        iou=None,
        score=mask_weight(annotation),
    )
