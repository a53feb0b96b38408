"""The pictures of `halfmask evaluate`: a sheet of masks, and the reliability of scores."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from halfmask.data.dataset import CocoInstances
from halfmask.errors import InputError
from halfmask.evaluation.measures.given_boxes import IouTable
from halfmask.evaluation.subject import Segment, Subject
from halfmask.pictures.mask_sheet import BLOCKS, Cell, best_median_worst, mask_cell, mask_sheet
from halfmask.pictures.reliability import reliability_plot
from halfmask.pictures.save import save_picture
from halfmask.progress import Progress
from halfmask.structures import Detection, Target
from halfmask.text import plural


def draw_reliability(quality: dict[str, Any], out: str | Path, data: str) -> Path:
    """Draws `reliability_plot` of B's masks; without any, of all masks.

    Args:
        quality: The block `quality` of an evaluation.
        out: The picture to write.
        data: The name of the evaluated file.
    """
    name = "B" if quality["B"]["instances"] else "all"
    masks = plural(quality[name]["instances"], "mask")
    title = f"{masks} of {_classes(name == 'B')}, {Path(data).name}"
    return reliability_plot(quality[name], out, title)


def draw_sheet(
    out: str | Path,
    dataset: CocoInstances,
    subject: Subject,
    *,
    ious: IouTable,
    masked: Collection[int],
    progress: Progress | None = None,
) -> Path:
    """Draws the best, median and worst measured masks beside their truth.

    It reads and segments the chosen photographs again, so that evaluation keeps none in
    memory.

    Args:
        out: The picture to write.
        dataset: The evaluated data.
        subject: The evaluated model, to draw the masks that were measured.
        ious: A row for each measured mask.
        masked: Category ids of set A. The sheet shows set B; without masks of B, all
            classes.
        progress: Called after each photograph.
    Raises:
        InputError: No mask was measured, or the picture cannot be written.
    """
    if not ious.categories:
        raise InputError(f"{out}: no sheet, since no mask has a known truth")
    shown = [c for c in ious.categories if c not in masked]
    classes = set(shown) if shown else None
    blocks = example_blocks(dataset, subject.segment, ious, classes=classes, progress=progress)
    masks = plural(len(shown or ious.categories), "mask")
    name = Path(dataset.file.name).name
    title = f"Best, median and worst of {masks} in given boxes: {_classes(bool(shown))}, {name}"
    moved = f", boxes moved by up to {subject.loosen:g} of their size" if subject.loosen else ""
    return save_picture(mask_sheet(blocks, title, subject.name + moved), out)


def _classes(box_only: bool) -> str:
    return "classes without masks in training (B)" if box_only else "all classes"


def example_blocks(
    dataset: CocoInstances,
    segment: Segment,
    ious: IouTable,
    *,
    classes: Collection[int] | None,
    each: int = 8,
    progress: Progress | None = None,
) -> list[tuple[str, list[Cell]]]:
    """Headings and cells of the best, median and worst masks by IoU.

    Args:
        dataset: The evaluated data.
        segment: As during evaluation.
        ious: A row for each measured mask.
        classes: Category ids of the masks; None: all.
        each: Most cells in a block.
        progress: Called after each photograph.
    """
    rows = examples(ious, classes, each)
    chosen = [row for name in BLOCKS for row in rows[name]]
    cells = _cells(dataset, segment, ious, rows=chosen, progress=progress)
    blocks = [(name, [cells[row] for row in rows[name]]) for name in BLOCKS]
    return [(_heading(name, found), found) for name, found in blocks]


def examples(
    table: IouTable, classes: Collection[int] | None = None, each: int = 8
) -> dict[str, list[int]]:
    """`best_median_worst` of the table's rows by IoU, of some classes (None: all)."""
    rows = [k for k, c in enumerate(table.categories) if classes is None or c in classes]
    return best_median_worst(rows, table.ious, each)


def _heading(name: str, cells: list[Cell]) -> str:
    ious = [cell.iou for cell in cells if cell.iou is not None]
    if not ious:
        return name
    low, high = (f"{end(ious):.2f}" for end in (min, max))
    return f"{name}: IoU {low}" if low == high else f"{name}: IoU {low} to {high}"


def _cells(
    dataset: CocoInstances,
    segment: Segment,
    ious: IouTable,
    *,
    rows: list[int],
    progress: Progress | None,
) -> dict[int, Cell]:
    """Row of the table → its cell; reads each photograph once."""
    of_image: dict[int, list[int]] = {}
    for row in rows:
        of_image.setdefault(ious.image_ids[row], []).append(row)
    index_of = {image_id: k for k, image_id in enumerate(dataset.image_ids)}
    cells: dict[int, Cell] = {}
    for done, (image_id, chosen) in enumerate(of_image.items(), 1):
        image, target = dataset[index_of[image_id]]
        drawn = segment([image], [target])[0]
        for row in chosen:
            picture = _picture(image, target, drawn, place=ious.places[row])
            name = dataset.file.name_of(ious.categories[row])
            cells[row] = Cell(picture, name, ious.ious[row], ious.scores[row])
        if progress is not None:
            progress("drawing", done, len(of_image))
    return cells


def _picture(image: Tensor, target: Target, drawn: Detection, *, place: int) -> Image.Image:
    pixels = (image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    truth = target.masks.select([int(target.mask_row[place])])
    mask = drawn.select(torch.tensor([place])).crops()
    return mask_cell(pixels, drawn.boxes[place], mask=mask, truth=truth)
