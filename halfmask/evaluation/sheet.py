"""The pictures of `halfmask evaluate`: a sheet of masks, and the reliability of scores."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from halfmask.coco.doctor.groups import MaskGroups, amount_in, masks_in
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

FEWEST = len(BLOCKS)
"""Fewest masks of the classes that a picture is about: one for each block of a sheet."""
NAMED = 40
"""Characters of `--masked` that a title repeats."""


@dataclass(frozen=True)
class Focus:
    """The classes that a picture is about: those with the fewest masks in training.

    Attributes:
        classes: category ids; None: all.
        title: says which classes these are.
        masks: the masks of these classes that were measured.
    """

    classes: set[int] | None
    title: str
    masks: int


def focus_of(
    ious: IouTable, groups: MaskGroups | None, in_a: Collection[int], *, masked: str | None = None
) -> Focus:
    """Chooses the classes of a picture from those with measured masks.

    Args:
        ious: A row for each measured mask.
        groups: The classes by the masks that the model was given; None: not recorded.
        in_a: Category ids of set A.
        masked: What `--masked` names. If given, the picture is about the other classes.
    """
    found: list[tuple[set[int], str]] = []
    least = FEWEST
    if masked:
        named = masked if len(masked) <= NAMED else f"{masked[:NAMED]}…"
        outside, least = {c for c in ious.categories if c not in in_a}, 1
        found.append((outside, f"classes other than --masked {named}"))
    elif groups is not None:
        members = groups.members()
        found.append((members["no_masks"], "classes without masks in training"))
        amount = amount_in(masks_in("few", groups.threshold))
        found.append((members["few"], f"classes with few masks in training ({amount})"))
    for classes, title in found:
        count = sum(c in classes for c in ious.categories)
        if count >= least:
            return Focus(classes, title, count)
    return Focus(None, "all classes", len(ious.categories))


def draw_reliability(ious: IouTable, focus: Focus, out: str | Path, *, data: str) -> Path:
    """Draws `reliability_plot` of the measured masks of some classes.

    Args:
        ious: A row for each measured mask.
        focus: The classes.
        out: The picture to write.
        data: The name of the evaluated file.
    """
    title = f"{plural(focus.masks, 'mask')} of {focus.title}, {Path(data).name}"
    return reliability_plot(ious.quality(focus.classes), out, title)


def draw_sheet(
    out: str | Path,
    dataset: CocoInstances,
    subject: Subject,
    *,
    ious: IouTable,
    focus: Focus,
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
        focus: The classes.
        progress: Called after each photograph.
    Raises:
        InputError: No mask was measured, or the picture cannot be written.
    """
    if not ious.categories:
        raise InputError(f"{out}: no sheet, since no mask has a known truth")
    blocks = example_blocks(
        dataset, subject.segment, ious, classes=focus.classes, progress=progress
    )
    title = f"Best, median and worst of {plural(focus.masks, 'mask')}: {focus.title}"
    moved = f", boxes moved by up to {subject.loosen:g} of their size" if subject.loosen else ""
    note = f"{Path(dataset.file.name).name}, {subject.name}{moved}"
    return save_picture(mask_sheet(blocks, title, note), out)


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
            cells[row] = Cell(
                picture=picture,
                name=name,
                iou=ious.ious[row],
                score=ious.scores[row],
                boundary=ious.boundary_ious[row],
            )
        if progress is not None:
            progress("drawing", done, len(of_image))
    return cells


def _picture(image: Tensor, target: Target, drawn: Detection, *, place: int) -> Image.Image:
    pixels = (image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    truth = target.masks.select([int(target.mask_row[place])])
    mask = drawn.select(torch.tensor([place])).crops()
    return mask_cell(pixels, drawn.boxes[place], mask=mask, truth=truth)
