"""Several pictures as one: before and after, contact sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from halfmask.masks.crops import MaskCrops
from halfmask.pictures.overlay import footer, overlay
from halfmask.pictures.style import font


def before_after(
    image: NDArray[np.uint8],
    boxes: Tensor,
    masks: MaskCrops,
    labels: Tensor,
    names: Mapping[int, str],
    had_mask: Tensor,
    attribution: str | None = None,
) -> Image.Image:
    """Left: the masks that were given, and boxes on what never had one. Right: every mask.

    Args:
        image: uint8 [H, W, 3] RGB.
        boxes: float32 [n, 4] xyxy.
        masks: n crops, given and filled in.
        labels: int64 [n].
        names: label → name.
        had_mask: bool [n], true where the mask was given.
        attribution: printed below both.
    """
    given = had_mask.bool()
    before = Image.fromarray(np.ascontiguousarray(image)).convert("RGB")
    left = _mixed(np.asarray(before), boxes, masks, labels, names, given)
    right = overlay(np.asarray(before), None, masks, labels, names)
    gap = max(4, round(left.width / 120))
    out = Image.new("RGB", (left.width + gap + right.width, left.height), (255, 255, 255))
    out.paste(left, (0, 0))
    out.paste(right, (left.width + gap, 0))
    return footer(out, attribution) if attribution else out


def _mixed(
    image: NDArray[np.uint8],
    boxes: Tensor,
    masks: MaskCrops,
    labels: Tensor,
    names: Mapping[int, str],
    given: Tensor,
) -> Image.Image:
    """Given masks as masks, all others as boxes: a box without area and a mask without
    pixels draw nothing.
    """
    bitmaps = [
        b if keep else b[:0, :0] for b, keep in zip(masks.bitmaps(), given.tolist(), strict=True)
    ]
    offsets = [(int(x), int(y)) for x, y in masks.offsets.tolist()]
    shown = MaskCrops.from_bitmaps(bitmaps, offsets, masks.image_size)
    return overlay(image, boxes * ~given[:, None], shown, labels, names)


def contact_sheet(
    images: Sequence[Image.Image],
    columns: int,
    captions: Sequence[str] | None = None,
    cell: int = 320,
) -> Image.Image:
    """Pictures in rows, each fitted into a square cell (never enlarged), with captions
    below.

    Args:
        images: one or more.
        columns: pictures in a row.
        captions: one for each picture.
        cell: side of a cell, pixels.
    """
    assert images, "a contact sheet needs a picture"
    assert columns > 0, columns
    assert captions is None or len(captions) == len(images), (len(captions or []), len(images))
    fitted = []
    for image in images:
        small = image.convert("RGB")
        small.thumbnail((cell, cell), Image.Resampling.LANCZOS)
        fitted.append(small)
    face = font(max(11, cell // 24))
    text_height = round(cell / 22 * 1.9) if captions else 0
    gap = max(2, cell // 40)
    columns = min(columns, len(images))
    rows = [fitted[k : k + columns] for k in range(0, len(fitted), columns)]
    heights = [max(p.height for p in row) + text_height for row in rows]
    size = (gap + columns * (cell + gap), gap + sum(h + gap for h in heights))
    sheet = Image.new("RGB", size, (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    y = gap
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            x = gap + c * (cell + gap)
            sheet.paste(picture, (x + (cell - picture.width) // 2, y))
            if captions:
                place = (x + (cell - picture.width) // 2, y + picture.height + text_height * 0.2)
                draw.text(place, captions[r * columns + c], fill=(40, 44, 50), font=face)
        y += heights[r] + gap
    return sheet
