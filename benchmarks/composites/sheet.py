"""A contact sheet of composites: each picture, and below it the masks with the names of
their classes.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.composites.render import Composite

_COLOURS = (
    (228, 87, 46),
    (46, 134, 222),
    (244, 180, 26),
    (23, 165, 137),
    (142, 68, 173),
    (0, 188, 212),
    (233, 116, 181),
)


def contact_sheet(
    pictures: list[Composite], names: dict[int, str], columns: int = 6, cell: int = 256
) -> Image.Image:
    """The pictures in rows of `columns`, each `cell` pixels wide.

    Args:
        names: of the category ids.
    """
    gap = 6
    rows = -(-len(pictures) // columns)
    sheet = Image.new(
        "RGB", (gap + columns * (cell + gap), gap + rows * (2 * cell + 3 * gap)), "white"
    )
    for k, made in enumerate(pictures):
        x, y = gap + (k % columns) * (cell + gap), gap + (k // columns) * (2 * cell + 3 * gap)
        picture = Image.fromarray(made.picture).resize((cell, cell), Image.Resampling.NEAREST)
        sheet.paste(picture, (x, y))
        sheet.paste(_masks(made, names, cell), (x, y + cell + gap // 2))
    return sheet


def _masks(made: Composite, names: dict[int, str], cell: int) -> Image.Image:
    shown = (0.25 * made.picture + 0.75 * 245).astype(np.uint8)
    for k, instance in enumerate(made.instances):
        (x, y), (h, w) = instance.offset, instance.bitmap.shape
        shown[y : y + h, x : x + w][instance.bitmap > 0] = _COLOURS[k % len(_COLOURS)]
    image = Image.fromarray(shown).resize((cell, cell), Image.Resampling.NEAREST)
    draw, zoom = ImageDraw.Draw(image), cell / len(shown)
    for k, instance in enumerate(made.instances):
        (x, y), (h, w) = instance.offset, instance.bitmap.shape
        box = (x * zoom, y * zoom, (x + w) * zoom - 1, (y + h) * zoom - 1)
        draw.rectangle(box, outline=tuple(v // 2 for v in _COLOURS[k % len(_COLOURS)]))
        # Names of a pair start at opposite corners of the box that the two share.
        place = (box[0] + 2, box[1] + 1) if k % 2 else (box[0] + 2, box[3] - 13)
        draw.text(place, names[instance.label], fill="black", stroke_width=2, stroke_fill="white")
    return image
