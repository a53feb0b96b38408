"""The contact sheet of a procedural world: pictures, and below each its masks."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from halfmask.data.synthetic.render import Array, WorldInstance, WorldSpec, render

COLUMNS, ZOOM, GAP = 6, 2, 6
COLOURS = (
    (230, 60, 60),
    (60, 130, 235),
    (250, 190, 40),
    (60, 185, 90),
    (160, 80, 210),
    (40, 200, 210),
    (245, 130, 190),
    (150, 110, 70),
)


def world_sheet(spec: WorldSpec, seed: int, count: int) -> Image.Image:
    """Draws the first `count` pictures; below each, its masks in different colours."""
    rows = -(-count // COLUMNS)
    cell = spec.size * ZOOM
    size = (GAP + COLUMNS * (cell + GAP), GAP + rows * (2 * cell + 3 * GAP))
    sheet = Image.new("RGB", size, "white")
    for index in range(count):
        picture, instances = render(spec, seed, index)
        x = GAP + (index % COLUMNS) * (cell + GAP)
        y = GAP + (index // COLUMNS) * (2 * cell + 3 * GAP)
        masks = _enlarged(_masks_shown(picture, instances), cell)
        _draw_boxes(masks, instances)
        sheet.paste(_enlarged(picture, cell), (x, y))
        sheet.paste(masks, (x, y + cell + GAP // 2))
    return sheet


def _enlarged(picture: Array, side: int) -> Image.Image:
    return Image.fromarray(picture).resize((side, side), Image.Resampling.NEAREST)


def _masks_shown(picture: Array, instances: list[WorldInstance]) -> Array:
    shown: Array = (0.25 * picture + 0.75 * 245).astype(np.uint8)
    for k, instance in enumerate(instances):
        (x, y), (h, w) = instance.offset, instance.bitmap.shape
        window = shown[y : y + h, x : x + w]
        window[instance.bitmap > 0] = COLOURS[k % len(COLOURS)]
    return shown


def _draw_boxes(image: Image.Image, instances: list[WorldInstance]) -> None:
    draw = ImageDraw.Draw(image)
    for k, instance in enumerate(instances):
        (x, y), (h, w) = instance.offset, instance.bitmap.shape
        colour = tuple(v // 2 for v in COLOURS[k % len(COLOURS)])
        draw.rectangle((x * ZOOM, y * ZOOM, (x + w) * ZOOM - 1, (y + h) * ZOOM - 1), outline=colour)
