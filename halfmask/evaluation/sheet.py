"""`halfmask evaluate --sheet`: the best, median and worst masks in given boxes, as a picture."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from halfmask.data.dataset import CocoInstances
    from halfmask.evaluation.measures.given_boxes import IouTable
    from halfmask.pictures.mask_sheet import Cell
    from halfmask.structures import Detection, Target

    Segment = Callable[[list[Tensor], list[Target]], list[Detection]]

SUFFIXES = (".png", ".jpg", ".jpeg")


def check_sheet(path: Path) -> None:
    """Refuses a file that could not be written, before anything is measured.

    Raises:
        InputError: its ending names no kind of picture.
    """
    from halfmask.errors import InputError

    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"--sheet: {path} ends with no kind of picture; expected {', '.join(SUFFIXES)}"
        )


def draw_sheet(
    out: Path,
    dataset: CocoInstances,
    segment: Segment,
    ious: IouTable,
    box_only: Collection[int],
    note: str,
) -> Path:
    """Chooses by IoU, reads and segments these photographs once more, and draws: no
    other photograph is ever kept.

    Args:
        out: the picture to write.
        dataset: what was evaluated.
        segment: as it was evaluated, so that the masks are the ones that were measured.
        ious: a row for each measured mask.
        box_only: category ids of set B; where none of their masks was measured, all
            classes are shown.
        note: whose masks these are.
    Raises:
        InputError: no mask was measured; the picture cannot be written.
    """
    from halfmask.errors import InputError
    from halfmask.pictures.mask_sheet import mask_sheet

    if not ious.categories:
        raise InputError(f"{out}: no mask with a known truth, so no sheet")
    shown = [c for c in ious.categories if c in box_only]
    which = "classes without masks in training (B)" if shown else "all classes"
    count = len(shown) or len(ious.categories)
    blocks = example_blocks(dataset, segment, ious, box_only if shown else None)
    masks = "1 mask in a given box" if count == 1 else f"{count} masks in given boxes"
    title = f"Best, median and worst of {masks}: {which}, {Path(dataset.file.name).name}"
    picture = mask_sheet(blocks, title, note)
    return save_sheet(picture, out)


def save_sheet(picture: Image.Image, out: Path) -> Path:
    """Writes a sheet, its folder too.

    Raises:
        InputError: this cannot be written.
    """
    from halfmask.pictures.save import save_picture

    return save_picture(picture, out)


def example_blocks(
    dataset: CocoInstances,
    segment: Segment,
    ious: IouTable,
    classes: Collection[int] | None,
    each: int = 8,
) -> list[tuple[str, list[Cell]]]:
    """Heading and cells of the best, median and worst masks by IoU.

    Args:
        classes: category ids; all when None.
        each: cells of a block, at most.
    """
    from halfmask.evaluation.measures.examples import examples
    from halfmask.pictures.pick import BLOCKS

    rows = examples(ious, classes, each)
    cells = _cells(dataset, segment, ious, [row for name in BLOCKS for row in rows[name]])
    blocks = [(name, [cells[row] for row in rows[name]]) for name in BLOCKS]
    return [(_heading(name, found), found) for name, found in blocks]


def _heading(name: str, cells: list[Cell]) -> str:
    ious = [cell.iou for cell in cells if cell.iou is not None]
    if not ious:
        return name
    low, high = (f"{end(ious):.2f}" for end in (min, max))
    return f"{name}: IoU {low}" if low == high else f"{name}: IoU {low} to {high}"


def _cells(
    dataset: CocoInstances, segment: Segment, ious: IouTable, rows: list[int]
) -> dict[int, Cell]:
    """Row of the table → its cell; a photograph with several of them is read once."""
    from halfmask.progress import tracked

    of_image: dict[int, list[int]] = {}
    for row in rows:
        of_image.setdefault(ious.image_ids[row], []).append(row)
    index_of = {image_id: k for k, image_id in enumerate(dataset.image_ids)}
    cells: dict[int, Cell] = {}
    for image_id, chosen in tracked(of_image.items(), "drawing", len(of_image), "photograph"):
        image, target = dataset[index_of[image_id]]
        drawn = segment([image], [target])[0]
        cells |= {row: _cell(dataset, image, target, drawn, ious, row) for row in chosen}
    return cells


def _cell(
    dataset: CocoInstances,
    image: Tensor,
    target: Target,
    drawn: Detection,
    ious: IouTable,
    row: int,
) -> Cell:
    import torch

    from halfmask.pictures.mask_sheet import Cell, mask_cell

    place = ious.places[row]
    pixels = (image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    truth = target.masks.select([int(target.mask_row[place])])
    picture = mask_cell(
        pixels, drawn.boxes[place], drawn.select(torch.tensor([place])).crops(), truth
    )
    name = dataset.file.name_of(ious.categories[row])
    return Cell(picture, name, ious.ious[row], ious.scores[row])
