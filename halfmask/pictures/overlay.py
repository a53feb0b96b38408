"""Draws boxes, masks and labels on one photograph."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from halfmask.masks.crops import MaskCrops
from halfmask.pictures.style import Colour, Font, colour_of, font, ink_on

SMALLEST = 480
"""Pictures with a shorter long side are enlarged by a whole factor, for legible labels."""
FILL = 0.4
"""Default opacity of a mask's inside."""
LARGEST_LABEL = 6.0
"""Labels larger than this many times their object's rectangle are left out."""
THIN = 12
"""No line is thicker than this part of the shorter side of its object."""
INK: Colour = (10, 12, 14)
Rectangle = tuple[float, float, float, float]
Bitmap = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class _Item:
    """One object to draw, in pixels of the photograph."""

    colour: Colour
    text: str
    box: Rectangle | None
    bitmap: Bitmap | None
    offset: tuple[int, int]

    @property
    def frame(self) -> Rectangle:
        """The box; without one, the mask's rectangle."""
        if self.box is not None:
            return self.box
        height, width = self.bitmap.shape if self.bitmap is not None else (0, 0)
        return (self.offset[0], self.offset[1], self.offset[0] + width, self.offset[1] + height)

    @property
    def area(self) -> float:
        x0, y0, x1, y1 = self.frame
        return (x1 - x0) * (y1 - y0)

    @property
    def shorter_side(self) -> float:
        x0, y0, x1, y1 = self.frame
        return min(x1 - x0, y1 - y0)


@dataclass(kw_only=True)
class _Canvas:
    """The photograph, enlarged by `scale`, and the rectangles that labels keep free."""

    picture: Image.Image
    scale: int
    line: float
    font: Font
    chips: list[Rectangle] = field(default_factory=list)
    small: list[Rectangle] = field(default_factory=list)

    def line_of(self, item: _Item) -> float:
        """Width of an object's lines: thinner for a small one, which shows between them."""
        return min(self.line, max(1.0, item.shorter_side * self.scale / THIN))


def overlay(
    image: NDArray[np.uint8],
    boxes: Tensor | None,
    masks: MaskCrops | None,
    *,
    labels: Tensor,
    names: Mapping[int, str],
    scores: Tensor | None = None,
    attribution: str | None = None,
    fill: float = FILL,
    colours: Mapping[int, Colour] | None = None,
) -> Image.Image:
    """Draws each mask's outline and translucent fill, each box, and a label per object.

    A photograph whose long side is under 480 pixels is enlarged by a whole factor.
    Labels without room, or far larger than their object, are left out.

    Args:
        image: uint8 [H, W, 3] RGB (or [H, W], grey).
        boxes: float32 [n, 4] xyxy, pixels. Boxes without area are not drawn. None draws
            masks only.
        masks: n crops of this image. Crops without pixels draw nothing. None draws
            boxes only.
        labels: int64 [n], 1…K−1; 0 is an object without a class, which gets no name.
        names: Label → name.
        scores: float32 [n] in [0, 1], printed after the name.
        attribution: A line printed on a strip below the picture.
        fill: Opacity of the masks' inside.
        colours: Label → colour; None: `colour_of`.
    """
    canvas = _open_canvas(image)
    items = _items(boxes, masks, labels, names=names, scores=scores, colours=colours)
    items.sort(key=lambda item: -item.area)  # small objects on top of large ones
    for item in items:
        _draw_mask(canvas, item, fill)
    draw = ImageDraw.Draw(canvas.picture)
    for item in items:
        _draw_box(canvas, draw, item)
    canvas.small = [_scaled(i.frame, canvas.scale) for i in items if _is_small(canvas, i)]
    for item in reversed(items):  # small objects first: they have the least room
        _draw_label(canvas, draw, item)
    return footer(canvas.picture, attribution) if attribution else canvas.picture


def footer(picture: Image.Image, text: str) -> Image.Image:
    """Adds a strip with `text`, wrapped, below a picture."""
    size = max(10, round(max(picture.size) / 62))
    face = font(size)
    lines = _wrap(text, face, picture.width - 2 * size)
    strip = Image.new("RGB", (picture.width, round(size * (1.35 * len(lines) + 0.6))), (24, 26, 29))
    draw = ImageDraw.Draw(strip)
    for k, line in enumerate(lines):
        draw.text((size * 0.7, size * (0.3 + 1.35 * k)), line, fill=(214, 217, 221), font=face)
    out = Image.new("RGB", (picture.width, picture.height + strip.height))
    out.paste(picture, (0, 0))
    out.paste(strip, (0, picture.height))
    return out


def _open_canvas(image: NDArray[np.uint8]) -> _Canvas:
    picture = Image.fromarray(np.ascontiguousarray(image)).convert("RGB")
    scale = max(1, math.ceil(SMALLEST / max(picture.size)))
    if scale > 1:
        picture = picture.resize(
            (picture.width * scale, picture.height * scale), Image.Resampling.BICUBIC
        )
    long_side = max(picture.size)
    letters = long_side / (48 if scale == 1 else 32)  # small pictures are shown small
    return _Canvas(
        picture=picture,
        scale=scale,
        line=max(1.6, long_side / 320),
        font=font(max(12, round(letters))),
    )


def _items(
    boxes: Tensor | None,
    masks: MaskCrops | None,
    labels: Tensor,
    *,
    names: Mapping[int, str],
    scores: Tensor | None,
    colours: Mapping[int, Colour] | None,
) -> list[_Item]:
    n = len(labels)
    for rows in (boxes, masks, scores):
        assert rows is None or len(rows) == n, (len(rows), n)
    assert boxes is not None or masks is not None, "neither boxes nor masks to draw"
    frames: list[Rectangle | None] = [None] * n
    if boxes is not None:
        corners = [(float(a), float(b), float(c), float(d)) for a, b, c, d in boxes.tolist()]
        frames = [box if box[2] > box[0] and box[3] > box[1] else None for box in corners]
    bitmaps: list[Bitmap | None] = [None] * n
    offsets = [(0, 0)] * n
    if masks is not None:
        bitmaps = [bitmap.numpy() if bitmap.numel() else None for bitmap in masks.bitmaps()]
        offsets = [(int(x), int(y)) for x, y in masks.offsets.tolist()]
    texts = [names.get(label, "") for label in labels.tolist()]
    if scores is not None:
        scored = zip(texts, scores.tolist(), strict=True)
        texts = [f"{text} {score:.2f}".strip() for text, score in scored]
    shades = [colour_of(k) if colours is None else colours[k] for k in labels.tolist()]
    columns = zip(shades, texts, frames, bitmaps, offsets, strict=True)
    return [
        _Item(colour=colour, text=text, box=frame, bitmap=bitmap, offset=offset)
        for colour, text, frame, bitmap, offset in columns
    ]


def _draw_mask(canvas: _Canvas, item: _Item, fill: float) -> None:
    """Draws fill, dark halo and coloured outline.

    The blurred mask falls from 1 to 0 across the edge, so bands of its values are
    lines.
    """
    if item.bitmap is None:
        return
    line = canvas.line_of(item)
    pad = math.ceil(3 * line / canvas.scale) + 1
    mask = Image.fromarray(np.pad(item.bitmap * np.uint8(255), pad))
    if canvas.scale > 1:
        size = (mask.width * canvas.scale, mask.height * canvas.scale)
        mask = mask.resize(size, Image.Resampling.BICUBIC).point(lambda v: 255 if v >= 128 else 0)
    distance = np.abs(_blurred(mask, line / 1.6) - 0.5)
    inside = _blurred(mask, 0.7)
    place = ((item.offset[0] - pad) * canvas.scale, (item.offset[1] - pad) * canvas.scale)
    _blend(canvas.picture, place, inside * fill, colour=item.colour)
    _blend(canvas.picture, place, np.clip((0.455 - distance) / 0.06, 0, 1) * 0.55, colour=INK)
    _blend(canvas.picture, place, np.clip((0.29 - distance) / 0.10, 0, 1), colour=item.colour)


def _blurred(mask: Image.Image, radius: float) -> NDArray[np.float32]:
    blurred = np.asarray(mask.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32)
    return blurred / np.float32(255)


def _blend(
    picture: Image.Image,
    place: tuple[int, int],
    alpha: NDArray[np.floating[Any]],
    *,
    colour: Colour,
) -> None:
    """Draws `colour` on the picture; Pillow clips pixels outside."""
    picture.paste(colour, place, Image.fromarray((alpha * 255 + 0.5).astype(np.uint8)))


def _draw_box(canvas: _Canvas, draw: ImageDraw.ImageDraw, item: _Item) -> None:
    if item.box is None:
        return
    width = max(1, round(canvas.line_of(item)))
    x0, y0, x1, y1 = _scaled(item.box, canvas.scale)
    x1, y1 = max(x0, x1 - 1), max(y0, y1 - 1)
    draw.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=INK, width=width + min(2, width))
    draw.rectangle((x0, y0, x1, y1), outline=item.colour, width=width)


def _draw_label(canvas: _Canvas, draw: ImageDraw.ImageDraw, item: _Item) -> None:
    """Draws the label on a chip of the class's colour, at the first position that fits."""
    if not item.text or item.area <= 0:
        return
    left, _, right, _ = draw.textbbox((0, 0), item.text, font=canvas.font)
    # One height for all chips, whatever their letters.
    _, top, _, bottom = draw.textbbox((0, 0), "Ag", font=canvas.font)
    pad = max(2.0, (bottom - top) * 0.28)
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    if width * height > LARGEST_LABEL * item.area * canvas.scale**2:
        return
    for x, y in _positions(item, canvas.scale, width, height=height):
        x = min(max(0.0, x), max(0.0, canvas.picture.width - width))
        chip = (x, y, x + width, y + height)
        inside = y >= 0 and chip[3] <= canvas.picture.height
        taken = [*canvas.chips, *canvas.small]
        if inside and not any(_overlap(chip, other) for other in taken):
            canvas.chips.append(chip)
            draw.rounded_rectangle(chip, radius=pad * 0.8, fill=item.colour)
            start, ink = (x + pad - left, y + pad - top), ink_on(item.colour)
            draw.text(start, item.text, fill=ink, font=canvas.font)
            return


def _positions(
    item: _Item, scale: int, width: float, *, height: float
) -> list[tuple[float, float]]:
    """Upper left corners for a label, best first.

    With a box: above, inside, in the middle, outside. A mask alone: on its topmost row.
    """
    x0, y0, x1, y1 = _scaled(item.frame, scale)
    middle = ((x0 + x1 - width) / 2, (y0 + y1 - height) / 2)
    inside = [(x0, y0), (x1 - width, y0), (x0, y1 - height), (x1 - width, y1 - height)]
    outside = [(x0, y1), (x1, y0), (x0 - width, y0), (x1, y1 - height), (x0 - width, y1 - height)]
    if item.box is None and item.bitmap is not None:
        peak = x0 + float(np.flatnonzero(item.bitmap[0]).mean() + 0.5) * scale - width / 2
        return [(peak, y0 - height), middle, (peak, y0), *inside, *outside]
    return [(x0, y0 - height), (x1 - width, y0 - height), *inside, middle, *outside]


def _is_small(canvas: _Canvas, item: _Item) -> bool:
    """Whether a label would hide most of the object."""
    return 0 < item.shorter_side * canvas.scale < 2 * canvas.font.getbbox("Ag")[3]


def _scaled(box: Rectangle, scale: int) -> Rectangle:
    return box[0] * scale, box[1] * scale, box[2] * scale, box[3] * scale


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _wrap(text: str, face: Font, width: float) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and face.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
