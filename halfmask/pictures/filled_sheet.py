"""`halfmask complete --sheet`: the best-, middling- and worst-scored of the masks that
were filled in, as a picture.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from halfmask.coco.file import CocoFile
    from halfmask.pictures.mask_sheet import Cell


def draw_filling_sheet(out: Path, completed: Path, images: Path) -> Path:
    """Chooses by score among the masks that halfmask filled into a file and nobody has
    looked at.

    Args:
        out: the picture to write.
        completed: what `complete` wrote.
        images: folder of its photographs.
    Raises:
        InputError: no mask was filled in, a photograph cannot be read, or the picture
            cannot be written.
    """
    from halfmask.coco.file import CocoFile
    from halfmask.coco.supervision import mask_weight
    from halfmask.errors import InputError
    from halfmask.evaluation.sheet import save_sheet
    from halfmask.pictures.mask_sheet import mask_sheet
    from halfmask.pictures.pick import BLOCKS, best_median_worst

    file = CocoFile.read(completed)
    filled = _filled(file)
    if not filled:
        raise InputError(f"{out}: no mask of {completed} was filled in by halfmask, so no sheet")
    scores = [mask_weight(annotation) for annotation in filled]
    chosen = best_median_worst(range(len(filled)), scores)
    cells = {row: _cell(file, filled[row], images) for name in BLOCKS for row in chosen[name]}
    blocks = [(f"{name} by score", [cells[row] for row in chosen[name]]) for name in BLOCKS]
    masks = "1 mask" if len(filled) == 1 else f"{len(filled)} masks"
    title = f"Best, median and worst of {masks} filled in: {completed.name}"
    return save_sheet(mask_sheet(blocks, title, str(filled[0]["halfmask"].get("model", ""))), out)


def _filled(file: CocoFile) -> list[dict[str, Any]]:
    from halfmask.coco.supervision import MaskState

    rows: list[dict[str, Any]] = []
    for image in file.images:
        states = file.states_of(image["id"])
        pairs = zip(file.annotations_of(image["id"]), states, strict=True)
        rows += [annotation for annotation, state in pairs if state == MaskState.FILLED]
    return rows


def _cell(file: CocoFile, annotation: dict[str, Any], images: Path) -> Cell:
    import torch

    from halfmask.coco.images import photograph_path, read_photograph
    from halfmask.coco.records import file_name_of
    from halfmask.coco.supervision import mask_weight
    from halfmask.masks.crops import MaskCrops, decode
    from halfmask.pictures.mask_sheet import Cell, mask_cell

    number = annotation["image_id"]
    image = next(record for record in file.images if record["id"] == number)
    where = f"image id {number}"
    pixels = read_photograph(photograph_path(images, file_name_of(image), where), where)
    bitmap, place = decode(annotation["segmentation"], file.size_of(number))
    x, y, w, h = annotation["bbox"]
    box = torch.tensor([x, y, x + w, y + h], dtype=torch.float32)
    picture = mask_cell(
        pixels, box, MaskCrops.from_bitmaps([bitmap], [place], file.size_of(number)), None
    )
    return Cell(picture, file.name_of(annotation["category_id"]), None, mask_weight(annotation))
